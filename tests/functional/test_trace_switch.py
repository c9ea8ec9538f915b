# SPDX-License-Identifier: Apache-2.0
"""The walker does with a packet what a real Open vSwitch does: random flows, random packets, random conversations.

Both get the same frames in the same order, so that the walker's model of conntrack is held against the switch's own.
"""

import random
from collections.abc import Iterator, Sequence

import pytest

from flows import fields as f
from flows.flow import Ct, Flow, Load, Match, Output
from flows.packet import End, Packet
from flows.trace import Switch
from tests.functional.dummyswitch import DummySwitch, sent_by, sent_in, traced_by, traced_in
from tests.functional.randomflows import random_flows

PORTS = range(1, 10)
A, B, C = (End.of(f"02:00:00:00:00:0{n}", f"10.0.0.{n}") for n in (1, 2, 3))
A6, B6, C6 = (End.of(f"02:00:00:00:00:0{n}", f"2001:db8::{n}") for n in (1, 2, 3))
TCP_FLAGS = ("S", "SA", "A", "PA", "FA", "R", "RA", "F", "", "FPU", "SF", "SR")
IP, IP6 = f.ETH_TYPE.eq(0x0800), f.ETH_TYPE.eq(0x86DD)


@pytest.fixture(scope="module")
def real() -> Iterator[DummySwitch]:
    switch = DummySwitch(PORTS)
    try:
        yield switch
    finally:
        switch.close()


def conversation(rng: random.Random, a: End, b: End, c: End) -> list[Packet]:
    """Packets that may have to do with each other, in any order."""
    packets = []
    for x, y, sport, dport in ((a, b, 1000, 80), (b, a, 80, 1000)):
        packets += [Packet.tcp(x, y, dport, sport=sport, flags=flags) for flags in rng.sample(TCP_FLAGS, 4)]
        packets += [Packet.udp(x, y, dport, sport=sport), Packet.icmp(x, y), Packet.icmp(x, y).reply()]
        packets += [Packet.ip(x, y, 47, bytes(8)), Packet.sctp(x, y, dport, sport=sport), Packet.icmp(x, y, 13)]
        packets += [Packet.icmp(x, y, code=1), Packet.icmp(x, y, ttl=1)]
    wanted = rng.sample(packets, 8)
    return wanted + [p.error(by=rng.choice((None, c))) for p in wanted] + [p.error(kind=1) for p in wanted[:2]]


def every_sort(rng: random.Random) -> list[Packet]:
    """Packets of all kinds."""
    packets = conversation(rng, A, B, C) + conversation(rng, A6, B6, C6)
    packets += [Packet.arp(A, B.ip), Packet.rarp(A.mac), Packet.dhcp(A), Packet.dhcp(A6)]
    packets += [Packet.router_advertisement(B6), Packet.solicitation(A6, B6.ip, lladdr=A6.mac)]
    packets.append(Packet.advertisement(B6, A6, B6.ip, lladdr=B6.mac))
    return [*packets, packets[0].tagged(), Packet.arp(B, A.ip, op=2, dst=A.mac, tha=A.mac)]


@pytest.mark.parametrize("seed", range(40))
def test_random_flows(real: DummySwitch, seed: int) -> None:
    rng = random.Random(seed)
    packets = every_sort(rng)
    flows = random_flows(rng, packets, PORTS)
    real.load(flows)
    model = Switch(flows, ports=real.ports)
    for packet in rng.choices(packets, k=60):
        port = rng.choice(real.ports)
        real.send(packet.frame, port)
        sent, walk = sent_by(real), model.walk(packet, port)
        # Two equal copies of a packet share a datapath flow; what the first one learns does not change it at once.
        assert sent == sent_in(walk) or len(walk.learned) > 1, f"{packet} by port {port}"


@pytest.mark.parametrize("seed", range(40, 50))
def test_path(real: DummySwitch, seed: int) -> None:
    """ofproto/trace names the same tables and flows; it knows no connections, so each packet is the first."""
    rng = random.Random(seed)
    packets = every_sort(rng)
    flows = random_flows(rng, packets, PORTS, learn=False)
    real.load(flows)
    model = Switch(flows, ports=real.ports)
    for packet in rng.sample(packets, 20):
        model.forget()
        port = rng.choice(real.ports)
        walk = model.walk(packet, port)
        assert traced_by(real, packet, port, walk) == traced_in(walk)


#: Every state of conntrack leaves by a port of its own; what is new and unmarked is committed first.
STATES = {
    "+trk+inv,0": 3, "+trk+inv,1": 4, "+trk+rel+rpl-inv,1": 5, "+trk+rel-rpl-inv,1": 6, "+trk+new-rel-inv,1": 7,
    "+trk+est-rpl-rel-inv,1": 8, "+trk+est+rpl-rel-inv,1": 9,
}  # fmt: skip


def state_flows() -> list[Flow]:
    flows = []
    for kind in (IP, IP6):
        flows.append(Flow(0, 1, Match.of(kind), (Ct(1, 1),)))
        for state, port in STATES.items():
            flags, mark = state.split(",")
            flows.append(Flow(1, 2, Match.of(kind, f.ct_state(flags), f.CT_MARK.eq(int(mark))), (Output(port),)))
        new = Match.of(kind, f.ct_state("+trk+new-rel-inv"), f.CT_MARK.eq(0))
        flows.append(Flow(1, 2, new, (Ct(1, 2, commit=True, execute=(Load(f.ORIGIN_OK, 1),)),)))
    return [*flows, Flow(2, 1, Match.of(f.ct_state("+trk-inv")), (Output(2),))]


@pytest.mark.parametrize("ends", [(A, B, C), (A6, B6, C6)], ids=["v4", "v6"])
@pytest.mark.parametrize("seed", range(30))
def test_states(real: DummySwitch, ends: Sequence[End], seed: int) -> None:
    """Random orders of packets of the same connections give the same states."""
    rng = random.Random(seed)
    flows = state_flows()
    real.load(flows)
    model = Switch(flows)
    packets = conversation(rng, *ends)
    history: list[Packet] = []
    for packet in rng.choices(packets, k=40):
        history.append(packet)
        real.send(packet.frame, 1)
        said = [(str(p), p.talk) for p in history]
        assert sent_by(real) == sent_in(model.walk(packet, 1)), said


def fragment_flows() -> list[Flow]:
    """Only UDP port 53 may pass; later pieces go to the commit, which lets them pass if the first piece did."""
    flows = [Flow(2, 1, Match.of(f.ct_state("+trk-inv")), (Output(2),))]
    commit = Ct(1, 2, commit=True)
    for kind in (IP, IP6):
        udp = Match.of(kind, f.IP_PROTO.eq(17), f.UDP_DST.eq(53), f.ct_state("+trk+new"))
        flows += [Flow(0, 5, Match.of(kind), (Ct(1, 1),)), Flow(1, 3, udp, (commit,))]
        flows.append(Flow(1, 2, Match.of(kind, f.IP_FRAG.masked(3, 3), f.ct_state("+trk+new")), (commit,)))
        flows.append(Flow(1, 9, Match.of(kind, f.ct_state("+trk+inv")), (Output(3),)))
        flows.append(Flow(1, 1, Match.of(kind, f.ct_state("+trk+est")), (Output(4),)))
    return flows


@pytest.mark.parametrize("ends", [(A, B), (A6, B6)], ids=["v4", "v6"])
@pytest.mark.parametrize("dport", [53, 54])
@pytest.mark.parametrize("size", [400, 1400])
def test_fragments(real: DummySwitch, ends: Sequence[End], dport: int, size: int) -> None:
    """All orders of three pieces, large enough and too small; a lone piece is held."""
    flows = fragment_flows()
    real.load(flows)
    model = Switch(flows)
    whole = Packet.udp(*ends, dport, payload=bytes(2 * size + 100))
    for ident, order in enumerate([(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2), (2,)], start=real.fresh_idents(5)):
        pieces = whole.fragments(size, ident)
        arriving = [pieces[n] for n in order]
        for piece in arriving:
            real.send(piece.frame, 1)
        assert sent_by(real) == sent_in(*model.walk_pieces(arriving, 1)), order
