# SPDX-License-Identifier: Apache-2.0
"""The ports of a bridge as values, made anew only of rows that have changed.

With hundreds of ports each step through all of them counts, and so does what the IDL does to show a set of references
as rows: it copies and sorts them. So sets are read as they are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any
from uuid import UUID

from sgctl.localport import LocalPort

TABLES = ("Port", "Interface")
OFPORT_MAX = 0xFEFF
"""The last number of a real port; above are the reserved ones, among them the bridge's own (LOCAL)."""
LONGEST_ID = 255
"""Longer external_ids are cut: nothing that we look for is as long."""
VANISHED = "its network device is gone"
_uuid = attrgetter("uuid")


class Ports:
    """What was made of the rows of an IDL, until they change."""

    def __init__(self, idl: Any) -> None:
        self._idl = idl
        self._made: dict[int, tuple[LocalPort, ...]] = {}
        self._former: dict[str, LocalPort] = {}
        self._port_of: dict[int, int] = {}

    def forget(self, ids: Iterable[UUID]) -> None:
        """These rows have changed, or are gone."""
        for id in ids:
            for number in (id.int, self._port_of.pop(id.int, -1)):
                self._former.update((port.uuid, port) for port in self._made.pop(number, ()))

    def of(self, bridge: Any) -> list[LocalPort]:
        """The interfaces of a Bridge row, in the order of their ids; those about which nothing is new that a value
        tells, as when the switch counts frames or has started anew, are the same objects as before."""
        known = self._made
        ids = _references(bridge, "ports")
        # Rows are new objects after a new connection, but then all of them count as changed.
        found = [port for id in ids for port in (known.get(id.int) or self._make(id))]
        found.sort(key=_uuid)
        self._former.clear()
        return found

    def _make(self, id: UUID) -> tuple[LocalPort, ...]:
        row = self._idl.tables["Port"].rows.get(id)
        if row is None:
            return ()
        interfaces = self._idl.tables["Interface"].rows
        rows = [found for one in _references(row, "interfaces") if (found := interfaces.get(one)) is not None]
        self._port_of.update((one.uuid.int, id.int) for one in rows)
        made = self._made[id.int] = tuple(self._known(_local_port(row)) for row in rows)
        return made

    def _known(self, port: LocalPort) -> LocalPort:
        former = self._former.get(port.uuid)
        return former if former == port else port


def _references(row: Any, column: str) -> list[UUID]:
    return [atom.value for atom in row._data[column].values]


def _local_port(row: Any) -> LocalPort:
    """An Interface row as a value, whatever is in it."""
    ofport = row.ofport[0] if row.ofport and not _vanished(row) else -1
    ids = {key: value[:LONGEST_ID] for key, value in row.external_ids.items()}
    return LocalPort(
        uuid=str(row.uuid),
        name=row.name,
        ofport=ofport if 0 < ofport <= OFPORT_MAX else None,
        iface_id=ids.get("iface-id"),
        attached_mac=ids.get("attached-mac"),
        role=ids.get("sgctl-role", ""),
        error=row.error[0] if row.error else VANISHED if _vanished(row) else "",
    )


def _vanished(row: Any) -> bool:
    """Whether the port's network device is gone.

    In user space the switch keeps the port and its number, and shows it by what it knows of the device. Of a port that
    is new it has not said anything yet.
    """
    return bool(row.ifindex == [0] and not row.mac_in_use)
