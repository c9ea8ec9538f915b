# SPDX-License-Identifier: Apache-2.0
"""The switch's cache of decisions cannot be poisoned, nor blown up, by what a guest sends.

Open vSwitch remembers a decision for all packets that look the same in the fields that it has looked at. Faults in what
it thinks it has looked at were CVE-2016-10377, CVE-2020-35498, CVE-2023-1668 and CVE-2023-5366; a cache of ever other
masks was CVE-2019-25076.
"""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

import pytest

from flows import frames
from flows.flow import Flow
from flows.inputs import Policy, Rule, Service
from flows.packet import End, Packet
from flows.trace import Switch
from tests.functional.dummyswitch import DummySwitch, sent_by, sent_in
from tests.functional.test_trace_pipeline import FLOWS, IN_PORTS, connection, service, way_in
from tests.unit.flow_cast import (
    ROUTER_MAC,
    caged,
    caged6,
    client,
    client6,
    dhcp,
    dhcp6,
    nagios,
    nagios6,
    partner,
    partner6,
    router_link,
    server,
    server6,
)
from tests.unit.flow_world import CAGED, CLIENT, LOCKED, SERVER, TCP, UDP, UNITS, VRRP4, VRRP6, flows_of, rule

ETHERNET, IPV4, IPV6, ICMPV6, ND_TARGET = 14, 0x0800, 0x86DD, 58, 62
CRAFTED = 1500
DHCP = re.compile(r"udp_(src|dst)=(67|68|546|547)\b")
VIRTUAL_MACS = tuple(mac.to_bytes(6, "big") for mac in (VRRP4, VRRP6))
MOST_MASKS, PER_LENGTH = 80, {4: 4, 6: 6}
"""Ways in which the switch may look at one VM's packets, if they are random; and for each length of a prefix.

IPv6 has more, since some types of ICMPv6 are services and each of their bits may tell one from the others.
"""
PORT_BITS = 16
_DHCP_PORTS = {4: (67, 68), 6: (546, 547)}
QUEUE = 50
"""So many frames a port takes before the switch has looked at one."""
KNOWN = {4: (server, dhcp, nagios, partner), 6: (server6, dhcp6, nagios6, partner6, router_link)}


@pytest.fixture(scope="module")
def real() -> Iterator[DummySwitch]:
    switch = DummySwitch(IN_PORTS)
    try:
        yield switch
    finally:
        switch.close()


def odd(rng: random.Random, frame: bytes) -> bytes:
    """A frame that differs in one field from one that is decided about before or after it."""
    data, kind = bytearray(frame), int.from_bytes(frame[12:14], "big")
    if kind in (IPV4, IPV6) and rng.random() < 0.2:
        return frame + bytes(rng.choice((1, 255, 256, 600)))
    if kind == IPV6:
        at, value = rng.choice(((6, 0), (6, 59), (6, rng.randrange(256)), (7, rng.randrange(256)), (1, 0xFF)))
        data[ETHERNET + at] = value
        if data[ETHERNET + 6] == ICMPV6 and len(data) >= ND_TARGET + 16:
            data[ND_TARGET + rng.randrange(16)] ^= 1 << rng.randrange(8)
    elif kind == IPV4:
        at, value = rng.choice(((9, 0), (9, rng.randrange(256)), (8, rng.randrange(1, 256)), (1, 0xFC), (6, 0x40)))
        data[ETHERNET + at] = value
        _sum(data)
    return bytes(data)


def _sum(data: bytearray) -> None:
    """Make the checksum of an IPv4 header right."""
    head = data[ETHERNET : ETHERNET + 20]
    head[10:12] = bytes(2)
    data[ETHERNET + 10 : ETHERNET + 12] = struct.pack("!H", frames.checksum(bytes(head)))


def ordinary(rng: random.Random) -> list[Packet]:
    """Connections and services, but for DHCP and what tells where a virtual MAC is: learned flows count a moment later
    where decisions are cached."""
    asked = [one for one in service(rng) if not DHCP.search(str(one)) and one.frame[6:12] not in VIRTUAL_MACS]
    return [*connection(rng), *rng.sample(asked, min(6, len(asked)))]


@pytest.mark.parametrize("seed", range(12))
def test_what_came_before_decides_over_nothing_else(real: DummySwitch, seed: int) -> None:
    rng = random.Random(seed)
    real.load(FLOWS)
    real.control("revalidator/purge")
    model = Switch(FLOWS, ports=IN_PORTS)
    packets = [packet for _ in range(8) for packet in ordinary(rng)]
    packets += [Packet.parse(odd(rng, packet.frame)) for packet in packets]
    rng.shuffle(packets)
    for packet in packets:
        port = way_in(rng, packet)
        real.receive(packet.frame, port)
        walk = model.walk(packet, port)
        assert sent_by(real) == sent_in(walk), f"{packet} by port {port}: {walk.path} {walk.reason}"


def masks(real: DummySwitch) -> set[str]:
    """In which ways the cached decisions look at packets: their fields with masks, without values."""
    return ways(real.control("dpctl/dump-flows", "-m").splitlines())


def ways(lines: Iterable[str]) -> set[str]:
    """The same, of lines of ``dpctl/dump-flows -m``."""
    flows = (line.partition(" packets:")[0] for line in lines if "actions:" in line)
    return {_mask(flow.partition("recirc_id")[2]) for flow in flows}


def _mask(flow: str) -> str:
    """Whose fields that nobody has looked at are left out; all protocols have their ports in the same place."""
    text = re.sub(r"(?<=[=(])[^=(),/]+(?=[,/)])", "", flow)
    text = re.sub(r"(\w+=|\()/(?:0x0|0|::|0\.0\.0\.0)(?=[,)])", lambda found: "(" if found[1] == "(" else "", text)
    text = re.sub(r"\b(?:tcp|udp|sctp)\(", "ports(", text)
    return re.sub(r"\w+\(,*\),?", "", text)


def crafted(rng: random.Random, version: int) -> Packet:
    """Anything from the client's own address, to anywhere."""
    data = bytearray(SERVER.mac.to_bytes(6, "big") + CLIENT.mac.to_bytes(6, "big"))
    data += _crafted6(rng) if version == 6 else _crafted4(rng)
    return Packet.parse(bytes(data))


def _crafted4(rng: random.Random) -> bytes:
    near, far = CLIENT.addresses[0], rng.choice((SERVER.addresses[0].packed, rng.randbytes(4)))
    proto = rng.choice((1, 6, 17, 132, 47, rng.randrange(256)))
    payload = rng.randbytes(rng.choice((0, 4, 8, 24)))
    fragment = rng.choice((0, 0, 0, 0x2000, 0x2000 | rng.randrange(1, 100), rng.randrange(1, 100)))
    head = struct.pack("!BBHHHBBH", 0x45, rng.randrange(256), 20 + len(payload), rng.randrange(65536), fragment,
                       rng.randrange(1, 256), proto, 0)  # fmt: skip
    head = bytearray(head + near.packed + far)
    struct.pack_into("!H", head, 10, frames.checksum(bytes(head)))
    return struct.pack("!H", IPV4) + head + payload


def _crafted6(rng: random.Random) -> bytes:
    near = CLIENT.addresses[1]
    far = rng.choice((SERVER.addresses[2].packed, rng.randbytes(16), bytes.fromhex("ff02") + rng.randbytes(14)))
    proto = rng.choice((6, 17, 58, 132, 47, 59, rng.randrange(256)))
    payload = rng.randbytes(rng.choice((0, 4, 8, 24, 40)))
    for _ in range(rng.choice((0, 0, 1, 2))):
        kind = rng.choice((0, 43, 44, 60))
        payload = bytes((proto, 0)) + rng.randbytes(6) + payload
        proto = kind
    words = 6 << 28 | rng.randrange(1 << 28)
    head = struct.pack("!IHBB", words, len(payload), proto, rng.choice((1, 64, 255, rng.randrange(256))))
    return struct.pack("!H", IPV6) + head + near.packed + far + payload


def looked_at(
    real: DummySwitch, packets: Iterable[Packet], *, flows: Iterable[Flow] = FLOWS, port: int = CLIENT.number
) -> set[str]:
    """The ways in which the switch has looked at what a VM sends."""
    real.load(flows)
    real.control("revalidator/purge")
    for number, packet in enumerate(packets, 1):
        real.receive(packet.frame, port)
        if number % QUEUE == 0:
            real.sent()
    real.sent()
    return masks(real)


@pytest.mark.parametrize("version", [4, 6])
def test_a_guest_cannot_blow_up_the_cache(real: DummySwitch, version: int) -> None:
    rng = random.Random(25076)
    seen = looked_at(real, (crafted(rng, version) for _ in range(CRAFTED)))
    assert 1 < len(seen) <= MOST_MASKS, len(seen)


def kin(rng: random.Random, version: int) -> Iterator[Packet]:
    """To addresses that have ever more bits in common with those that the switch knows."""
    near = client if version == 4 else client6
    for known in KNOWN[version]:
        for bit in range(known.ip.max_prefixlen):
            far = End(rng.choice((SERVER.mac, ROUTER_MAC)), ip_address(int(known.ip) ^ 1 << bit))
            yield Packet.udp(near, far, rng.randrange(65536))
            yield Packet.tcp(near, far, rng.randrange(65536), flags="A")
            yield Packet.icmp(near, far, rng.randrange(256), ttl=rng.choice((1, 64, 255)))


@pytest.mark.parametrize("version", [4, 6])
def test_a_guest_that_knows_all_prefixes_makes_a_few_ways_for_each_length(real: DummySwitch, version: int) -> None:
    """Its own address is looked at as a whole: of addresses, only the lengths of prefixes of the other's count."""
    lengths = KNOWN[version][0].ip.max_prefixlen
    seen = looked_at(real, kin(random.Random(25076), version))
    assert lengths // 4 < len(seen) <= lengths * PER_LENGTH[version], len(seen)


def products(version: int, near: End) -> Iterator[Packet]:
    """To addresses and ports that both have ever more bits in common with those that the switch has flows about."""
    known, port = (nagios, nagios6)[version == 6], max(_DHCP_PORTS[version])
    for bit in range(known.ip.max_prefixlen):
        far = End(ROUTER_MAC, ip_address(int(known.ip) ^ 1 << bit))
        for one in range(PORT_BITS):
            yield Packet.udp(near, far, port ^ 1 << one)


@pytest.mark.parametrize("version", [4, 6])
def test_prefixes_of_ports_do_not_multiply_with_those_of_addresses(real: DummySwitch, version: int) -> None:
    """Without egress rules, addresses are not looked at where ports are."""
    seen = looked_at(real, products(version, (client, client6)[version == 6]))
    assert PORT_BITS < len(seen) <= _most(version), len(seen)


def _most(version: int) -> int:
    """As many ways as there are lengths of addresses and, before and after conntrack, of ports."""
    return KNOWN[version][0].ip.max_prefixlen + 2 * PORT_BITS


def caged_by(*rules: Rule) -> tuple[Flow, ...]:
    """The bridge, where the groups of the one with egress rules have these."""
    policy = Policy(LOCKED, egress_open=False, egress=rules)
    return flows_of(policy if isinstance(unit, Policy) and unit.number == LOCKED else unit for unit in UNITS)


TO_GROUP = (rule(9, Service(UDP, 600, 600), None, 7), rule(8, Service(TCP, 547, 547), None, 7))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("rules", [(), TO_GROUP], ids=["nothing", "to a group"])
def test_nor_where_all_rules_name_groups(real: DummySwitch, version: int, rules: tuple[Rule, ...]) -> None:
    """Ports are looked at only where the address is one of a group, DHCP's only where a rule lets the packet out."""
    packets = products(version, (caged, caged6)[version == 6])
    seen = looked_at(real, packets, flows=caged_by(*rules), port=CAGED.number)
    assert PORT_BITS < len(seen) <= _most(version), len(seen)


def test_rules_for_ports_of_everybody_multiply_them_and_nothing_else(real: DummySwitch) -> None:
    """So many ways make each packet of this one VM dear (`tests/bench/kinds.py`); those of others have caches apart."""
    flows = caged_by(*TO_GROUP, rule(7, Service(UDP, 600, 700), "::/0"))
    seen = looked_at(real, products(6, caged6), flows=flows, port=CAGED.number)
    lengths = caged6.ip.max_prefixlen
    assert lengths * PER_LENGTH[6] < len(seen) <= lengths * (PORT_BITS + PER_LENGTH[6]), len(seen)
