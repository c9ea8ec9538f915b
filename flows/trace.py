# SPDX-License-Identifier: Apache-2.0
"""A packet's way through flows, as Open vSwitch would take it, with a small model of conntrack.

It is the oracle of the unit tests and what ``sgctl trace`` shows; functional tests hold it against a real switch.

A `Switch` holds flows, connections and learned flows; `Switch.walk` sends one packet in by a port, `Switch.walk_pieces`
a fragmented one. Both change connections and learned flows as the packet does. Flows that contradict each other at
equal priority raise `Ambiguous`, since a switch may take either.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from flows import fields as f
from flows import headers as h
from flows.conntrack_model import INV, TRK, Connection, Conntrack, Found, Write
from flows.conversation import Conversation
from flows.flow import (
    Action,
    Controller,
    Ct,
    CtClear,
    DecTtl,
    Flow,
    Goto,
    Learn,
    Load,
    Match,
    Meter,
    Move,
    Output,
    OutputBits,
    Pop,
    Push,
    Resubmit,
    SetField,
)
from flows.lookup import Ambiguous, Index
from flows.packet import Packet, reassembled
from flows.tables import TABLES

__all__ = ["Ambiguous", "Sent", "Step", "Switch", "Walk"]

#: OpenFlow's numbers that are not ports: out of the port it came in by, and the bridge's own port.
BACK, LOCAL = 0xFFF8, 0xFFFE
_FIRST_RESERVED = 0xFF00
_STEPS = 4096
#: OVS takes a piece that is not the last and smaller than this for an attack.
_SMALLEST_PIECE = {4: 1200, 16: 1280}


@dataclass(frozen=True, slots=True)
class Step:
    """The packet met `flow` in `table` (None: no flow matched).

    headers: as they were on entering the table.  state: what conntrack has said of it.  resumed: just now.
    """

    table: int
    flow: Flow | None
    headers: int
    state: int = 0
    resumed: bool = False


class Sent(NamedTuple):
    """The packet left by a port, with these headers."""

    port: int
    headers: int


@dataclass(frozen=True, slots=True)
class Walk:
    """All that happened to one packet.

    reason: why it was dropped, or the note of the last flow.  shown: it went to the controller.
    committed: connections that it made or marked.  learned: flows that it installed.
    """

    steps: tuple[Step, ...]
    sent: tuple[Sent, ...]
    reason: str
    shown: bool = False
    committed: tuple[Connection, ...] = ()
    learned: tuple[Flow, ...] = ()

    @property
    def outputs(self) -> tuple[int, ...]:
        """Numbers of the ports that it left by, ascending."""
        return tuple(sorted(one.port for one in self.sent))

    @property
    def path(self) -> tuple[int, ...]:
        """The tables that it met, in order."""
        return tuple(step.table for step in self.steps)

    @property
    def verdict(self) -> str:
        """``delivered`` if it left by any port, else ``dropped``."""
        return "delivered" if self.sent else "dropped"


class Switch:
    """A bridge with flows; `ports`: the ports that exist (None: all); `names`: of its tables (None: the pipeline's)."""

    def __init__(
        self, flows: Iterable[Flow], *, ports: Collection[int] | None = None, names: Mapping[int, str] | None = None
    ) -> None:
        self.index = Index(flows)
        self.ports = ports
        self.names = names if names is not None else {table.id: table.name for table in TABLES}
        self.conntrack = Conntrack()
        self._learned: list[Flow] = []

    def install(self, flows: Iterable[Flow]) -> None:
        """Hold these flows in place of the others; connections stay, and learned flows unless nothing would learn them
        any more that were to stay only as long."""
        before, self.index = _lasting(self.index), Index(flows)
        gone = before - _lasting(self.index)
        self._learned = [flow for flow in self._learned if (flow.table, flow.cookie) not in gone]
        for flow in self._learned:
            self.index.replace(flow)

    @property
    def learned(self) -> tuple[Flow, ...]:
        """Flows that packets have installed."""
        return tuple(self._learned)

    def learn(self, flow: Flow) -> None:
        """Install a learned flow, in place of an equal one."""
        self._learned = [one for one in self._learned if one.key != flow.key]
        self._learned.append(flow)
        self.index.replace(flow)

    def expire(self) -> None:
        """Let all learned flows that have a timeout time out."""
        lasting = _lasting(self.index)
        self._unlearn(flow for flow in self._learned if (flow.table, flow.cookie) not in lasting)

    def forget(self) -> None:
        """Forget all connections and learned flows."""
        self.conntrack.forget()
        self._unlearn(self._learned)

    def _unlearn(self, flows: Iterable[Flow]) -> None:
        for flow in tuple(flows):
            self.index.remove(flow)
            self._learned.remove(flow)

    def walk(self, packet: Packet, in_port: int) -> Walk:
        """Send a packet in by a port. A lone fragment goes as far as conntrack, which waits for the other pieces."""
        return self.walk_pieces((packet,), in_port)[0]

    def walk_pieces(self, pieces: Sequence[Packet], in_port: int) -> tuple[Walk, ...]:
        """Send a packet's fragments in by a port, in this order; conntrack lets them pass when all have reached it.

        As in the switch, all pieces then go on with the registers of the one that arrived last.
        """
        walkers = [_Walker(self, piece) for piece in pieces]
        for walker in walkers:
            walker.enter(0, h.put(walker.packet.headers, f.IN_PORT, in_port))
        while any(walker.waiting for walker in walkers):
            if len(pieces) == 1 and not pieces[0].seen.is_fragment:
                walkers[0].track(pieces[0])
            else:
                self._track_pieces(walkers)
        return tuple(walker.walk() for walker in walkers)

    def _track_pieces(self, walkers: Sequence[_Walker]) -> None:
        """Let the next ct of every piece happen: to all together, or not at all."""
        for walker in walkers:
            if walker.waiting and _is_too_small(walker.packet):
                action, headers = walker.waiting.pop(0)
                walker.resume(action.table, headers, Found(TRK | INV))
        together = [walker for walker in walkers if walker.waiting]
        try:
            talk = reassembled(tuple(walker.packet for walker in together)) if together else None
        except ValueError:
            for walker in together:
                walker.hold()
            return
        if not together:
            return
        action, metadata = together[-1].waiting[0]
        found = together[-1].look_up(action, metadata, talk)
        for walker in together:
            _, own = walker.waiting.pop(0)
            walker.resume(action.table, own & ~h.METADATA | metadata & h.METADATA, found)

    def preset(self, packet: Packet, state: str, *, mark: int = (1 << f.MARKS.width) - 1) -> None:
        """Make this packet part of a connection: ``established`` (by its sender), ``reply``, or ``new`` (none)."""
        if state == "new":
            return
        if state not in ("established", "reply"):
            raise ValueError(f"no state {state}; states: new, established, reply")
        if packet.talk is None:
            raise ValueError("conntrack does not follow such packets")
        way = packet.talk.tuple if state == "established" else packet.talk.tuple.reversed()
        for zone in self.zones:
            self.conntrack.admit(zone, way, mark)

    @property
    def zones(self) -> frozenset[int]:
        """The conntrack zones that flows use."""
        return frozenset(action.zone for flow in self.index for action in flow.actions if isinstance(action, Ct))


def _lasting(index: Index) -> set[tuple[int, int]]:
    """Tables and cookies of what is learned to stay as long as there is a flow that learns it."""
    learns = (action for flow in index for action in flow.actions if isinstance(action, Learn))
    return {(one.table, one.cookie) for one in learns if not one.timeout}


def _is_too_small(packet: Packet) -> bool:
    seen = packet.seen
    return seen.more and seen.length < _SMALLEST_PIECE[len(seen.src)]


@dataclass(slots=True)
class _Walker:
    """One packet on its way."""

    switch: Switch
    packet: Packet
    steps: list[Step] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    waiting: list[tuple[Ct, int]] = field(default_factory=list)
    committed: list[Connection] = field(default_factory=list)
    learned: list[Flow] = field(default_factory=list)
    stack: list[int] = field(default_factory=list)
    resumed: bool = False
    reason: str = ""
    shown: bool = False

    def walk(self) -> Walk:
        """What has happened."""
        reason = self.reason or next((step.flow.note for step in reversed(self.steps) if step.flow), "")
        return Walk(
            tuple(self.steps), tuple(self.sent), reason, self.shown, tuple(self.committed), tuple(self.learned)
        )

    def enter(self, table: int, headers: int) -> None:
        """Run the packet through a table and whatever follows, as one translation; learned flows count after it."""
        before = len(self.learned)
        self._table(table, headers)
        for flow in self.learned[before:]:
            self.switch.learn(flow)

    def hold(self) -> None:
        """Conntrack keeps this piece: others are missing."""
        self.waiting.clear()
        self.reason = "conntrack waits for the other fragments"

    def track(self, packet: Packet) -> None:
        """Let the next ct happen to a whole packet."""
        action, headers = self.waiting.pop(0)
        self.resume(action.table, headers, self.look_up(action, headers, packet.talk))

    def look_up(self, action: Ct, headers: int, talk: Conversation | None) -> Found:
        """Ask conntrack, and let it remember the connection if the action says so."""
        mark, label = _written(action, headers)
        conntrack = self.switch.conntrack
        found = conntrack.track(action.zone, talk, commit=action.commit, mark=mark, label=label)
        connection = conntrack.find(action.zone, found.original) if action.commit and found.original else None
        if connection is not None:
            self.committed.append(connection)
        return found

    def resume(self, table: int, headers: int, found: Found) -> None:
        """Go on after a ct."""
        self.resumed = True
        self.enter(table, _tracked(headers, found))

    def _table(self, table: int, headers: int) -> int:
        if len(self.steps) >= _STEPS:
            raise ValueError(f"the packet goes on for ever; last in table {table}")
        flow = self.switch.index.find(table, headers)
        self.steps.append(Step(table, flow, headers, h.get(headers, f.CT_STATE), self.resumed))
        self.resumed = False
        if flow is None:
            self.reason = f"no flow of {self.switch.names.get(table, f'table {table}')} matches"
            return headers
        return self._run(flow.actions, headers)

    def _run(self, actions: Iterable[Action], headers: int) -> int:
        for action in actions:
            if isinstance(action, Load):
                headers = h.put_bits(headers, action.to, action.value)
            elif isinstance(action, Goto | Resubmit):
                headers = self._table(action.table, headers)
            elif isinstance(action, Move):
                headers = h.put_bits(headers, action.to, h.get_bits(headers, action.source))
            elif isinstance(action, Push):
                self.stack.append(h.get_bits(headers, action.source))
            elif isinstance(action, Pop):
                if not self.stack:
                    raise ValueError("a flow takes more from the stack than there is")
                headers = h.put_bits(headers, action.to, self.stack.pop())
            elif isinstance(action, Ct):
                self.waiting.append((action, headers))
                headers = h.untracked(headers)
            elif isinstance(action, CtClear):
                headers = h.untracked(headers)
            elif isinstance(action, SetField):
                headers = h.put(headers, action.to, action.value)
            elif isinstance(action, Meter):
                continue  # Time does not pass here, so no rate is exceeded.
            elif isinstance(action, DecTtl):
                ttl = h.get(headers, f.IP_TTL)
                if ttl <= 1:
                    self.reason = "the TTL ran out"
                    return headers
                headers = h.put(headers, f.IP_TTL, ttl - 1)
            else:
                self._emit(action, headers)
        return headers

    def _emit(self, action: Output | OutputBits | Controller | Learn, headers: int) -> None:
        """Actions that leave the packet as it is."""
        if isinstance(action, Output):
            self._output(action.port, headers)
        elif isinstance(action, OutputBits):
            self._output(h.get_bits(headers, action.bits), headers)
        elif isinstance(action, Learn):
            self.learned.append(_learned(action, headers))
        else:
            self.shown = True

    def _output(self, port: int, headers: int) -> None:
        came_by = h.get(headers, f.IN_PORT)
        if port == came_by:
            self.reason = "it would leave by the port it came in by"
            return
        if port >= _FIRST_RESERVED and port not in (BACK, LOCAL):
            raise ValueError(f"output to reserved port {port:#x}")
        port = came_by if port == BACK else port
        if port and (self.switch.ports is None or port in self.switch.ports):
            self.sent.append(Sent(port, headers))
        else:
            self.reason = f"there is no port {port}"


def _written(action: Ct, headers: int) -> tuple[Write, Write]:
    """What a ct writes into the mark and the label of the connection."""
    writes = {f.CT_MARK: Write(), f.CT_LABEL: Write()}
    for one in action.execute:
        value = one.value if isinstance(one, Load) else h.get_bits(headers, one.source)
        old, ones = writes[one.to.of], (1 << one.to.width) - 1
        new = Write((value & ones) << one.to.first, ones << one.to.first)
        writes[one.to.of] = Write(new.into(old.value), old.mask | new.mask)
    return writes[f.CT_MARK], writes[f.CT_LABEL]


def _tracked(headers: int, found: Found) -> int:
    """The headers with what conntrack has found."""
    headers = h.put(h.untracked(headers), f.CT_STATE, found.state)
    headers = h.put(h.put(headers, f.CT_MARK, found.mark), f.CT_LABEL, found.label)
    if found.original is not None:
        src, dst = (f.CT_IPV4_SRC, f.CT_IPV4_DST) if len(found.original.src) == 4 else (f.CT_IPV6_SRC, f.CT_IPV6_DST)
        headers = h.put(headers, src, int.from_bytes(found.original.src, "big"))
        headers = h.put(headers, dst, int.from_bytes(found.original.dst, "big"))
    return headers


def _learned(action: Learn, headers: int) -> Flow:
    """The flow that a packet installs."""
    copies = (new.eq(h.get_bits(headers, old)) for new, old in action.copies)
    do: list[Action] = [Load(new, h.get_bits(headers, old)) for new, old in action.loads]
    do += [Output(h.get_bits(headers, action.output))] if action.output is not None else []
    return Flow(
        action.table, action.priority, Match.of(action.match, copies), tuple(do), note="learned", cookie=action.cookie
    )
