# SPDX-License-Identifier: Apache-2.0
"""CONNTRACK, STATE, RELATED and COMMIT: one conntrack zone, one look-up.

Two bits of the connection's mark say which of its ends on this hypervisor have accepted it: ORIGIN_OK, the
originator's egress, and RESPONDER_OK, the responder's ingress. A packet passes if the ends that are here have; for
one in the reply direction the ends are swapped. The mark counts, not ``+est``: a one-way UDP stream stays ``+new``
until a reply, and yet is a connection whose rule may go. Neither addresses nor ports are looked at, so established
traffic is few megaflows.

Conntrack's direction is that of the packet it saw first, which need not be that of who opened the connection: after a
restart of the switch it may be an answer. If then the other end comes here with nothing handed over, its packets are
replies to what only one end has accepted. The other end's rules are asked about them as about new ones in their own
direction. What nobody has accepted, or nobody any more (`sgctl.cuts`), gets no reply.

A packet of a pair of VMs that meet by way of a router crosses this twice, with one connection: the second COMMIT adds
its mark and its half of the label to the first's.

A VM's bounds (`flows.meters`) stand where conntrack remembers something for it: in CONNTRACK on fragments, in STATE on
connections that it opens, in COMMIT on those that others open to it and that its rules accept, so that refused packets
of others do not use them up.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows import fields as f
from flows.bands import Band
from flows.fields import Bits, MatchField, Term, ct_state
from flows.flow import Ct, Flow, Load, Move, Terms
from flows.inputs import Bridge, Port
from flows.make import act, drop, go
from flows.meters import Bound, within
from flows.tables import COMMIT, CONNTRACK, EGRESS_PEER, INGRESS_PEER, OUTPUT, RELATED, RESUMED_SENDER, STATE
from flows.terms import (
    FAMILY,
    FOR_VM,
    FOR_WIRE,
    FRAGMENT,
    FROM_VM,
    FROM_WIRE,
    ICMP_PROTO,
    IPV4,
    IPV6,
    SCTP_PROTO,
    families,
    inside,
    receiver,
    sender,
)

VALID = ct_state("+trk-inv")
_RELATED = ct_state("+trk-inv+rel")
_ORIGINAL = ct_state("+trk-inv-rpl")
_REPLY = ct_state("+trk-inv+rpl")
_NOT_RELATED = ct_state("-rel")
_NEW = ct_state("+trk-inv-rpl-rel")
#: ICMP errors that steer a host instead of telling it what failed, RFC 792.
_STEERING = {4: "source quench", 5: "redirect"}

_EGRESS_RULE, _INGRESS_RULE = Move(f.EGRESS_RULE, f.LABEL_EGRESS), Move(f.INGRESS_RULE, f.LABEL_INGRESS)
_ACCEPTED_BY_RESPONDER: tuple[Load | Move, ...] = (Load(f.RESPONDER_OK, 1), _INGRESS_RULE)
#: In the reply direction the sender is the responder, whose half of the label is the second.
_REPLY_EGRESS_RULE, _REPLY_INGRESS_RULE = Move(f.EGRESS_RULE, f.LABEL_INGRESS), Move(f.INGRESS_RULE, f.LABEL_EGRESS)

_CT_ENDS: dict[int, tuple[MatchField, MatchField]] = {
    4: (f.CT_IPV4_SRC, f.CT_IPV4_DST),
    6: (f.CT_IPV6_SRC, f.CT_IPV6_DST),
}


def bridge_flows(bridge: Bridge) -> Iterator[Flow]:
    """The life of a connection."""
    for family in (IPV4, IPV6):
        yield act(CONNTRACK, Band.ALLOW, "look the connection up", family, do=(_look_up(bridge),))
    yield from _refused()
    for terms in accepted():
        yield go(STATE, Band.EXCEPT, "accepted before", terms, to=OUTPUT)
    yield from _sctp()
    yield go(STATE, Band.EXCEPT, "ICMP error of a VM", FROM_VM, _RELATED, to=RELATED)
    yield go(STATE, Band.ALLOW, "new, from a VM", FROM_VM, _NEW, to=EGRESS_PEER)
    yield go(STATE, Band.ALLOW, "new, from the wire", FROM_WIRE, _NEW, to=INGRESS_PEER)
    yield from _half_accepted()
    yield from _commits(bridge)


def _look_up(bridge: Bridge) -> Ct:
    return Ct(zone=bridge.zone, table=STATE.id)


def _refused() -> Iterator[Flow]:
    yield drop(STATE, Band.FIRST, "invalid", ct_state("+inv"))
    for kind, name in _STEERING.items():
        error = (_RELATED, IPV4, f.IP_PROTO.eq(ICMP_PROTO), f.ICMP_TYPE.eq(kind))
        yield drop(STATE, Band.FIRST, f"ICMP {name}", error)
    yield drop(STATE, Band.REFUSE, "reply to a connection that was not accepted", _REPLY)
    yield drop(STATE, Band.REFUSE, "ICMP error about a connection that was not accepted", _RELATED)


def accepted() -> Iterator[Terms]:
    """The packets of connections that all ends on this hypervisor have accepted."""
    origin, responder = f.ORIGIN_OK.eq(1), f.RESPONDER_OK.eq(1)
    yield (FROM_VM, FOR_VM, VALID, _NOT_RELATED, origin, responder)
    for ends, asks, answers in (
        ((FROM_VM, FOR_WIRE, _NOT_RELATED), origin, responder),
        ((FROM_WIRE, FOR_VM), responder, origin),
    ):
        yield (ends, _ORIGINAL, asks)
        yield (ends, _REPLY, answers)


def _half_accepted() -> Iterator[Flow]:
    """Replies in a connection that their receiver has accepted and their sender has not, or the other way round."""
    local, enters = (FROM_VM, FOR_VM, _REPLY, _NOT_RELATED), (FROM_WIRE, FOR_VM, _REPLY, _NOT_RELATED)
    by_origin, by_responder = f.MARKS.eq(1), f.MARKS.eq(2)
    asked = (Load(f.RECEIVER_RESUMES, 1), Move(f.LABEL_EGRESS, f.INGRESS_RULE))
    answered = (Move(f.LABEL_INGRESS, f.EGRESS_RULE),)
    yield go(STATE, Band.EXCEPT, "reply that its receiver accepts", local, by_origin, to=EGRESS_PEER, do=asked)
    yield go(STATE, Band.EXCEPT, "reply that its sender accepts", local, by_responder, to=INGRESS_PEER, do=answered)
    yield go(STATE, Band.EXCEPT, "reply of one that was here", enters, by_responder, to=INGRESS_PEER)


def _sctp() -> Iterator[Flow]:
    """SCTP is held against the rules packet by packet: the userspace datapath tracks it by addresses without ports."""
    sides = ((FROM_VM, f.ORIGIN_OK, EGRESS_PEER), (FROM_WIRE, f.RESPONDER_OK, INGRESS_PEER))
    for family in (IPV4, IPV6):
        for side, accepted, table in sides:
            packet = (family, f.IP_PROTO.eq(SCTP_PROTO), _NEW, side, accepted.eq(1))
            yield go(STATE, Band.FIRST, "SCTP, checked each time", packet, to=table)


def _commits(bridge: Bridge) -> Iterator[Flow]:
    local, enters = (FROM_VM, FOR_VM), (FROM_WIRE, FOR_VM)
    cases: tuple[tuple[tuple[Term, Term], Term, tuple[Load | Move, ...]], ...] = (
        (local, _ORIGINAL, (Load(f.MARKS, 3), _EGRESS_RULE, _INGRESS_RULE)),
        ((FROM_VM, FOR_WIRE), _ORIGINAL, (Load(f.ORIGIN_OK, 1), _EGRESS_RULE)),
        (enters, _ORIGINAL, _ACCEPTED_BY_RESPONDER),
        (local, _REPLY, (Load(f.MARKS, 3), _REPLY_EGRESS_RULE, _REPLY_INGRESS_RULE)),
        (enters, _REPLY, (Load(f.ORIGIN_OK, 1), _REPLY_INGRESS_RULE)),
    )
    for ends, state, remember in cases:
        for family in (IPV4, IPV6):
            yield act(COMMIT, Band.ALLOW, "accepted now", ends, family, state, do=(_commit(bridge, remember),))


def _commit(bridge: Bridge, remember: tuple[Load | Move, ...]) -> Ct:
    return Ct(zone=bridge.zone, table=OUTPUT.id, commit=True, execute=remember)


def port_flows(port: Port, bridge: Bridge) -> Iterator[Flow]:
    """A VM may send ICMP errors about connections that it is an end of, and has accepted; and what bounds it."""
    yield from _bounded(port, bridge)
    for address in port.held:
        origin, responder = _CT_ENDS[address.version]
        yield _end(port, FAMILY[address.version], inside(origin, address), f.ORIGIN_OK)
        yield _end(port, FAMILY[address.version], inside(responder, address), f.RESPONDER_OK)


def _end(port: Port, family: Term, end: Term, accepted: Bits) -> Flow:
    terms = (sender(port), family, _RELATED, end, accepted.eq(1))
    return go(RELATED, Band.ALLOW, "about its own connection", terms, to=OUTPUT)


def _bounded(port: Port, bridge: Bridge) -> Iterator[Flow]:
    """The VM's fragments and new connections, as many as its bounds allow; no flows for what has no bound."""
    limits = bridge.limits
    if limits.connections and port.held:
        opens = (sender(port), _NEW, f.ORIGIN_OK.eq(0))
        yield go(STATE, Band.EXCEPT, "new, from this VM", opens, to=EGRESS_PEER, do=within(Bound.OPENED, port, bridge))
    for family in families(port):
        if limits.fragments:
            yield _fragments(Bound.FRAGMENTS_SENT, port, bridge, sender(port), family)
        if limits.fragments and bridge.uplinks:
            yield _fragments(Bound.FRAGMENTS_RECEIVED, port, bridge, receiver(port), family)
        if limits.connections and bridge.uplinks:
            asked = (receiver(port), family, _ORIGINAL, f.RESPONDER_OK.eq(0))
            accepted = within(Bound.ACCEPTED, port, bridge, _commit(bridge, _ACCEPTED_BY_RESPONDER))
            yield act(COMMIT, Band.EXCEPT, "accepted now by this VM", asked, do=accepted)


def _fragments(bound: Bound, port: Port, bridge: Bridge, end: tuple[Term, ...], family: Term) -> Flow:
    """A fragment is always held against what was brought along: its bound's flow hides those of a VM that has moved."""
    look_up = within(bound, port, bridge, Ct(zone=bridge.zone, table=RESUMED_SENDER.id))
    return act(CONNTRACK, Band.EXCEPT, "fragment of this VM's", end, family, FRAGMENT, do=look_up)
