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
from collections.abc import Iterator

import pytest

from flows import frames
from flows.packet import Packet
from flows.trace import Switch
from tests.functional.dummyswitch import DummySwitch, sent_by, sent_in
from tests.functional.test_trace_pipeline import FLOWS, IN_PORTS, connection, service, way_in
from tests.unit.flow_world import CLIENT, SERVER

ETHERNET, IPV4, IPV6, ICMPV6, ND_TARGET = 14, 0x0800, 0x86DD, 58, 62
CRAFTED = 1500
DHCP = re.compile(r"udp_(src|dst)=(67|68|546|547)\b")
MOST_MASKS = 80
"""Ways in which the switch may look at one VM's packets, whatever it sends."""


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
    """Connections and services, but for DHCP, whose learned flows count a moment later where decisions are cached."""
    asked = [one for one in service(rng) if not DHCP.search(str(one))]
    return [*connection(rng), *rng.sample(asked, 6)]


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
    lines = real.control("dpctl/dump-flows", "-m").splitlines()
    flows = (line.partition(" packets:")[0] for line in lines if "actions:" in line)
    return {re.sub(r"(?<=[=(])[^=(),/]+(?=[,/)])", "", flow.partition("recirc_id")[2]) for flow in flows}


def crafted(rng: random.Random) -> Packet:
    """Anything from the client's own address, to anywhere."""
    near, far = CLIENT.addresses[0], rng.choice((SERVER.addresses[0].packed, rng.randbytes(4)))
    proto = rng.choice((1, 6, 17, 132, 47, rng.randrange(256)))
    payload = rng.randbytes(rng.choice((0, 4, 8, 24)))
    fragment = rng.choice((0, 0, 0, 0x2000, 0x2000 | rng.randrange(1, 100), rng.randrange(1, 100)))
    head = struct.pack("!BBHHHBBH", 0x45, rng.randrange(256), 20 + len(payload), rng.randrange(65536), fragment,
                       rng.randrange(1, 256), proto, 0)  # fmt: skip
    data = bytearray(SERVER.mac.to_bytes(6, "big") + CLIENT.mac.to_bytes(6, "big") + struct.pack("!H", IPV4))
    data += head + near.packed + far + payload
    _sum(data)
    return Packet.parse(bytes(data))


def test_a_guest_cannot_blow_up_the_cache(real: DummySwitch) -> None:
    rng = random.Random(25076)
    real.load(FLOWS)
    real.control("revalidator/purge")
    for number in range(CRAFTED):
        real.receive(crafted(rng).frame, CLIENT.number)
        if number % 50 == 49:
            real.sent()
    seen = masks(real)
    assert 1 < len(seen) <= MOST_MASKS, len(seen)
