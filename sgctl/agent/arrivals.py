# SPDX-License-Identifier: Apache-2.0
"""What NICs bring along to this hypervisor: the connections that others hand over to it in `Handover` rows.

What a NIC has brought is noted in our own row as the `rest` of it: without what conntrack knows better by now. So an
agent that starts again goes on from there, and not from what the other hypervisor once said.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Event
from time import monotonic, time

from flows.inputs import ZONE, Moved, Port, Resumed, Standby, Unit
from sgctl.handover import Carried, Said, carried, endings, pack, steady, unpack, unsettled
from sgctl.model import Cut, Handover
from sgctl.numbers import number
from sgctl.openflow.conntrack import ConntrackReader
from sgctl.store import Changes, Replica
from sgctl.world import Brought, Decision, Ending, Refusal

LOG = logging.getLogger(__name__)
ROUNDING = 1
"""Seconds by which two of a connection's time-outs may differ that mean the same."""


@dataclass(slots=True)
class _Load:
    """What one NIC brings along, without what conntrack knows better here since.

    host, taken, seen: who has said it last, when, and what it had taken itself by then.  ours: when we had said, in a
    row of our own, what is in it.  old: that was before the agent started, so that some of it may be in use.
    remade: the entries that it needs have been made.
    """

    host: str
    taken: int
    old: bool
    seen: int = 0
    ours: int = 0
    connections: list[Carried] = field(default_factory=list)
    endings: Mapping[int, Ending] = field(default_factory=dict)
    text: str | None = None
    remade: bool = False

    def hold(self, connections: list[Carried]) -> None:
        """Let this be what it brings."""
        self.connections, self.text = connections, None
        self.endings = endings(connections, monotonic())

    def told(self) -> str:
        """Its text form, the same until it changes."""
        if self.text is None:
            now = monotonic()
            self.text = pack((one for one in self.connections if one.expires > now), now)
        return self.text


class Arrivals:
    """Follows the rows that are for this host."""

    def __init__(self, host: str, replica: Replica, reader: ConntrackReader) -> None:
        self._host, self._replica, self._reader = host, replica, reader
        self._loads: dict[str, _Load] = {}
        self._brought: Brought = {}
        self._listeners: list[Event] = []
        self._outdated = self._first = True
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
        now = monotonic()
        if any(until <= now for load in self._loads.values() for until in load.endings):
            for load in self._loads.values():
                load.endings = {until: some for until, some in load.endings.items() if until > now}
                if not load.endings:
                    load.hold([])
            self._collect()
        return self._brought

    def _refresh(self) -> None:
        own: dict[str, Handover] = {}
        latest: dict[str, Handover] = {}
        for row in self._replica.all(Handover):
            if row.nic and row.host == self._host:
                own[row.nic] = row
            elif row.nic and self._host in row.to:
                known = latest.get(row.nic)
                latest[row.nic] = row if known is None or known.taken < row.taken else known
        # A row may go before what it says has been taken further: the NIC still has it.
        fresh = [nic for nic in own.keys() | latest.keys() if self._load(nic, own.get(nic), latest.get(nic))]
        self._first = False
        if self._cut() or fresh:
            self._collect()

    def _load(self, nic: str, own: Handover | None, row: Handover | None) -> bool:
        """Follow the rows about a NIC, ours and the latest for us; true if they say something new."""
        known = self._loads.get(nic)
        took = max(own.took if own else 0, known.taken if known else 0)
        if row is not None and row.taken > took:
            # Rows that are here when we start may be old. Their writer's time of day is the best there is then.
            age = max(0.0, time() - row.taken / 1000) if self._first else 0.0
            load = _Load(row.host, row.taken, self._first, seen=row.took)
            now = monotonic()
            connections = said(row, row.connections).arrived(now, age)
            if known is not None:
                unseen = _unseen(known, row, connections)
                connections = [*steady(connections, known.connections, now, slack=ROUNDING), *unseen]
            load.hold(connections)
        elif known is None and own is not None and own.rest:
            load = _Load(own.host, own.took, old=True, ours=own.taken)
            load.hold(said(own, own.rest).resumed())
            load.text = own.rest if load.connections else ""
        else:
            return False
        self._loads[nic] = load
        return True

    def reclaim(self, own: Handover) -> bool:
        """A NIC is back that we have handed over with this row of ours: what it says counts here, until who has had the
        NIC meanwhile says better; true if that is anything new."""
        assert own.nic is not None
        known = self._loads.get(own.nic)
        if not own.final or (known is not None and max(known.ours, known.seen) >= own.taken):
            return False
        later = known.connections if known is not None and known.taken > own.taken else []
        taken = max(own.took, known.taken if known is not None else 0)
        load = self._loads[own.nic] = _Load(own.host, taken, old=False, ours=own.taken)
        load.hold([*later, *_others(said(own, own.connections).resumed(), later)])
        self._collect()
        return True

    def _cut(self) -> bool:
        """Leave out what revoked rules had admitted and shall end (`sgctl.cuts`); true if that is anything."""
        ended = {number([row.rule]) for row in self._replica.all(Cut)}
        found = [load for load in self._loads.values() if any(one.rule in ended for one in load.connections)]
        for load in found:
            load.hold([one for one in load.connections if one.rule not in ended])
        return bool(found)

    def _collect(self) -> None:
        self._brought = {nic: dict(load.endings) for nic, load in self._loads.items() if load.endings}

    def unused(self, nic: str) -> list[Carried]:
        """What a NIC has brought, conntrack does not know better, and has not expired: it takes it further."""
        load, now = self._loads.get(nic), monotonic()
        return [one for one in load.connections if one.expires > now] if load is not None else []

    def rest(self, nic: str) -> tuple[str, int]:
        """The same as text, and which row it is from by its `taken`: ("", 0) if the NIC has brought nothing."""
        load = self._loads.get(nic)
        return (load.told(), load.taken) if load is not None else ("", 0)

    def to_remake(self, nic: str) -> list[Carried]:
        """The connections that it brings and that need entries (`sgctl.handover.remade`); they are given once.

        Raises SwitchError if conntrack has to be read, and cannot be.
        """
        load = self._loads.get(nic)
        if load is None or load.remade:
            return []
        needed = [one for one in self.unused(nic) if one.ticketed]
        if load.old and needed:
            # To make an entry that is in use would let it live longer.
            addresses = {one.own for one in needed}
            entries = self._reader.entries(ZONE, addresses, finished=True)
            used = {one.key for one in carried(entries, addresses, monotonic())}
            needed = [one for one in needed if one.key not in used]
        load.remade = True
        return needed

    def settle(self) -> bool:
        """Leave out what conntrack knows better by now; true if that is anything.

        Raises SwitchError if conntrack cannot be read.
        """
        addresses = {one.own for load in self._loads.values() for one in load.connections}
        if not addresses:
            return False
        entries, now = self._reader.entries(ZONE, addresses, finished=True), monotonic()
        settled = False
        for load in self._loads.values():
            rest = unsettled(load.connections, entries, addresses, now)
            if len(rest) < len(load.connections):
                load.hold(rest)
                settled = True
        if settled:
            self._collect()
        return settled

    def keep(self, here: Collection[str], left: Collection[str]) -> None:
        """Forget what NICs have brought that have left; and others that are not here, as far as no row says it."""
        named = {row.nic for row in self._replica.all(Handover) if self._host in row.to}
        gone = [nic for nic in self._loads if nic in left or (nic not in here and nic not in named)]
        for nic in gone:
            del self._loads[nic]
        if gone:
            self._collect()

    @property
    def empty(self) -> bool:
        """Whether no NIC brings anything."""
        return not any(load.connections for load in self._loads.values())

    def next_end(self) -> float:
        """Seconds until something expires."""
        ends = [until for load in self._loads.values() for until in load.endings]
        return max(0.1, min(ends) - monotonic()) if ends else math.inf


def _unseen(known: _Load, row: Handover, connections: list[Carried]) -> list[Carried]:
    """What a NIC brings that a later row of another host does not say, since that host had not read of it."""
    if row.host == known.host or row.took >= (known.ours or known.taken):
        return []
    return _others(known.connections, connections)


def _others(some: Iterable[Carried], connections: Iterable[Carried]) -> list[Carried]:
    """Those of some connections that are not among others."""
    keys = {one.key for one in connections}
    return [one for one in some if one.key not in keys]


def said(row: Handover, text: str) -> Said:
    """What a text of a row says; nothing, with a word about it, if it cannot be read."""
    try:
        return unpack(text)
    except ValueError as error:
        LOG.warning("NIC %s: what %s hands over cannot be read: %s", row.nic, row.host, error)
        return unpack("")


def carry(decision: Decision, brought: Brought, refused: Mapping[str, Refusal]) -> Decision:
    """The decision with what the NICs of open and waiting ports bring along."""
    return decision.plus(_carried(decision, brought), refused) if brought else decision


def _carried(decision: Decision, brought: Brought) -> Iterator[Unit]:
    for unit in decision.units.values():
        if isinstance(unit, Port | Standby) and (ends := brought.get(unit.nic)):
            yield Moved(unit.nic, unit.number)
            for until, ending in ends.items():
                yield Resumed(unit.nic, unit.number, until, ending.connections, ending.pieces)
