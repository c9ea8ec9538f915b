# SPDX-License-Identifier: Apache-2.0
"""A hypervisor accepts what hand-overs name and nothing else, whatever is handed over and whatever is sent.

Two VMs that no rule lets say or hear anything have brought connections along; they, and two machines on the wire, send
packets. What passes is of a connection that all its ends here have brought along; and all of that passes.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.inputs import Moved, Policy, Resumed
from flows.packet import Packet
from flows.pipeline import build
from flows.trace import Switch
from sgctl import handover
from sgctl.handover import ICMP, ICMPV6, SCTP, Carried, endings
from tests.unit.flow_cast import ROUTER_MAC, at, end
from tests.unit.flow_handover import enter
from tests.unit.flow_world import BRIDGE, POD, UPLINK, flows_of, port

TCP, UDP, GRE = 6, 17, 47
SHUT = 0x5117
VMS = (port(1, "10.1.0.11", "fd00:1::11", policy=SHUT), port(2, "10.1.0.12", "fd00:1::12", policy=SHUT))
CLOSED = flows_of((BRIDGE, POD, *VMS, Policy(SHUT, egress_open=False)))
WIRE = {4: ("10.3.0.77", "10.3.0.78"), 6: ("fd00:3::77", "fd00:3::78")}
ENDS = {
    version: (*(end(vm, version=version) for vm in VMS), *(at(ROUTER_MAC, address) for address in addresses))
    for version, addresses in WIRE.items()
}
NUMBERS = (1, 2)


class Talk(NamedTuple):
    """A connection: who has opened it to whom (places in `ENDS`), and its ports (ICMP: the first is its identifier)."""

    version: int
    proto: int
    opener: int
    other: int
    sport: int
    dport: int

    @property
    def kind(self) -> int:
        """The protocol in its IP version."""
        return ICMPV6 if (self.proto, self.version) == (ICMP, 6) else self.proto

    def seen_by(self, vm: int) -> Carried:
        """As it looks from one of its ends, as the hand-over names it."""
        ends, opened = ENDS[self.version], vm == self.opener
        own, peer = (self.opener, self.other) if opened else (self.other, self.opener)
        mine, its = (self.sport, self.dport) if opened else (self.dport, self.sport)
        if self.proto == ICMP:
            mine, its = self.sport, (8 if self.version == 4 else 128) << 8
        elif self.proto in (GRE, SCTP):
            mine = its = 0
        return Carried(self.kind, str(ends[own].ip), str(ends[peer].ip), mine, its, opened, 7, 2000)

    def packet(self, *, reply: bool, flags: str, size: int) -> Packet:
        """A packet of it, in the opener's direction or the other."""
        ends = ENDS[self.version]
        a, b = (self.other, self.opener) if reply else (self.opener, self.other)
        sport, dport = (self.dport, self.sport) if reply else (self.sport, self.dport)
        src, dst, data = ends[a], ends[b], bytes(size)
        if self.proto == TCP:
            return Packet.tcp(src, dst, dport, sport=sport, flags=flags, payload=data)
        if self.proto == UDP:
            return Packet.udp(src, dst, dport, sport=sport, payload=data)
        if self.proto == ICMP:
            kind = (0 if reply else 8) if self.version == 4 else (129 if reply else 128)
            return Packet.icmp(src, dst, kind, rest=self.sport.to_bytes(2, "big") + b"\0\1" + data)
        if self.proto == SCTP:
            return Packet.sctp(src, dst, dport, sport=sport)
        return Packet.ip(src, dst, GRE, data + b"gre")


PAIRS = [(a, b) for a in range(4) for b in range(4) if a != b and min(a, b) < 2]


def talk(version: int, proto: int, pair: tuple[int, int], sport: int, dport: int) -> Talk:
    """Two ends have one SCTP association, whoever has opened it, since conntrack knows it without ports."""
    opener, other = sorted(pair, reverse=version == 6) if proto == SCTP else pair
    return Talk(version, proto, opener, other, sport, dport)


PORTS = st.sampled_from((5, 6))
TALKS = st.builds(
    talk, st.sampled_from((4, 6)), st.sampled_from((TCP, UDP, ICMP, SCTP, GRE)), st.sampled_from(PAIRS), PORTS, PORTS
)
#: Which of its ends here have brought it along.
HANDED = st.dictionaries(TALKS, st.sets(st.sampled_from((0, 1)), min_size=1), max_size=6)
SENT = st.tuples(TALKS, st.booleans(), st.sampled_from(("S", "PA", "A")), st.sampled_from((0, 3000)))


def place(loads: dict[int, list[Carried]]) -> Switch:
    """The bridge after hand-overs as the agent makes them: flows, and entries for what has tickets."""
    flows = list(CLOSED)
    for vm, load in loads.items():
        flows += build(Moved(VMS[vm].nic, NUMBERS[vm]), BRIDGE)
        for until, some in endings(load, 0).items():
            flows += build(Resumed(VMS[vm].nic, NUMBERS[vm], until, some.connections, some.pieces), BRIDGE)
    bridge = Switch(flows)
    for one in (one for load in loads.values() for one in load if one.ticketed):
        enter(bridge, one)
    return bridge


@pytest.mark.parametrize("crowd", [handover.CROWD, 0], ids=["few peers", "many"])
@settings(max_examples=60, deadline=None)
@given(HANDED, st.lists(SENT, max_size=8), st.data())
def test_what_passes_is_named_and_what_is_named_passes(
    crowd: int, handed: dict[Talk, set[int]], sent: list[tuple[Talk, bool, str, int]], data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(handover, "CROWD", crowd)
        hold(handed, sent, data)


def hold(handed: dict[Talk, set[int]], sent: list[tuple[Talk, bool, str, int]], data: st.DataObject) -> None:
    """Hand connections over and send packets."""
    here = {talk: {vm for vm in vms if vm in (talk.opener, talk.other)} for talk, vms in handed.items()}
    loads = {vm: [talk.seen_by(vm) for talk, vms in here.items() if vm in vms] for vm in (0, 1)}
    names = {vm: {one.key for one in load} for vm, load in loads.items()}
    bridge = place({vm: load for vm, load in loads.items() if load})
    more = st.sampled_from(sorted(handed)) if handed else st.nothing()
    for any_talk, reply, flags, size in sent:
        # Half of the packets are of connections that somebody has named.
        one = data.draw(more) if handed and data.draw(st.booleans()) else any_talk
        packet = one.packet(reply=reply, flags=flags, size=size)
        source, target = (one.other, one.opener) if reply else (one.opener, one.other)
        pieces = packet.fragments(1400) if size and one.proto != SCTP else (packet,)
        walks = bridge.walk_pieces(pieces, NUMBERS[source] if source < 2 else UPLINK)
        out = {walk.outputs for walk in walks}
        assert len(out) == 1
        named = all(one.seen_by(vm).key in names[vm] for vm in (source, target) if vm < 2)
        passes = named and (one.proto != SCTP or reply)
        leaves = (NUMBERS[target] if target < 2 else UPLINK,)
        if one.proto == TCP and "S" in flags:
            # Nothing is opened by it; in a connection that goes on already it may be a stray.
            assert out in ({()}, {leaves}) if named else out == {()}
        else:
            assert out == {leaves if passes else ()}, (one, reply, walks[0].reason)
