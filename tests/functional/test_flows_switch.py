# SPDX-License-Identifier: Apache-2.0
"""A real Open vSwitch accepts every flow as it is meant, and does with every packet of `flow_cases` what it must."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows.inputs import Bridge, Policy
from flows.packet import Packet
from tests.functional.dummyswitch import DummySwitch
from tests.unit.flow_cases import CASES, CONNECTIONS, FRAGMENT_CASES, fragments
from tests.unit.flow_cast import ROUTER_MAC, Case, at, caged, caged6, client, partner, partner6, server
from tests.unit.flow_world import BRIDGE, CAGED, CLIENT, UNITS, UPLINK, flows_of

pytestmark = pytest.mark.functional
FLOWS = flows_of()


@pytest.fixture(scope="module")
def real() -> Iterator[DummySwitch]:
    switch = DummySwitch(range(1, 14))
    try:
        yield switch
    finally:
        switch.close()


def play(real: DummySwitch, case: Case) -> None:
    for hop in case:
        for piece in hop.pieces:
            real.send(piece.frame, hop.port)
        sent = {port: len(frames) for port, frames in real.sent().items()}
        assert sent == dict.fromkeys(hop.out, len(hop.pieces)), f"{hop.pieces[0]} by {hop.port}"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_packets(real: DummySwitch, case: Case) -> None:
    real.load(FLOWS)
    play(real, case)


@pytest.mark.parametrize("number", range(FRAGMENT_CASES))
def test_fragments(real: DummySwitch, number: int) -> None:
    real.load(FLOWS)
    play(real, list(fragments(real.fresh_idents(FRAGMENT_CASES)).values())[number])


@pytest.mark.parametrize(
    ("packet", "port", "label"),
    [
        (Packet.tcp(partner, server, 1000), UPLINK, 0x33 << 32),
        (Packet.udp(partner, server, 1000), UPLINK, 0x42 << 32),
        (Packet.tcp(caged6, partner6, 1999), CAGED.number, 0x92),
    ],
)
def test_a_bundled_rule_is_remembered(real: DummySwitch, packet: Packet, port: int, label: int) -> None:
    """It is the one whose network and service the connection has."""
    real.load(FLOWS)
    real.send(packet.frame, port)
    assert real.sent()
    assert re.findall(r"labels=(0x\w+)", real.control("dpctl/dump-conntrack")) == [hex(label)]


@pytest.mark.parametrize("bridge", [BRIDGE, Bridge(uplinks=()), Bridge(uplinks=(8, 9), zone=7)], ids=repr)
def test_read_back(real: DummySwitch, bridge: Bridge, tmp_path: Path) -> None:
    """The switch holds what was sent: nothing refused, merged or changed."""
    flows = flows_of((bridge, *UNITS[1:]), bridge)
    real.load(flows)
    sent = tmp_path / "sent"
    sent.write_text("".join(f"{flow}\n" for flow in flows))
    assert real.differences(sent) == []


def without_rules(policy: Policy) -> Policy:
    return replace(policy, egress_open=False, egress=(), ingress=())


@pytest.mark.parametrize("name", ["between VMs", "to the wire", "one way", "through the router"])
def test_revoking_keeps_connections(real: DummySwitch, name: str) -> None:
    """Every rule goes while a connection is open, even one without an answer yet: it stays, and no new one starts."""
    closed = flows_of(without_rules(unit) if isinstance(unit, Policy) else unit for unit in UNITS)
    case = CONNECTIONS[name]
    real.load(FLOWS)
    play(real, case)
    real.replace(closed)
    play(real, case[1:] + case[2:])
    real.load(closed)
    play(real, (replace(case[0], out=()),))


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("between VMs", "mark=3,labels=0x8000000000"),
        ("to the wire", "mark=1"),
        ("through the router", "mark=3,labels=0x8000000000"),
    ],
)
def test_one_entry_remembers_marks_and_rules(real: DummySwitch, name: str, entry: str) -> None:
    """The web server's rule 0x80 let them in; who sent them needed none."""
    real.load(FLOWS)
    play(real, CONNECTIONS[name])
    (only,) = real.control("dpctl/dump-conntrack").splitlines()
    assert entry in only


def passed(real: DummySwitch, frames: list[bytes], port: int) -> Counter[int]:
    """How many frames left by each port. Its queue holds 100, of which each round of the switch takes one."""
    left: Counter[int] = Counter()
    for number, frame in enumerate(frames, 1):
        real.receive(frame, port)
        deadline = time.monotonic() + 30
        while number % 50 == 0 and left.total() < number and time.monotonic() < deadline:
            left.update({out: len(sent) for out, sent in real.sent().items()})
    return left


def _settled(line: str) -> bool:
    """A datapath flow, unless it is about fragments of other tests that the switch gives up just now."""
    return "actions:" in line and "frag=later" not in line


def test_established_traffic_is_few_megaflows(real: DummySwitch) -> None:
    """1000 connections between two VMs, and from 1000 addresses to one: two datapath flows per direction."""
    pair = [Packet.udp(client, caged, 1000 + 7 * n, sport=1024 + 37 * n) for n in range(1000)]
    crowd = [Packet.udp(client, at(ROUTER_MAC, f"198.51.{n // 250}.{n % 250}"), 4711) for n in range(1000)]
    for connections, there in ((pair, CAGED.number), (crowd, UPLINK)):
        real.load(FLOWS)
        for _ in range(2):
            real.control("revalidator/purge")
            assert passed(real, [packet.frame for packet in connections], CLIENT.number) == {there: 1000}
            assert passed(real, [packet.reply().frame for packet in connections], there) == {CLIENT.number: 1000}
        flows = [line for line in real.control("dpctl/dump-flows").splitlines() if _settled(line)]
        assert len(flows) == 4, "\n".join(flows)
