# SPDX-License-Identifier: Apache-2.0
"""What NICs bring along to this hypervisor: the connections that others hand over to it in `Handover` rows."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Event
from time import time

from flows.inputs import Bridge, Connection, Moved, Port, Resumed, Standby, Unit
from sgctl.handover import Carried, carried, echoes, spans, unpack
from sgctl.model import Cut, Handover
from sgctl.numbers import number
from sgctl.openflow.conntrack import ConntrackReader
from sgctl.store import Changes, Replica
from sgctl.world import Brought, Decision, Refusal

LOG = logging.getLogger(__name__)
ZONE = Bridge(()).zone


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

    def __init__(self, host: str, replica: Replica, reader: ConntrackReader) -> None:
        self._host, self._replica, self._reader = host, replica, reader
        self._loads: dict[str, _Load] = {}
        self._brought: Brought = {}
        self._listeners: list[Event] = []
        self._outdated = True
        replica.on_change(self._note)

    def notify(self, event: Event) -> None:
        """Have an event set whenever rows about moving NICs have changed."""
        self._listeners.append(event)

    def _note(self, changes: Changes) -> None:
        if not changes or any(kind in (Handover, Cut) for kind, _ in changes):
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

    def _used(self) -> set[object]:
        """What has made entries here, by its keys. Raises SwitchError if conntrack cannot be read."""
        addresses = {one.own for load in self._loads.values() for one in load.connections}
        entries = self._reader.entries(ZONE, addresses, finished=True)
        return {one.key for one in carried(entries, addresses, time())}

    def _refresh(self) -> None:
        latest: dict[str, Handover] = {}
        for row in self._replica.all(Handover):
            if row.nic and self._host in row.to:
                known = latest.get(row.nic)
                latest[row.nic] = row if known is None or known.taken < row.taken else known
        # A row may go before what it says has been taken further: the NIC still has it.
        loads = {**self._loads, **{nic: self._load(row, self._loads.get(nic)) for nic, row in latest.items()}}
        cut = self._without_cut(list(loads.values()))
        if cut or loads != self._loads:
            self._loads = loads
            self._collect()

    def _without_cut(self, loads: list[_Load]) -> bool:
        """Leave out what revoked rules had admitted and shall end (`sgctl.cuts`); true if that is anything."""
        ended = {number([row.rule]) for row in self._replica.all(Cut)}
        found = [load for load in loads if any(one.rule in ended for one in load.connections)]
        for load in found:
            load.connections = [one for one in load.connections if one.rule not in ended]
            load.sort()
        return bool(found)

    def _load(self, row: Handover, known: _Load | None) -> _Load:
        # What is older than what is known, was said before some of it was used.
        if known is not None and row.taken <= known.row.taken:
            return known
        try:
            load = _Load(row, unpack(row.connections), echoed=row.host == self._host)
        except ValueError as error:
            LOG.warning("NIC %s: what %s hands over cannot be read: %s", row.nic, row.host, error)
            load = _Load(row, [])
        load.sort()
        return load

    def _collect(self) -> None:
        self._brought = {nic: dict(load.spans) for nic, load in self._loads.items() if load.spans}

    def unused(self, nic: str, now: float) -> list[Carried]:
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

    def remainders(self) -> dict[str, list[Carried]]:
        """By NIC, what has made no entry here yet, where that is less than before: the rest ends when its entries end.

        Raises SwitchError if conntrack cannot be read.
        """
        used = self._used()
        rests = {nic: [one for one in load.connections if one.key not in used] for nic, load in self._loads.items()}
        return {nic: rest for nic, rest in rests.items() if len(rest) != len(self._loads[nic].connections)}

    def keep(self, nics: Collection[str]) -> None:
        """Forget what others than these NICs have brought, as far as no row says it any more."""
        rows = {row.nic for row in self._replica.all(Handover) if self._host in row.to}
        gone = [nic for nic in self._loads if nic not in nics and nic not in rows]
        for nic in gone:
            del self._loads[nic]
        if gone:
            self._collect()

    @property
    def empty(self) -> bool:
        """Whether no NIC brings anything."""
        return not self._loads

    def next_end(self) -> float:
        """Seconds until something expires."""
        ends = [until for load in self._loads.values() for until in load.spans]
        return max(0.1, min(ends) - time()) if ends else math.inf


def carry(decision: Decision, brought: Brought, refused: Mapping[str, Refusal]) -> Decision:
    """The decision with what the NICs of open and waiting ports bring along."""
    return decision.plus(_carried(decision, brought), refused) if brought else decision


def _carried(decision: Decision, brought: Brought) -> Iterator[Unit]:
    for unit in decision.units.values():
        if isinstance(unit, Port | Standby) and (spans := brought.get(unit.nic)):
            yield Moved(unit.nic, unit.number)
            for until, connections in spans.items():
                yield Resumed(unit.nic, unit.number, until, connections)
