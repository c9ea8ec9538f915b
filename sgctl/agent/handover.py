# SPDX-License-Identifier: Apache-2.0
"""Handing a NIC's connections over to the hypervisor that it moves to, through `Handover` rows of the SG database.

The new hypervisor says that its port waits; the old one answers with what its conntrack knows, and once more when the
NIC has left. Each side acts on what is so now, not on what it remembers, so an agent may restart at any step:

    a port here waits          a row of ours with `waiting`
    a NIC here is waited for   a row of ours with its connections `to` those who wait
    a NIC has left             the row, `final`; then its entries here go, but those with other VMs of this hypervisor
    a NIC here has brought     a row of ours with the `rest` of it, and which row of others it `took`
    a NIC is here again        the same, from our own row, until who has had it says better
    otherwise                  no row of ours, unless the new hypervisor still needs it

So no row of another counts twice, and none is needed any more once the new hypervisor has taken what it says. Which of
two rows about a NIC is the later one follows from their writers having seen the earlier one, not from clocks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from threading import Event
from time import monotonic, sleep, time
from typing import Any

from flows.inputs import Bridge
from sgctl.addresses import Reach, block_text
from sgctl.agent.applied import Applied
from sgctl.agent.arrivals import Arrivals, said
from sgctl.agent.forget import forget_only
from sgctl.agent.writer import Writer
from sgctl.collector import uncollected
from sgctl.errors import StoreError
from sgctl.handover import Entry, known, pack, remade, steady, without_local
from sgctl.model import Handover, Nic, handover_id
from sgctl.openflow.conntrack import ConntrackReader
from sgctl.openflow.errors import SwitchError
from sgctl.openflow.switch import Switch
from sgctl.store import Database, Delete, Insert, Update
from sgctl.world import Decision, PortState, State

LOG = logging.getLogger(__name__)
TICK = 10.0
"""Seconds after which rows and conntrack are looked at though nothing has changed."""
PATIENCE = 600.0
"""Seconds for which what was handed over counts again if the NIC comes back by itself."""
RETRY = 0.2
"""Seconds after which what failed is tried again."""
_MOVING = (State.ACTIVE, State.STANDBY)


@dataclass(frozen=True, slots=True)
class Here:
    """The NICs of this hypervisor's ports that are open or on standby, and what is behind all that are open."""

    ports: Mapping[str, PortState]
    local: Reach

    @classmethod
    def of(cls, decision: Decision) -> Here:
        """What a decision says."""
        moving = {port.nic: port for port in decision.ports if port.nic and port.state in _MOVING}
        active = (port for port in moving.values() if port.state is State.ACTIVE)
        return cls(moving, Reach(text for port in active for text in _behind(port)))


def _behind(port: PortState) -> tuple[str, ...]:
    return (*port.addresses, *(block_text(one.network) for one in port.allowed))


class Watched:
    """Which ports have come before our eyes and have not been open since, so that no NIC can have left them.

    If a decision was missed in between, none counts.
    """

    def __init__(self) -> None:
        self._number = -1
        self._names: frozenset[str] = frozenset()
        self._fresh: frozenset[str] = frozenset()

    def look(self, applied: Applied) -> None:
        """Take note of a decision, the same as before or a later one."""
        ports = applied.decision.ports
        names = frozenset(port.name for port in ports)
        fresh = self._fresh | (names - self._names) if applied.number - self._number <= 1 else frozenset[str]()
        self._fresh = fresh & names - {port.name for port in ports if port.state is State.ACTIVE}
        self._number, self._names = applied.number, names

    def __contains__(self, name: str) -> bool:
        return name in self._fresh


class Handovers:
    """The loop that keeps our rows right; it never delays the writer."""

    def __init__(
        self, host: str, database: Database, writer: Writer, arrivals: Arrivals, reader: ConntrackReader
    ) -> None:
        self._host, self._database, self._replica = host, database, database.replica
        self._writer, self._arrivals = writer, arrivals
        self._reader = reader
        self._watched = Watched()
        self._seen: tuple[PortState, ...] = ()
        self._was_active: dict[str, str] = {}
        self._looked: set[str] = set()
        self._left: set[str] = set()
        self._addresses: dict[str, Reach] = {}
        self._unforgotten: dict[str, list[Entry]] = {}
        self._checked = monotonic()
        self._trouble = ""
        self._wake = Event()
        writer.notify(self._wake)
        arrivals.notify(self._wake)

    def run(self) -> None:
        """Work until the process ends."""
        pause = TICK
        while True:
            self._wake.wait(min(pause, self._arrivals.next_end()))
            self._wake.clear()
            try:
                with uncollected():
                    self._turn()
                pause, self._trouble = TICK, ""
            except (SwitchError, StoreError) as error:
                self._complain(str(error))
                pause = RETRY

    def _complain(self, text: str) -> None:
        """Log once what keeps connections from being handed over; it is tried again."""
        if text != self._trouble:
            self._trouble = text
            LOG.warning("connections are not handed over: %s", text)

    def _turn(self) -> None:
        applied, switch = self._writer.applied, self._writer.switch
        if applied is not None:
            self._watched.look(applied)
        if applied is None or switch is None or not applied.current or not self._replica.insync:
            return
        ports = applied.decision.ports
        nothing = not self._replica.count(Handover) and self._arrivals.empty
        if nothing and not applied.decision.standby:
            self._seen, self._was_active, self._checked = ports, {}, monotonic()
            return
        here = Here.of(applied.decision)
        bridge = applied.decision.units["bridge"]
        assert isinstance(bridge, Bridge)
        # What others have just said must be taken before what we have said is withdrawn.
        self._arrivals.brought()
        sleep(0)  # The writer first: what has come must get into the switch before it is said again.
        self._remember(here, self._seen)
        self._remember(here, ports)
        self._seen = ports
        own = {row.nic or row.id: row for row in self._replica.find(Handover, host=self._host)}
        for nic, port in here.ports.items():
            if port.state is State.ACTIVE:
                self._active(switch, bridge.zone, nic, own.get(nic))
            else:
                self._standby(switch, bridge.zone, here, nic, own.get(nic))
        for nic, row in own.items():
            if nic not in here.ports:
                self._gone(switch, bridge.zone, here, row)
        self._forget_left(switch, bridge.zone)
        self._tidy(here)

    def _tidy(self, here: Here) -> None:
        """Have what is used or has expired taken out of the switch."""
        self._arrivals.keep(here.ports.keys(), self._left)
        ended = self._arrivals.next_end() <= 0.1
        if monotonic() - self._checked >= TICK:
            ended = self._settle() or ended
        if ended:
            self._writer.wake()

    def _settle(self) -> bool:
        settled = self._arrivals.settle()
        self._checked = monotonic()
        return settled

    def _remember(self, here: Here, ports: Iterable[PortState]) -> None:
        """Which of the ports that are here have been open, and the NICs' addresses."""
        names = {nic: port.name for nic, port in here.ports.items()}
        for port in ports:
            if port.nic and port.state is State.ACTIVE:
                self._was_active[port.nic] = port.name
            if port.nic and port.state in _MOVING:
                self._addresses[port.nic] = Reach(_behind(port))
        self._was_active = {nic: name for nic, name in self._was_active.items() if names.get(nic) == name}
        self._looked &= names.keys()
        self._left &= names.keys()

    def _active(self, switch: Switch, zone: int, nic: str, row: Handover | None) -> None:
        """An open port: make the entries that what it has brought needs, and name its connections to those who wait."""
        for one in self._arrivals.to_remake(nic):
            action, packet = remade(one, zone)
            switch.run_actions([action], packet)
        self._looked.discard(nic)
        self._left.discard(nic)
        there = self._replica.get(Nic, nic)
        if there is None or there.host != self._host:
            return
        others = [one for one in self._replica.find(Handover, nic=nic) if one.host != self._host]
        if row is not None and time() - row.taken / 1000 < PATIENCE and self._arrivals.reclaim(row):
            self._writer.wake()
        waiting = frozenset(one.host for one in others if one.waiting)
        if waiting and (row is None or row.final or row.to != waiting):
            entries = self._reader.entries(zone, self._addresses[nic], finished=True)
            self._hand_over(nic, row, waiting, entries, final=False)
        elif waiting and row is not None:
            self._change(row, **self._rest(nic, row))
        else:
            self._alone(nic, row, others)

    def _rest(self, nic: str, row: Handover | None) -> dict[str, object]:
        """What a row of ours says of what a NIC has brought along."""
        rest, took = self._arrivals.rest(nic)
        return {"rest": rest, "took": max(took, row.took if row is not None else 0)}

    def _alone(self, nic: str, row: Handover | None, others: Iterable[Handover]) -> None:
        """Nobody waits for a NIC that is here: our row says no more than what of its connections it has brought.

        It is there as long as a row of another says so too, which must not count again.
        """
        rest = self._rest(nic, row)
        if rest["rest"] or any(self._host in one.to for one in others):
            self._put(nic, row, taken=row.taken if row is not None else 0, **rest)
        elif row is not None:
            self._database.write([Delete(Handover, row.id)])

    def _standby(self, switch: Switch, zone: int, here: Here, nic: str, row: Handover | None) -> None:
        """A port that waits for its NIC, or that its NIC has left."""
        there = self._replica.get(Nic, nic)
        if there is None or there.host in ("", self._host):
            return
        if self._has_left(zone, here, nic, row):
            self._leave(switch, zone, here, there, row)
            return
        if row is None:
            self._put(nic, None, waiting=True, **self._rest(nic, None))
        else:
            # What it has handed over may still be needed.
            self._change(row, waiting=True, **self._rest(nic, row))

    def _has_left(self, zone: int, here: Here, nic: str, row: Handover | None) -> bool:
        """Whether the NIC was at this port until it moved; else this is where it may come to."""
        told = row is not None and not row.final and (row.to or (row.rest and not row.waiting))
        if told or nic in self._was_active:
            return True
        if nic not in self._looked and here.ports[nic].name not in self._watched:
            self._looked.add(nic)
            addresses = self._addresses[nic].without(here.local)
            if without_local(self._reader.entries(zone, addresses), addresses, here.local):
                self._was_active[nic] = here.ports[nic].name
        return nic in self._was_active

    def _leave(self, switch: Switch, zone: int, here: Here, nic: Nic, row: Handover | None) -> None:
        """The NIC is active elsewhere: hand over what it has left here, and then forget it."""
        if row is not None and row.final and nic.host in row.to:
            return
        addresses = self._addresses.get(nic.id) or _owned(row)
        entries = self._reader.entries(zone, addresses, finished=True)
        self._hand_over(nic.id, row, frozenset({nic.host}), entries, final=True)
        self._left.add(nic.id)
        # What another NIC here may hold too, may be its connection.
        self._unforgotten[nic.id] = without_local(entries, addresses.without(here.local), here.local)

    def _forget_left(self, switch: Switch, zone: int) -> None:
        """Forget what NICs have left here, once all have said of their connections, also with each other, what they
        must."""
        for nic, entries in self._unforgotten.items():
            if not self._is_active(nic):
                forget_only(switch, zone, entries)
        self._unforgotten.clear()

    def _is_active(self, nic: str) -> bool:
        """Whether the NIC has come back meanwhile."""
        applied = self._writer.applied
        return applied is None or any(port.nic == nic and port.state is State.ACTIVE for port in applied.decision.ports)

    def _gone(self, switch: Switch, zone: int, here: Here, row: Handover) -> None:
        """A row of ours about a NIC that has no port here any more."""
        nic = self._replica.get(Nic, row.nic) if row.nic else None
        if row.nic and nic is None:
            return
        if nic is not None and nic.host in row.to:
            if not row.final:
                self._leave(switch, zone, here, nic, row)
                return
            if self._needed(row, nic.host):
                self._change(row, waiting=False)
                return
        self._addresses.pop(row.nic or "", None)
        self._database.write([Delete(Handover, row.id)])

    def _needed(self, row: Handover, host: str) -> bool:
        """Whether the hypervisor that a NIC has gone to has not taken yet what our row says, or a row of another says
        again what the NIC once took from us."""
        others = [one for one in self._replica.find(Handover, nic=row.nic) if one.host != self._host]
        if any(one.host == host and one.took >= row.taken for one in others):
            return any(self._host in one.to for one in others)
        now = monotonic()
        return any(one.expires > now for one in said(row, row.connections).resumed())

    def _hand_over(
        self, nic: str, row: Handover | None, to: frozenset[str], entries: Iterable[Entry], *, final: bool
    ) -> None:
        """Write what is known of the NIC's connections, what it had brought and not used yet included.

        If nothing is known at last, because the switch has restarted or forgotten it, what was said before still holds.
        """
        now = monotonic()
        addresses = self._addresses.get(nic, Reach())
        before = said(row, row.connections).resumed() if row is not None else []
        connections = steady(known(entries, addresses, self._arrivals.unused(nic), now), before, now)
        if final and not connections:
            connections = [one for one in before if one.expires > now]
        rest = self._rest(nic, row) | ({"rest": ""} if final else {})
        text = pack(connections, now)
        self._put(nic, row, to=to, connections=text, final=final, taken=self._later(nic), **rest)
        LOG.info("NIC %s: %d connections handed over to %s%s", nic, len(connections), ", ".join(sorted(to)),
                 ", it has left" if final else "")  # fmt: skip

    def _later(self, nic: str) -> int:
        """The time of day in milliseconds, or later: after all that has been said about a NIC."""
        rows = self._replica.find(Handover, nic=nic)
        seen = [self._arrivals.rest(nic)[1], *(max(one.taken, one.took) for one in rows)]
        return max(round(time() * 1000), max(seen) + 1)

    def _put(self, nic: str, row: Handover | None, **values: Any) -> None:
        """Let our row about a NIC say this and nothing else."""
        fresh = Handover(id=handover_id(nic, self._host), nic=nic, host=self._host, **values)
        if row is None:
            self._database.write([Insert(fresh)])
        else:
            names = ("waiting", "to", "connections", "final", "taken", "rest", "took")
            self._change(row, **{name: getattr(fresh, name) for name in names})

    def _change(self, row: Handover, **values: object) -> None:
        """Change what is different in the row."""
        changed = {name: value for name, value in values.items() if getattr(row, name) != value}
        if changed:
            self._database.write([Update(Handover, row.id, changed)])


def _owned(row: Handover | None) -> Reach:
    """The addresses of a NIC that its connections in a row show."""
    return Reach(one.own for one in said(row, row.connections).connections) if row is not None else Reach()
