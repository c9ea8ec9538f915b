# SPDX-License-Identifier: Apache-2.0
"""The part of the Open_vSwitch schema that we read and write, ovs-vswitchd.conf.db(5).

It is written down here so that we can start before the database server does, and so that no statistics are sent to us.
"""

from __future__ import annotations

from typing import Any


def _optional(kind: str) -> dict[str, Any]:
    return {"type": {"key": kind, "min": 0, "max": 1}}


def _set(kind: str) -> dict[str, Any]:
    return {"type": {"key": kind, "min": 0, "max": "unlimited"}}


def _references(table: str) -> dict[str, Any]:
    return {"type": {"key": {"type": "uuid", "refTable": table}, "min": 0, "max": "unlimited"}}


_NAME = {"type": "string"}
_MAP = {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}
_TABLES = {
    "type": {"key": "integer", "value": {"type": "uuid", "refTable": "Flow_Table"}, "min": 0, "max": "unlimited"}
}

_DATAPATHS = {
    "type": {"key": "string", "value": {"type": "uuid", "refTable": "Datapath"}, "min": 0, "max": "unlimited"}
}
_ZONES = {"type": {"key": "integer", "value": {"type": "uuid", "refTable": "CT_Zone"}, "min": 0, "max": "unlimited"}}
_POLICY = {"type": {"key": {"type": "uuid", "refTable": "CT_Timeout_Policy"}, "min": 0, "max": 1}}
_TIMEOUTS = {"type": {"key": "string", "value": "integer", "min": 0, "max": "unlimited"}}

_COLUMNS: dict[str, dict[str, Any]] = {
    "Open_vSwitch": {"next_cfg": {"type": "integer"}, "cur_cfg": {"type": "integer"}, "datapaths": _DATAPATHS},
    "Bridge": {
        "name": _NAME,
        "datapath_id": _optional("string"),
        "datapath_type": _NAME,
        "ports": _references("Port"),
        "controller": _references("Controller"),
        "fail_mode": _optional("string"),
        "protocols": _set("string"),
        "flow_tables": _TABLES,
        "other_config": _MAP,
        "external_ids": _MAP,
    },
    "Port": {"name": _NAME, "interfaces": _references("Interface")},
    "Interface": {
        "name": _NAME,
        "ofport": _optional("integer"),
        "external_ids": _MAP,
        "ifindex": _optional("integer"),
        "mac_in_use": _optional("string"),
        "error": _optional("string"),
    },
    "Controller": {
        "target": _NAME,
        "connection_mode": _optional("string"),
        "inactivity_probe": _optional("integer"),
        "max_backoff": _optional("integer"),
        "controller_rate_limit": _optional("integer"),
        "controller_burst_limit": _optional("integer"),
    },
    "Datapath": {"ct_zones": _ZONES},
    "CT_Zone": {"timeout_policy": _POLICY, "external_ids": _MAP},
    "CT_Timeout_Policy": {"timeouts": _TIMEOUTS},
    "Flow_Table": {"name": _optional("string"), "prefixes": _set("string")},
}


def schema() -> dict[str, Any]:
    """The schema as a new object; the IDL changes what it is given."""
    tables = {name: {"columns": dict(columns), "isRoot": False} for name, columns in _COLUMNS.items()}
    return {"name": "Open_vSwitch", "version": "8.0.0", "tables": tables}
