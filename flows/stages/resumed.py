# SPDX-License-Identifier: Apache-2.0
"""RESUMED_SENDER, RESUMED_RECEIVER and RESUMED: connections that a VM brings along from another hypervisor.

The switch of the hypervisor that a VM comes to has no conntrack entries of its connections, and the rules that let
them in may be gone. So the old hypervisor hands them over, and two flows per connection, which expire when its entry
would have, stand for the acceptance of the VM's end until the first packet makes an entry again. They never stand for
the other end's: if that is a VM of this hypervisor too, its own mark, its own flows here or its rules must say yes.

A SYN is never part of a connection that was brought along. Later fragments have no ports: those between the same two
addresses go on to COMMIT, whose own look-up never completes a packet whose first fragment was refused, as with rules.
So it does no harm either that for a VM with many peers a single flow takes the later fragments of all of them.

No flow can tell ICMP conversations apart, whose identifier cannot be matched, nor SCTP associations, which conntrack
knows by their addresses. For these the agent makes the entry anew (`sgctl.handover.remade`), without marks, so that it
means nothing by itself, but with a *ticket* in its label; and what is accepted is that ticket, for as long as the flow
lives. Of SCTP that is the direction of replies: the other one is held against the rules packet by packet (STATE).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TypeAlias

from flows import fields as f
from flows.bands import Band
from flows.fields import MatchField, Term, ct_state
from flows.flow import Action, Ct, Flow, Goto, Load, Match, Move, claim, digest_of
from flows.inputs import Bridge, Connection, Ip, Moved, Pieces, Resumed
from flows.make import act, go
from flows.stages.connections import accepted
from flows.tables import (
    COMMIT,
    CONNTRACK,
    INGRESS_PEER,
    OUTPUT,
    RESUMED,
    RESUMED_RECEIVER,
    RESUMED_SENDER,
    STATE,
    Table,
)
from flows.terms import (
    FAMILY,
    FOR_VM,
    FOR_WIRE,
    FROM_VM,
    FROM_WIRE,
    IPV4,
    IPV6,
    LATER_FRAGMENT,
    SCTP_PROTO,
    TCP_PROTO,
    UDP_PROTO,
    destination,
    source,
)

_TRACKED = ct_state("+trk-inv-rel")
_ORIGINAL = ct_state("+trk-inv-rel-rpl")
_REPLY = ct_state("+trk-inv-rel+rpl")
_SENDER, _RECEIVER, _BOTH = (f.RESUMES.eq(ends) for ends in (1, 2, 3))
_NOT_SYN = f.TCP_FLAGS.masked(0, 0x002)
_PORTS: dict[int, tuple[MatchField, MatchField]] = {
    TCP_PROTO: (f.TCP_SRC, f.TCP_DST),
    UDP_PROTO: (f.UDP_SRC, f.UDP_DST),
}
_NOTE = "brought along"
#: Of a connection: whether it has a ticket, the family, protocol and rule.
_Kind: TypeAlias = tuple[bool, type[Ip], int, int]
_source, _destination = lru_cache(1 << 14)(source), lru_cache(1 << 14)(destination)
#: Later fragments lose to what names a connection, and what names an entry wins.
_PIECES, _CONNECTION, _TICKET = Band.ALLOW, Band.ALLOW + 1, Band.ALLOW + 2


def bridge_flows(bridge: Bridge) -> Iterator[Flow]:
    """What is accepted already or was not brought along goes the ordinary way."""
    for terms in accepted():
        yield go(RESUMED_SENDER, Band.EXCEPT, "accepted before", terms, to=STATE)
    yield go(RESUMED_SENDER, Band.OTHERWISE, "the sender has not brought it along", to=RESUMED_RECEIVER)
    yield go(RESUMED_RECEIVER, Band.OTHERWISE, "the receiver has not brought it along", to=RESUMED)
    yield go(RESUMED, Band.OTHERWISE, "not brought along", to=STATE)
    yield from _originals()
    yield from _replies(bridge)


def _originals() -> Iterator[Flow]:
    """Packets in the direction of who opened the connection, as conntrack sees it: COMMIT remembers it."""
    wires = (FROM_VM, FOR_WIRE, _SENDER), (FROM_WIRE, FOR_VM, _RECEIVER)
    for ends in (*wires, (FROM_VM, FOR_VM, _BOTH)):
        yield go(RESUMED, Band.RESUME, _NOTE, ends, _ORIGINAL, to=COMMIT)
    sent, received = (FROM_VM, FOR_VM, _SENDER, _ORIGINAL), (FROM_VM, FOR_VM, _RECEIVER, _ORIGINAL)
    keep_in, keep_out = Move(f.LABEL_INGRESS, f.INGRESS_RULE), Move(f.LABEL_EGRESS, f.EGRESS_RULE)
    yield go(RESUMED, Band.EXCEPT, _NOTE, sent, f.RESPONDER_OK.eq(1), to=COMMIT, do=(keep_in,))
    yield go(RESUMED, Band.EXCEPT, _NOTE, received, f.ORIGIN_OK.eq(1), to=COMMIT, do=(keep_out,))
    yield go(RESUMED, Band.RESUME, "brought along by the sender", sent, to=INGRESS_PEER)


def _replies(bridge: Bridge) -> Iterator[Flow]:
    """Replies in a connection that the other end, here too, has accepted."""
    pair = (FROM_VM, FOR_VM)
    cases: tuple[tuple[tuple[Term, ...], Load], ...] = (
        ((FROM_VM, FOR_WIRE, _SENDER), Load(f.RESPONDER_OK, 1)),
        ((FROM_WIRE, FOR_VM, _RECEIVER), Load(f.ORIGIN_OK, 1)),
        ((*pair, _SENDER, f.ORIGIN_OK.eq(1)), Load(f.RESPONDER_OK, 1)),
        ((*pair, _RECEIVER, f.RESPONDER_OK.eq(1)), Load(f.ORIGIN_OK, 1)),
        ((*pair, _BOTH), Load(f.MARKS, 3)),
    )
    for ends, mark in cases:
        commit = Ct(zone=bridge.zone, table=OUTPUT.id, commit=True, execute=(mark,))
        for family in (IPV4, IPV6):
            yield act(RESUMED, Band.RESUME, _NOTE, ends, family, _REPLY, do=(commit,))


def moved_flows(moved: Moved, bridge: Bridge) -> Iterator[Flow]:
    """The VM's packets are held against what it has brought along."""
    look_up = Ct(zone=bridge.zone, table=RESUMED_SENDER.id)
    for end in (_from(moved.number), _to(moved.number)):
        for family in (IPV4, IPV6):
            yield act(CONNTRACK, Band.RESUME, "has it been brought along?", end, family, do=(look_up,))


def resumed_flows(resumed: Resumed, scope: int = 0) -> Iterator[Flow]:
    """Both directions of each connection, for as long as its entry had left.

    There may be ten thousand connections, for whose flows a move waits. So what they share is made once, and the flows
    are finished here: with their owner, and with their cookies if there is a `scope`.
    """
    named: defaultdict[_Kind, list[Connection]] = defaultdict(list)
    for one in resumed.connections:
        named[(one.ticket > 0, type(one.own), one.proto, one.rule)].append(one)
    for side in _Side(RESUMED_SENDER, resumed, scope), _Side(RESUMED_RECEIVER, resumed, scope):
        for (ticket, *_), some in named.items():
            yield from map(side.ticket, some) if ticket else side.flows(some)
        yield from map(side.later, resumed.pieces)


class _Side:
    """The flows of one of the two tables."""

    def __init__(self, table: Table, resumed: Resumed, scope: int) -> None:
        self._table, self._owner, self._scope = table.id, resumed.owner, scope
        self._sends = table is RESUMED_SENDER
        if self._sends:
            self._end, self._to = _from(resumed.number), RESUMED_RECEIVER
            self._resumes, self._rule = f.SENDER_RESUMES, f.EGRESS_RULE
        else:
            self._end, self._to = _to(resumed.number), RESUMED
            self._resumes, self._rule = f.RECEIVER_RESUMES, f.INGRESS_RULE

    def flows(self, connections: Sequence[Connection]) -> Iterator[Flow]:
        """The flows for packets of connections that are alike but for their addresses, ports and time."""
        first = connections[0]
        before, after = self._around(first.own.version, first.proto)
        actions, form = self._actions(first.rule), ""
        for one in connections:
            proto, own, peer, own_port, peer_port, _, expires, _, _ = one
            if self._sends:
                terms = (*before, _source(own), _destination(peer), *_ports(proto, own_port, peer_port), *after)
            else:
                terms = (*before, _source(peer), _destination(own), *_ports(proto, peer_port, own_port), *after)
            match = Match(terms)
            form = form or Flow(self._table, _CONNECTION, match, actions).wording()
            cookie = self._scope and self._scope | digest_of(form % tuple([value for _, value, _ in terms]))
            yield Flow(self._table, _CONNECTION, match, actions, self._owner, _NOTE, cookie, expires)

    def ticket(self, one: Connection) -> Flow:
        """The flow for packets of the connection whose entry has a ticket."""
        state = _REPLY if one.proto == SCTP_PROTO else _TRACKED
        src, dst = (one.own, one.peer) if self._sends else (one.peer, one.own)
        ticket = (f.ORIGIN_TICKET if one.opened else f.RESPONDER_TICKET).eq(one.ticket)
        match = Match.of(self._end, state, FAMILY[src.version], source(src), destination(dst), ticket)
        return self._make(_TICKET, match, one.rule, one.expires)

    def later(self, pieces: Pieces) -> Flow:
        """The flow for later fragments between two addresses, or of one and all others."""
        own, peer = pieces.own, pieces.peer
        here, there = (source, destination) if self._sends else (destination, source)
        ends = (here(own), there(peer) if peer else ())
        match = Match.of(self._end, _TRACKED, FAMILY[pieces.own.version], LATER_FRAGMENT, *ends)
        return self._make(_PIECES, match, pieces.rule, pieces.expires)

    def _make(self, priority: int, match: Match, rule: int, expires: int) -> Flow:
        actions = self._actions(rule)
        flow = Flow(self._table, priority, match, actions, note=_NOTE, expires=expires)
        return claim(flow, self._owner, self._scope)

    def _actions(self, rule: int) -> tuple[Action, ...]:
        return (Load(self._resumes, 1), Load(self._rule, rule), Goto(self._to.id))

    def _around(self, version: int, proto: int) -> tuple[tuple[Term, ...], tuple[Term, ...]]:
        """The terms that come before, and after, addresses and ports in the fields' order."""
        before = Match.of(self._end, _TRACKED, FAMILY[version], f.IP_PROTO.eq(proto))
        return before.terms, (_NOT_SYN,) if proto == TCP_PROTO else ()


def _from(number: int) -> tuple[Term, ...]:
    return (f.SRC_PORT.eq(number), FROM_VM)


def _to(number: int) -> tuple[Term, ...]:
    return (f.OUT_PORT.eq(number), FOR_VM)


def _ports(proto: int, sport: int, dport: int) -> tuple[Term, ...]:
    if proto not in _PORTS:
        return ()
    source_port, destination_port = _PORTS[proto]
    return source_port.eq(sport), destination_port.eq(dport)
