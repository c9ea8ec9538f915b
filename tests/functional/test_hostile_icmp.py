# SPDX-License-Identifier: Apache-2.0
"""Each ICMP and ICMPv6 type in each direction, where the rules let everything pass: only what has a meaning does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network

import pytest

from flows.inputs import Policy, Rule, Service
from flows.packet import End, Packet
from tests.functional.dummyswitch import DummySwitch, sent_by
from tests.unit.flow_cast import client, client6, server, server6, stranger, stranger6
from tests.unit.flow_world import CLIENT, SERVER, UNITS, UPLINK, WEB, flows_of

pytestmark = pytest.mark.functional
ANYTHING = tuple(Rule(number, Service(), ip_network(net)) for number, net in ((1, "0.0.0.0/0"), (2, "::/0")))
FLOWS = flows_of(
    replace(one, ingress=ANYTHING) if isinstance(one, Policy) and one.number == WEB else one for one in UNITS
)
QUESTIONS = {4: {8, 13, 15}, 6: {128}}
"""What conntrack knows as the begin of a conversation."""
NEIGHBOURS = {4: set[int](), 6: {135, 136}}
"""What says who has an address is held against other tables, whatever the rules (`test_promise_spoofing_nd`)."""
ENDS = {4: (client, server, stranger), 6: (client6, server6, stranger6)}


@pytest.fixture(scope="module")
def real() -> Iterator[DummySwitch]:
    switch = DummySwitch(range(1, 10))
    try:
        switch.load(FLOWS)
        yield switch
    finally:
        switch.close()


def message(source: End, target: End, kind: int, ttl: int) -> bytes:
    """As long as any of its kind, with an identifier of its own."""
    rest = kind.to_bytes(2, "big") + bytes(26)
    make = Packet.icmp if source.ip.version == 4 else Packet.icmp6
    return make(source, target, kind, rest=rest, ttl=ttl).frame


def passing(real: DummySwitch, source: End, target: End, port: int, *, ttl: int) -> set[tuple[int, int]]:
    """The types of which a message gets out, with the port that it leaves by; but for neighbours' ones."""
    found = set()
    for kind in set(range(256)) - NEIGHBOURS[source.ip.version]:
        real.send(message(source, target, kind, ttl), port)
        found |= {(kind, out) for out, _ in sent_by(real)}
    return found


@pytest.mark.parametrize("ttl", [64, 255])
@pytest.mark.parametrize("version", ENDS)
def test_only_questions_begin_anything(real: DummySwitch, version: int, ttl: int) -> None:
    near, far, outside = ENDS[version]
    asked = QUESTIONS[version]
    assert passing(real, near, far, CLIENT.number, ttl=ttl) == {(kind, SERVER.number) for kind in asked}
    assert passing(real, near, outside, CLIENT.number, ttl=ttl) == {(kind, UPLINK) for kind in asked}
    assert passing(real, outside, far, UPLINK, ttl=ttl) == {(kind, SERVER.number) for kind in asked}
