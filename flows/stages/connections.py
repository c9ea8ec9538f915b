# SPDX-License-Identifier: Apache-2.0
"""CONNTRACK, STATE, RELATED and COMMIT: one conntrack zone, one look-up.

Two bits of the connection's mark say which of its ends on this hypervisor have accepted it: ORIGIN_OK, the
originator's egress, and RESPONDER_OK, the responder's ingress. A packet passes if the ends that are here have; for
one in the reply direction the ends are swapped. The mark counts, not ``+est``: a one-way UDP stream stays ``+new``
until a reply, and yet is a connection whose rule may go. Neither addresses nor ports are looked at, so established
traffic is few megaflows.

A packet of a pair of VMs that meet by way of a router crosses this twice, with one connection: the second COMMIT adds
its mark and its half of the label to the first's.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows import fields as f
from flows.bands import Band
from flows.fields import Bits, MatchField, Term, ct_state
from flows.flow import Action, Ct, Flow, Load, Move
from flows.inputs import Bridge, Port
from flows.make import act, drop, go
from flows.tables import COMMIT, CONNTRACK, EGRESS_PEER, INGRESS_PEER, OUTPUT, RELATED, STATE
from flows.terms import (
    FAMILY,
    FOR_VM,
    FOR_WIRE,
    FROM_VM,
    FROM_WIRE,
    ICMP_PROTO,
    IPV4,
    IPV6,
    SCTP_PROTO,
    sender,
)

VALID = ct_state("+trk-inv")
_RELATED = ct_state("+trk-inv+rel")
_ORIGINAL = ct_state("+trk-inv-rpl")
_REPLY = ct_state("+trk-inv+rpl")
_NOT_RELATED = ct_state("-rel")
_ACCEPTED = "accepted before"
#: ICMP errors that steer a host instead of telling it what failed, RFC 792.
_STEERING = {4: "source quench", 5: "redirect"}

_CT_ENDS: dict[int, tuple[MatchField, MatchField]] = {
    4: (f.CT_IPV4_SRC, f.CT_IPV4_DST),
    6: (f.CT_IPV6_SRC, f.CT_IPV6_DST),
}


def bridge_flows(bridge: Bridge) -> Iterator[Flow]:
    """The life of a connection."""
    for family in (IPV4, IPV6):
        look_up = Ct(zone=bridge.zone, table=STATE.id)
        yield act(CONNTRACK, Band.ALLOW, "look the connection up", family, do=(look_up,))
    yield from _refused()
    yield from _accepted()
    yield go(STATE, Band.EXCEPT, "ICMP error of a VM", FROM_VM, _RELATED, to=RELATED)
    new = ct_state("+trk-inv-rpl-rel")
    yield go(STATE, Band.ALLOW, "new, from a VM", FROM_VM, new, to=EGRESS_PEER)
    yield go(STATE, Band.ALLOW, "new, from the wire", FROM_WIRE, new, to=INGRESS_PEER)
    yield from _commits(bridge)


def _refused() -> Iterator[Flow]:
    yield drop(STATE, Band.FIRST, "invalid", ct_state("+inv"))
    for kind, name in _STEERING.items():
        error = (_RELATED, IPV4, f.IP_PROTO.eq(ICMP_PROTO), f.ICMP_TYPE.eq(kind))
        yield drop(STATE, Band.FIRST, f"ICMP {name}", error)
    yield drop(STATE, Band.REFUSE, "reply to a connection that was not accepted", _REPLY)
    yield drop(STATE, Band.REFUSE, "ICMP error about a connection that was not accepted", _RELATED)


def _accepted() -> Iterator[Flow]:
    origin, responder = f.ORIGIN_OK.eq(1), f.RESPONDER_OK.eq(1)
    pair = (FROM_VM, FOR_VM, VALID, _NOT_RELATED, origin, responder)
    yield go(STATE, Band.EXCEPT, _ACCEPTED, pair, to=OUTPUT)
    for ends, asks, answers in (
        ((FROM_VM, FOR_WIRE, _NOT_RELATED), origin, responder),
        ((FROM_WIRE, FOR_VM), responder, origin),
    ):
        yield go(STATE, Band.EXCEPT, _ACCEPTED, ends, _ORIGINAL, asks, to=OUTPUT)
        yield go(STATE, Band.EXCEPT, _ACCEPTED, ends, _REPLY, answers, to=OUTPUT)
    yield from _sctp()


def _sctp() -> Iterator[Flow]:
    """SCTP is held against the rules packet by packet: the userspace datapath tracks it by addresses without ports."""
    for family in (IPV4, IPV6):
        for side, table in ((FROM_VM, EGRESS_PEER), (FROM_WIRE, INGRESS_PEER)):
            packet = (family, f.IP_PROTO.eq(SCTP_PROTO), ct_state("+trk-inv-rpl-rel"), side)
            yield go(STATE, Band.FIRST, "SCTP, checked each time", packet, to=table)


def _commits(bridge: Bridge) -> Iterator[Flow]:
    egress, ingress = Move(f.EGRESS_RULE, f.LABEL_EGRESS), Move(f.INGRESS_RULE, f.LABEL_INGRESS)
    cases: tuple[tuple[tuple[Term, Term], tuple[Load | Move, ...]], ...] = (
        ((FROM_VM, FOR_VM), (Load(f.MARKS, 3), egress, ingress)),
        ((FROM_VM, FOR_WIRE), (Load(f.ORIGIN_OK, 1), egress)),
        ((FROM_WIRE, FOR_VM), (Load(f.RESPONDER_OK, 1), ingress)),
    )
    for ends, remember in cases:
        for family in (IPV4, IPV6):
            commit: Action = Ct(zone=bridge.zone, table=OUTPUT.id, commit=True, execute=remember)
            yield act(COMMIT, Band.ALLOW, "accepted now", ends, family, VALID, do=(commit,))


def port_flows(port: Port) -> Iterator[Flow]:
    """A VM may send ICMP errors about connections that it is an end of, and has accepted."""
    for address in port.addresses:
        origin, responder = _CT_ENDS[address.version]
        yield _end(port, FAMILY[address.version], origin.eq(int(address)), f.ORIGIN_OK)
        yield _end(port, FAMILY[address.version], responder.eq(int(address)), f.RESPONDER_OK)


def _end(port: Port, family: Term, end: Term, accepted: Bits) -> Flow:
    terms = (sender(port), family, _RELATED, end, accepted.eq(1))
    return go(RELATED, Band.ALLOW, "about its own connection", terms, to=OUTPUT)
