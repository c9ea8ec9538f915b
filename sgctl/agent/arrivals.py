# SPDX-License-Identifier: Apache-2.0
"""What NICs bring along to this hypervisor: the connections that others hand over to it in `Handover` rows."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from threading import Event
from time import time

from flows.inputs import Connection, Moved, Port, Resumed, Standby
from sgctl.handover import Carried, echoes, spans, unpack
from sgctl.model import Handover
from sgctl.store import Changes, Replica
from sgctl.world import Brought, Decision

LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Load:
    """What one NIC brings along, as one row has said it; without what has made entries here since."""

    row: Handover
    connections: list[Carried]
    spans: dict[int, tuple[Connection, ...]] = field(default_factory=dict)
    echoed: bool = False

    def sort(self) -> None:
        """Order the connections by the time at which they expire."""
        self.spans = dict(spans(self.connections, time()))


class Arrivals:
    """Follows the rows that are for this host."""

    def __init__(self, host: str, replica: Replica) -> None:
        self._host, self._replica = host, replica
        self._loads: dict[str, _Load] = {}
        self._brought: Brought = {}
        self._listeners: list[Event] = []
        self._outdated = True
        replica.on_change(self._note)

    def notify(self, event: Event) -> None:
        """Have an event set whenever rows about moving NICs have changed."""
        self._listeners.append(event)

    def _note(self, changes: Changes) -> None:
        if not changes or any(kind is Handover for kind, _ in changes):
            self._outdated = True
            for listener in self._listeners:
                listener.set()

    def brought(self) -> Brought:
        """What has not expired; the same object as before if it is the same."""
        if self._outdated and self._replica.insync:
            self._outdated = False
            self._refresh()
        now = time()
        if any(until <= now for load in self._loads.values() for until in load.spans):
            for load in self._loads.values():
                load.spans = {until: some for until, some in load.spans.items() if until > now}
            self._collect()
        return self._brought

    def _refresh(self) -> None:
        latest: dict[str, Handover] = {}
        for row in self._replica.all(Handover):
            if row.nic and row.host != self._host and self._host in row.to:
                known = latest.get(row.nic)
                latest[row.nic] = row if known is None or known.taken < row.taken else known
        loads = {nic: self._load(row, self._loads.get(nic)) for nic, row in latest.items()}
        if loads != self._loads:
            self._loads = loads
            self._collect()

    @staticmethod
    def _load(row: Handover, known: _Load | None) -> _Load:
        if known is not None and known.row == row:
            return known
        try:
            load = _Load(row, unpack(row.connections))
        except ValueError as error:
            LOG.warning("NIC %s: what %s hands over cannot be read: %s", row.nic, row.host, error)
            load = _Load(row, [])
        load.sort()
        return load

    def _collect(self) -> None:
        self._brought = {nic: dict(load.spans) for nic, load in self._loads.items() if load.spans}

    def brings(self, nic: str) -> bool:
        """Whether a NIC brings anything along that has not been used."""
        load = self._loads.get(nic)
        return load is not None and bool(load.connections)

    def carried(self, nic: str, now: float) -> list[Carried]:
        """What a NIC has brought, has not used, and has not expired: it takes it further."""
        load = self._loads.get(nic)
        return [one for one in load.connections if one.expires > now] if load is not None else []

    def take_echoes(self, nic: str) -> list[Carried]:
        """The ICMP conversations that it brings; they are given once."""
        load = self._loads.get(nic)
        if load is None or load.echoed:
            return []
        load.echoed = True
        return echoes(load.connections, time())

    def used(self, nic: str, entries: Iterable[Carried]) -> bool:
        """Leave out what has made entries here; true if that is anything."""
        load = self._loads.get(nic)
        if load is None:
            return False
        keys = {one.key for one in entries}
        rest = [one for one in load.connections if one.key not in keys]
        if len(rest) == len(load.connections):
            return False
        load.connections = rest
        load.sort()
        self._collect()
        return True


def carry(decision: Decision, brought: Brought) -> Decision:
    """The decision with what the NICs of open and waiting ports bring along."""
    units = dict(decision.units)
    for unit in decision.units.values():
        if isinstance(unit, Port | Standby) and (spans := brought.get(unit.nic)):
            moved = Moved(unit.nic, unit.number)
            units[moved.owner] = moved
            for until, connections in spans.items():
                resumed = Resumed(unit.nic, unit.number, until, connections)
                units[resumed.owner] = resumed
    return replace(decision, units=units) if len(units) > len(decision.units) else decision
