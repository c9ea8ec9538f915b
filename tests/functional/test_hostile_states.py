# SPDX-License-Identifier: Apache-2.0
"""Nobody talks conntrack into a connection: segments without a handshake, in all states, on a real switch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from flows.packet import End, Packet
from tests.functional.dummyswitch import BRIDGE, DummySwitch, sent_by
from tests.unit.flow_cast import client, client6, server, server6, stranger, stranger6
from tests.unit.flow_world import CLIENT, SERVER, UPLINK, flows_of

pytestmark = pytest.mark.functional
#: SYN with anything, replies, middles, ends, NULL, XMAS.
FLAGS = ("S", "SA", "A", "PA", "FA", "R", "RA", "F", "", "FPU", "SF", "SR", "SFRPAU")
#: What the switch takes for the begin of a connection; the rest of the flags above is invalid as a first segment.
FIRST = ("S", "A", "PA", "FA", "R", "RA")
PAIRS = {4: (client, server), 6: (client6, server6)}
OPEN, CLOSED = 80, 22


@pytest.fixture(scope="module")
def real() -> Iterator[DummySwitch]:
    switch = DummySwitch(range(1, 10))
    try:
        yield switch
    finally:
        switch.close()


def ports(real: DummySwitch, packet: Packet, port: int) -> list[int]:
    """The ports that a packet leaves by."""
    real.send(packet.frame, port)
    return [one for one, _ in sent_by(real)]


def segment(a: End, b: End, dport: int, flags: str, sport: int = 40000) -> Packet:
    return Packet.tcp(a, b, dport, sport=sport, flags=flags)


@pytest.mark.parametrize("version", PAIRS)
@pytest.mark.parametrize("flags", FLAGS)
def test_a_closed_port_is_closed_to_every_first_segment(real: DummySwitch, version: int, flags: str) -> None:
    near, far = PAIRS[version]
    outside = {4: stranger, 6: stranger6}[version]
    real.load(flows_of())
    assert ports(real, segment(near, far, CLOSED, flags), CLIENT.number) == []
    assert ports(real, segment(outside, far, CLOSED, flags), UPLINK) == []
    expected = [SERVER.number] if flags in FIRST else []
    assert ports(real, segment(near, far, OPEN, flags), CLIENT.number) == expected


@pytest.mark.parametrize("version", PAIRS)
@pytest.mark.parametrize("flags", FLAGS)
def test_the_reply_to_a_refused_segment_is_refused(real: DummySwitch, version: int, flags: str) -> None:
    """The server may send anything but the client refuses it: that leaves nothing that the client could answer."""
    near, far = PAIRS[version]
    real.load(flows_of())
    opening = segment(far, near, 7777, "S", CLOSED)
    assert ports(real, opening, SERVER.number) == []
    assert ports(real, segment(near, far, CLOSED, flags, 7777), CLIENT.number) == []


def decided(real: DummySwitch, packet: Packet, port: int, brought: str) -> list[str]:
    """What the switch does with a packet that comes with a conntrack state, if it is new in our zone; step by step."""
    told = real.control("ofproto/trace", "--ct-next", "trk,new", BRIDGE, f"in_port={port},{packet},{brought}")
    return [re.sub(r"\(0x\w+\)", "", one) for one in re.findall(r"^Datapath actions: (.*)$", told, re.MULTILINE)]


def outputs(steps: list[str]) -> list[str]:
    """The ports that the last step sends to."""
    return [word for word in steps[-1].split(",") if word.isdigit()]


@pytest.mark.parametrize("version", PAIRS)
@pytest.mark.parametrize(("dport", "out"), [(OPEN, [str(SERVER.number)]), (CLOSED, [])])
def test_a_state_that_a_frame_brings_along_counts_for_nothing(
    real: DummySwitch, version: int, dport: int, out: list[str]
) -> None:
    """Of the host's or another bridge's conntrack: as established in our zone, and as accepted by both ends."""
    (near, far), outside = PAIRS[version], {4: stranger, 6: stranger6}[version]
    real.load(flows_of())
    for source, port in ((near, CLIENT.number), (outside, UPLINK)):
        packet = segment(source, far, dport, "A")
        plain = decided(real, packet, port, "ct_state=0")
        assert (plain[0], outputs(plain)) == ("ct(zone=1),recirc", out)
        first, *rest = decided(real, packet, port, "ct_state=trk|est,ct_zone=1,ct_mark=0x3,ct_label=0x8000000000")
        assert [first.removeprefix("ct_clear,"), *rest] == plain and first.startswith("ct_clear,")
        forged = segment(replace(source, ip=far.ip), far, dport, "A")
        assert outputs(decided(real, forged, port, "ct_state=trk|est,ct_zone=1,ct_mark=0x3")) == []


@pytest.mark.parametrize("version", PAIRS)
def test_an_open_connection_opens_nothing_beside_it(real: DummySwitch, version: int) -> None:
    """After an honest handshake its own segments pass, and neighbouring ports are as closed as before."""
    near, far = PAIRS[version]
    real.load(flows_of())
    assert ports(real, segment(near, far, OPEN, "S"), CLIENT.number) == [SERVER.number]
    assert ports(real, segment(far, near, 40000, "SA", OPEN), SERVER.number) == [CLIENT.number]
    assert ports(real, segment(near, far, OPEN, "A"), CLIENT.number) == [SERVER.number]
    for flags in FLAGS:
        assert ports(real, segment(near, far, CLOSED, flags), CLIENT.number) == []
        assert ports(real, segment(far, near, 40001, flags, OPEN), SERVER.number) == []
