# SPDX-License-Identifier: Apache-2.0
"""The pipeline's own flows on a real Open vSwitch do what the walker says: the unit tests' oracle can be trusted."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest

from flows.packet import BROADCAST, End, Packet
from flows.terms import link_local
from flows.trace import Switch
from tests.functional.dummyswitch import DummySwitch, sent_by, sent_in, traced_by, traced_in
from tests.unit.flow_world import FAR_NODE, GUEST_MAC, HOST, MATE, NODE, PORTS, UPLINK, VRRP4, VRRP6, flows_of, mac_of

FLOWS = flows_of()
ROUTER = 0x0200000000FE
LOCAL = [End(port.mac, address) for port in PORTS for address in port.addresses]
LOCAL += [End(one.mac or port.mac, one.network[0]) for port in PORTS for one in port.allowed]
LINK = [End(mac, link_local(mac)) for mac in (*(port.mac for port in PORTS), GUEST_MAC)]
LINK += [End(ROUTER, ip_address("fe80::1"))]
FAR = [
    End.of("02:00:00:00:00:fd", "10.1.0.2"), End.of("02:00:00:00:00:fd", "fd00:1::2"),
    End.of("02:00:00:00:00:fc", "10.3.0.77"), End.of("02:00:00:00:00:fc", "fd00:3::77"),
    End.of("02:00:00:00:00:fe", "10.2.0.14"), End.of("02:00:00:00:00:fb", "10.1.0.9"),
]  # fmt: skip
ROUTERS = End(0x333300000002, ip_address("ff02::2"))
VRRP_ROUTERS = End(0x01005E000012, ip_address("224.0.0.18"))
VRRP_ROUTERS6 = End(0x333300000012, ip_address("ff02::12"))
DPORTS = (22, 53, 67, 68, 80, 81, 84, 546, 547, 1023, 5300, 12489)
IN_PORTS = (*(port.number for port in PORTS), 9, UPLINK)


@pytest.fixture(scope="module")
def real() -> Iterator[DummySwitch]:
    switch = DummySwitch(IN_PORTS)
    try:
        yield switch
    finally:
        switch.close()


def pair(rng: random.Random) -> tuple[End, End]:
    """Two ends of one family, mostly as they are, sometimes with a wrong MAC."""
    a = rng.choice([*LOCAL, *LOCAL, *FAR])
    b = rng.choice([one for one in (*LOCAL, *FAR) if one.ip.version == a.ip.version])
    if rng.random() < 0.15:
        a, b = rng.choice([(replace(a, mac=b.mac), b), (a, replace(b, mac=a.mac)), (a, replace(b, mac=ROUTER))])
    return a, b


def connection(rng: random.Random) -> list[Packet]:
    """A packet, its answer, what follows, and errors about it."""
    a, b = pair(rng)
    first = rng.choice(
        [
            Packet.tcp(a, b, rng.choice(DPORTS)),
            Packet.udp(a, b, rng.choice(DPORTS), sport=rng.choice((40000, 53, 67, 68, 547))),
            Packet.sctp(a, b, rng.choice((5, 6))),
            Packet.ip(a, b, 47, bytes(8)),
            Packet.icmp(a, b),
            Packet.icmp(a, b, rng.choice((5, 13, 17)) if a.ip.version == 4 else rng.choice((128, 130, 134, 137))),
        ]
    )
    if first.talk is None or not first.talk.starts:
        return [first]
    reply = first.reply()
    stranger = rng.choice((LOCAL[0], FAR[0]))
    return [first, reply, first.follow_up("A"), first.error(), reply.error(), first.error(by=stranger)]


def service(rng: random.Random) -> list[Packet]:
    """ARP, neighbour discovery, DHCP, VRRP and what only routers say."""
    one, other = rng.choice(PORTS), rng.choice(PORTS)
    macs = (one.mac, ROUTER, GUEST_MAC, VRRP4, VRRP6)
    mine = [end for end in (*LOCAL, *FAR, *LINK) if end.mac in macs]
    v4 = [end for end in mine if end.ip.version == 4] or [End(one.mac, ip_address("0.0.0.0"))]
    v6 = [end for end in mine if end.ip.version == 6]
    a, b, six = rng.choice(v4), rng.choice(LOCAL), rng.choice(v6)
    server = rng.choice([end for end in FAR[:2] if end.ip.version == b.ip.version])
    nobody, nobody6 = End(one.mac, ip_address("0.0.0.0")), End(one.mac, ip_address("::"))
    target4 = rng.choice([end.ip for end in (*LOCAL, *FAR) if end.ip.version == 4])
    target6 = rng.choice([end.ip for end in (*LOCAL, *LINK) if end.ip.version == 6])
    lladdr = rng.choice((None, six.mac, other.mac))
    nodes = End(0x333300000001, ip_address("ff02::1"))
    return [
        Packet.arp(a, target4), Packet.arp(a, target4, op=2, dst=b.mac), Packet.arp(nobody, target4),
        Packet.arp(a, a.ip, op=2), Packet.arp(a, target4, sha=other.mac), Packet.rarp(one.mac),
        Packet.rarp(one.mac, sha=other.mac), Packet.solicitation(six, target6, lladdr=lladdr),
        Packet.solicitation(nobody6, target6), Packet.advertisement(six, rng.choice(LINK), target6, lladdr=lladdr),
        Packet.advertisement(six, nodes, target6, lladdr=lladdr), Packet.router_advertisement(six),
        Packet.dhcp(nobody), Packet.dhcp(a), Packet.dhcp(rng.choice(LINK)), Packet.dhcp(FAR[0], from_server=True),
        Packet.dhcp(FAR[0], End(BROADCAST, ip_address("255.255.255.255")), from_server=True),
        Packet.dhcp(FAR[5], End(BROADCAST, ip_address("255.255.255.255")), from_server=True),
        Packet.dhcp(LINK[-1], rng.choice(LINK), from_server=True), Packet.dhcp(b, server),
        Packet.dhcp(server, b, from_server=True), Packet.udp(b, server, 53), Packet.tcp(b, server, 53),
        Packet.dhcp(rng.choice(LINK), FAR[1]), Packet.dhcp(FAR[1], rng.choice(LINK), from_server=True),
        Packet.udp(b, server, 53).tagged(), Packet.icmp6(six, ROUTERS, rng.choice((131, 133)), ttl=255),
        Packet.icmp6(nobody6, ROUTERS, rng.choice((131, 132, 133, 143)), ttl=255),
        Packet.icmp6(six, nodes, 143, rest=bytes(24), ttl=1),
        Packet.ip(End(VRRP4, rng.choice((NODE, MATE, FAR_NODE)).addresses[0]), VRRP_ROUTERS, 112, bytes(20)),
        Packet.ip(End(VRRP6, link_local(rng.choice((NODE, MATE)).mac)), VRRP_ROUTERS6, 112, bytes(20)),
    ]  # fmt: skip


def way_in(rng: random.Random, packet: Packet) -> int:
    """The port where a frame with this source MAC comes from, sometimes another."""
    by_mac = {mac_of(port.number): port.number for port in PORTS} | {GUEST_MAC: HOST.number}
    by_mac |= {VRRP4: rng.choice((NODE, MATE, FAR_NODE)).number, VRRP6: rng.choice((NODE, MATE)).number}
    source = int.from_bytes(packet.frame[6:12], "big")
    return rng.choice(IN_PORTS) if rng.random() < 0.1 else by_mac.get(source, UPLINK)


@pytest.mark.parametrize("seed", range(30))
def test_random_packets(real: DummySwitch, seed: int) -> None:
    rng = random.Random(seed)
    real.load(FLOWS)
    model = Switch(FLOWS, ports=IN_PORTS)
    packets = [packet for _ in range(15) for packet in (*connection(rng), *rng.sample(service(rng), 8))]
    if seed % 3 == 0:
        rng.shuffle(packets)
    for packet in packets:
        port = way_in(rng, packet)
        real.send(packet.frame, port)
        walk = model.walk(packet, port)
        assert sent_by(real) == sent_in(walk), f"{packet} by port {port}: {walk.path} {walk.reason}"


@pytest.mark.parametrize("seed", range(30, 40))
def test_path(real: DummySwitch, seed: int) -> None:
    """ofproto/trace names the same tables and flows for packets of no connection."""
    rng = random.Random(seed)
    real.load(FLOWS)
    model = Switch(FLOWS, ports=IN_PORTS)
    for packet in (packet for _ in range(8) for packet in (*connection(rng), *rng.sample(service(rng), 8))):
        model.conntrack.forget()  # learned flows stay: ofproto/trace learns too
        port = way_in(rng, packet)
        walk = model.walk(packet, port)
        assert traced_by(real, packet, port, walk) == traced_in(walk), f"{packet} by port {port}"


@pytest.mark.parametrize("seed", range(20))
def test_random_fragments(real: DummySwitch, seed: int) -> None:
    """Large datagrams in any order of their pieces, in both directions."""
    rng = random.Random(seed)
    real.load(FLOWS)
    model = Switch(FLOWS, ports=IN_PORTS)
    for ident in range(real.fresh_idents(6), real.fresh_idents(0)):
        a, b = pair(rng)
        rest = bytes(rng.choice((2000, 4000)))
        datagrams = [
            Packet.udp(a, b, rng.choice((53, 80, 5300)), payload=rest),
            Packet.icmp(a, b, rest=bytes(4) + rest),
            Packet.ip(a, b, 47, rest),
        ]
        pieces: Sequence[Packet] = rng.choice(datagrams).fragments(1400, ident)
        pieces = rng.sample(pieces, len(pieces) - (rng.random() < 0.2))
        port = way_in(rng, pieces[0])
        for piece in pieces:
            real.send(piece.frame, port)
        walks = model.walk_pieces(pieces, port)
        assert sent_by(real) == sent_in(*walks), f"{pieces[0]} by port {port}: {walks[-1].path} {walks[-1].reason}"
