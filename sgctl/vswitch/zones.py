# SPDX-License-Identifier: Apache-2.0
"""After how much silence the datapath forgets the connections of our conntrack zone: a policy in the switch's database.

Every row here belongs to a datapath that other bridges may use; only the zone's is ours, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OURS = {"sgctl": "timeouts"}


def put_timeouts(command: Any, txn: Any, bridge: Any, zone: int, timeouts: Mapping[str, int]) -> None:
    """Make the timeouts of a zone these; none leaves alone what is there. `command` writes only what differs."""
    if not timeouts:
        return
    tables = command.api.idl.tables
    (root,) = tables["Open_vSwitch"].rows.values()
    datapath = _value(command, txn, root, "datapaths", bridge.datapath_type or "system", tables["Datapath"])
    row = _value(command, txn, datapath, "ct_zones", zone, tables["CT_Zone"])
    policy = next(iter(getattr(row, "timeout_policy", None) or ()), None)
    if policy is None:
        policy = txn.insert(tables["CT_Timeout_Policy"])
        row.timeout_policy = [policy]
        row.external_ids = dict(OURS)
    command.put(policy, "timeouts", dict(timeouts))


def _value(command: Any, txn: Any, row: Any, column: str, key: Any, table: Any) -> Any:
    """The row that a map has under a key, a new one if there is none."""
    found = (getattr(row, column, None) or {}).get(key)
    if found is None:
        found = txn.insert(table)
        row.setkey(column, key, found)
        command.result.add(column)
    return found


def take_timeouts(command: Any, bridge: Any) -> None:
    """Take away the zones that `put_timeouts` has made."""
    for root in command.api.idl.tables["Open_vSwitch"].rows.values():
        datapath = root.datapaths.get(bridge.datapath_type or "system")
        for zone, row in list(datapath.ct_zones.items()) if datapath else ():
            if OURS.items() <= row.external_ids.items():
                command.put_key(datapath, "ct_zones", zone, None)
