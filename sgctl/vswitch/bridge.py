# SPDX-License-Identifier: Apache-2.0
"""How our bridge has to be configured, and the two transactions about it: prepare and release.

What was there before is kept in the bridge's ``external_ids:sgctl-restore``, so that release can put it back.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ovsdbapp.backend.ovs_idl.command import BaseCommand

from sgctl.vswitch.errors import VSwitchError
from sgctl.vswitch.zones import put_timeouts, take_timeouts

OPENFLOW = "OpenFlow14"
RESTORE = "sgctl-restore"
RESTORE_PREFIXES = "sgctl-restore-prefixes"
IN_BAND = "disable-in-band"
DATAPATH_ID = "datapath-id"
NOBODY = "tcp:127.0.0.1:9"
"""A controller that is never there: port 9 is for what is to be discarded (RFC 863)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeSettings:
    """What sgctl needs of its bridge.

    controller: where the agent listens, for example ``tcp:127.0.0.1:6653``.  tables: names of flow tables.
    prefixes: by table, the address fields for which the switch keeps prefix trees, instead of ip_dst and ip_src only.
    inactivity_probe: milliseconds of silence after which the switch asks whether the agent is alive, and again until it
    connects anew; max_backoff: milliseconds between its attempts.
    packet_in_rate, packet_in_burst: how many packets a second it shows to the agent.
    zone, timeouts: the conntrack zone, and after how many seconds of silence its connections are forgotten, by the
    names of ovs-vswitchd.conf.db(5), table CT_Timeout_Policy; what is not named stays Open vSwitch's default.
    """

    controller: str
    tables: Mapping[int, str] = field(default_factory=dict)
    prefixes: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    inactivity_probe: int = 10_000
    max_backoff: int = 1_000
    packet_in_rate: int = 200
    packet_in_burst: int = 100
    zone: int = 1
    timeouts: Mapping[str, int] = field(default_factory=dict)


class _BridgeCommand(BaseCommand):  # type: ignore[misc]
    """A change of one bridge that writes only what differs; `result` names the columns that did, of maps the keys."""

    result: set[str]

    def __init__(self, api: Any, name: str) -> None:
        super().__init__(api)
        self.name = name

    def run_idl(self, txn: Any) -> None:
        """Called in the database's thread, and again if another writer was faster."""
        self.result = set()
        rows = self.api.idl.tables["Bridge"].rows.values()
        bridge = next((row for row in rows if row.name == self.name), None)
        if bridge is None:
            raise VSwitchError(f"there is no bridge {self.name}")
        self.change(txn, bridge)

    @abstractmethod
    def change(self, txn: Any, bridge: Any) -> None:
        """Change the bridge's row."""

    def put(self, row: Any, column: str, value: Any) -> None:
        """Set a whole column, also of a new row, which has none yet; sets are given sorted."""
        present = getattr(row, column, None)
        if (sorted(present) if isinstance(present, list) else present) != value:
            setattr(row, column, value)
            self.result.add(column)

    def put_key(self, row: Any, column: str, key: Any, value: Any) -> None:
        """Set one key of a map, or remove it (None); other keys are nobody's business."""
        present = getattr(row, column).get(key)
        if present == value:
            return
        if value is None:
            row.delkey(column, key)
        else:
            row.setkey(column, key, value)
        self.result.add(f"{column}:{key}")

    def put_controllers(self, txn: Any, bridge: Any, targets: list[str]) -> list[Any]:
        """Let the bridge have exactly these controllers; returns their rows."""
        present = {row.target: row for row in bridge.controller}
        if sorted(row.target for row in bridge.controller) == sorted(targets):
            return list(bridge.controller)
        rows = []
        for target in targets:
            row = present.get(target)
            if row is None:
                row = txn.insert(self.api.idl.tables["Controller"])
                row.target = target
            rows.append(row)
        bridge.controller = rows
        self.result.add("controller")
        return rows


class Prepare(_BridgeCommand):
    """Make a bridge fit for sgctl."""

    def __init__(self, api: Any, name: str, settings: BridgeSettings) -> None:
        super().__init__(api, name)
        self.settings = settings

    def change(self, txn: Any, bridge: Any) -> None:
        """Remember what was there, then set what differs."""
        self.put_key(bridge, "external_ids", RESTORE, self._memory(bridge))
        self.put_key(bridge, "external_ids", RESTORE_PREFIXES, self._prefixes(bridge))
        self.put(bridge, "fail_mode", ["secure"])
        # With in-band control the switch has hidden flows that let the controller's traffic pass.
        self.put_key(bridge, "other_config", IN_BAND, "true")
        # The default follows the lowest MAC of the ports; a change of it would break the connection.
        if bridge.datapath_id and DATAPATH_ID not in bridge.other_config:
            self.put_key(bridge, "other_config", DATAPATH_ID, bridge.datapath_id[0])
        if bridge.protocols and OPENFLOW not in bridge.protocols:
            self.put(bridge, "protocols", sorted([*bridge.protocols, OPENFLOW]))
        for row in self.put_controllers(txn, bridge, [self.settings.controller]):
            self._configure(row)
        put_timeouts(self, txn, bridge, self.settings.zone, self.settings.timeouts)
        tables = dict(bridge.flow_tables)
        for number, name in self.settings.tables.items():
            self._name_table(txn, bridge, number, tables.get(number), name)

    def _configure(self, controller: Any) -> None:
        wanted = self.settings
        self.put(controller, "connection_mode", ["out-of-band"])
        self.put(controller, "inactivity_probe", [wanted.inactivity_probe])
        self.put(controller, "max_backoff", [wanted.max_backoff])
        self.put(controller, "controller_rate_limit", [wanted.packet_in_rate])
        self.put(controller, "controller_burst_limit", [wanted.packet_in_burst])

    def _name_table(self, txn: Any, bridge: Any, number: int, row: Any, name: str) -> None:
        if row is None:
            row = txn.insert(self.api.idl.tables["Flow_Table"])
            bridge.setkey("flow_tables", number, row)
        self.put(row, "name", [name])
        if number in self.settings.prefixes:
            self.put(row, "prefixes", sorted(self.settings.prefixes[number]))

    def _prefixes(self, bridge: Any) -> str:
        """What tables that are not ours had before; those that have been added since join what was known."""
        before = _recall_prefixes(bridge)
        for number, row in bridge.flow_tables.items():
            before.setdefault(str(number), sorted(row.prefixes))
        return json.dumps(before, sort_keys=True)

    def _memory(self, bridge: Any) -> str:
        """What release needs to know: from the first time, and the names of tables added since."""
        memory = _recall(bridge) or {
            "fail_mode": bridge.fail_mode,
            "controllers": sorted(row.target for row in bridge.controller),
            "protocols": sorted(bridge.protocols),
            IN_BAND: bridge.other_config.get(IN_BAND),
            DATAPATH_ID: bridge.other_config.get(DATAPATH_ID),
            "tables": {},
        }
        names = {str(number): row.name for number, row in bridge.flow_tables.items()}
        for number in map(str, self.settings.tables):
            memory["tables"].setdefault(number, names.get(number))
        return json.dumps(memory, sort_keys=True)


class _AwaitedCommand(_BridgeCommand):
    """One of which it is known when the switch has taken it over.

    configuration: number of the switch's configuration that has it, once it is committed.
    """

    configuration: int = 0

    def count(self, txn: Any) -> None:
        """Part of the change, if there is one."""
        for row in self.api.idl.tables["Open_vSwitch"].rows.values():
            row.increment("next_cfg")

    def post_commit(self, txn: Any) -> None:
        """Called with the transaction that was successful."""
        self.configuration = txn.get_increment_new_value() or 0


class Divert(_AwaitedCommand):
    """Let a bridge whose only controller this is have one that does not exist instead, for a moment.

    The switch tries to reach a controller once a second, but one that is new to it at once.
    """

    def __init__(self, api: Any, name: str, controller: str) -> None:
        super().__init__(api, name)
        self.controller = controller

    def change(self, txn: Any, bridge: Any) -> None:
        """With no controller at all the switch would lose its flows."""
        if [row.target for row in bridge.controller] == [self.controller]:
            self.put_controllers(txn, bridge, [NOBODY])
            self.count(txn)


class Release(_AwaitedCommand):
    """Put back what was there before the first Prepare."""

    def change(self, txn: Any, bridge: Any) -> None:
        """Undo, as far as it is remembered."""
        memory = _recall(bridge)
        if memory is None:
            return
        take_timeouts(self, bridge)
        self.put_controllers(txn, bridge, memory["controllers"])
        self.put(bridge, "fail_mode", memory["fail_mode"])
        self.put(bridge, "protocols", memory["protocols"])
        for key in (IN_BAND, DATAPATH_ID):
            self.put_key(bridge, "other_config", key, memory[key])
        prefixes = _recall_prefixes(bridge)
        for number, name in memory["tables"].items():
            if name is None:
                self.put_key(bridge, "flow_tables", int(number), None)
            elif int(number) in bridge.flow_tables:
                self.put(bridge.flow_tables[int(number)], "name", name)
                self.put(bridge.flow_tables[int(number)], "prefixes", prefixes.get(number, []))
        for key in (RESTORE, RESTORE_PREFIXES):
            self.put_key(bridge, "external_ids", key, None)
        self.count(txn)


def _recall(bridge: Any) -> dict[str, Any] | None:
    """What `Prepare` has remembered; None if nothing, or if somebody has spoilt it."""
    try:
        memory = json.loads(bridge.external_ids.get(RESTORE, "null"))
    except ValueError:
        return None
    expected = {"fail_mode", "controllers", "protocols", IN_BAND, DATAPATH_ID, "tables"}
    return memory if isinstance(memory, dict) and set(memory) == expected else None


def _recall_prefixes(bridge: Any) -> dict[str, list[str]]:
    """Of tables that were there before `Prepare`; none if somebody has spoilt it."""
    try:
        memory = json.loads(bridge.external_ids.get(RESTORE_PREFIXES, "{}"))
    except ValueError:
        return {}
    return memory if isinstance(memory, dict) else {}
