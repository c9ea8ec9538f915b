# SPDX-License-Identifier: Apache-2.0
"""What agents may write, as ovsdb-server checks it on the remotes for agents (ovsdb(7), Role-Based Access Control).

The check looks at the row as it was before the change: an authorization names columns of which one must hold the name
in the client's certificate, or "" for everybody.

- A Host row (but for `asked`), and a host's Handover rows, are written, made and removed only by the agent whose
  certificate has its name, and never given to another.
- Of NICs, the binding is written, and by *every* agent: an agent claims a NIC that until then named another host, or
  none, so the row's old content cannot say who may. Addresses, groups, MACs, rules, accounts are out of its reach.
- Reading is not limited: who may connect sees all tables, keys and their secrets among them.
- Only the remotes of --db-listen-agents are bound so. Those of --db-listen (API servers, relays), the members' RAFT
  address, and what comes through a relay, are not: hypervisors must not reach them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import NAMESPACE_OID, uuid5

from sgctl.db.talk import Json, Rows
from sgctl.dbfile import AGENT_ROLE

TABLES = ("RBAC_Role", "RBAC_Permission")


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """owner: the column that names who may write a row, "" for everybody.  create: rows may be made and removed."""

    owner: str
    create: bool
    columns: tuple[str, ...]

    def row(self, table: str) -> Mapping[str, Json]:
        """The row of RBAC_Permission."""
        columns = ["set", sorted(self.columns)] if len(self.columns) != 1 else self.columns[0]
        return {"table": table, "authorization": self.owner, "insert_delete": self.create, "update": columns}


AGENT: Mapping[str, Permission] = {
    "Host": Permission(
        owner="name", create=True, columns=("address", "applied", "heartbeat", "seen", "started", "version")
    ),
    "Handover": Permission(
        owner="host", create=True, columns=("asked", "connections", "final", "rest", "taken", "to", "took", "waiting")
    ),
    "NIC": Permission(owner="", create=False, columns=("host", "reason", "since", "state")),
}


def rows() -> dict[str, Rows]:
    """The rows of the two tables, with the same UUIDs wherever they are made."""
    ids = {table: _id(table) for table in AGENT}
    allowed = ["map", [[table, ["uuid", id]] for table, id in sorted(ids.items())]]
    return {
        "RBAC_Role": {_id("role"): {"name": AGENT_ROLE, "permissions": allowed}},
        "RBAC_Permission": {ids[table]: permission.row(table) for table, permission in AGENT.items()},
    }


def _id(name: str) -> str:
    return str(uuid5(NAMESPACE_OID, f"sgctl permission {name}"))
