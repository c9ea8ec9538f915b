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
from tests.unit.flow_cast import (
    ALL_NODES,
    ALL_ROUTERS,
    MLD_GROUP,
    ROUTER_MAC,
    at,
    client,
    client6,
    link,
    nobody6,
    router_link,
    server,
    server6,
    stranger,
    stranger6,
)
from tests.unit.flow_world import CLIENT, FANOUTS, SERVER, UNITS, UPLINK, WEB, flows_of

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


GROUPS = {"nodes": at(*ALL_NODES), "routers": at(*ALL_ROUTERS), "listeners": at(*MLD_GROUP)}
RS, RA, REPORTS = 133, 134, (131, 132, 143)
#: By sender: the group, the type and the hop limit of what passes, for whom.
TO_WIRE = (UPLINK,)
REPORTED = {(name, kind, ttl): TO_WIRE for name in GROUPS for kind in REPORTS for ttl in (1, 255)}
FROM_LINK = {**REPORTED, ("routers", RS, 255): TO_WIRE}
ADVERTISED = {(name, RA, 255): tuple(port for one in FANOUTS for port in one.ports) for name in GROUPS}
MANY: dict[str, tuple[End, int, dict[tuple[str, int, int], tuple[int, ...]]]] = {
    "a VM's address": (client6, CLIENT.number, {}),
    "a VM's link-local address": (link(CLIENT), CLIENT.number, FROM_LINK),
    "a VM without address": (nobody6, CLIENT.number, FROM_LINK),
    "another VM's link-local address": (at(CLIENT.mac, str(link(SERVER).ip)), CLIENT.number, {}),
    "a machine on the wire": (stranger6, UPLINK, {}),
    "a router": (router_link, UPLINK, ADVERTISED),
    "nobody on the wire": (at(ROUTER_MAC, "::"), UPLINK, {}),
}


@pytest.mark.parametrize("name", MANY)
def test_many_hear_routers_only(real: DummySwitch, name: str) -> None:
    """Each type, to groups of the link: VMs hear advertisements of routers alone, and the wire what VMs may say."""
    source, port, expected = MANY[name]
    found: dict[tuple[str, int, int], tuple[int, ...]] = {}
    for group, to in GROUPS.items():
        for kind in range(256):
            for ttl in (1, 255):
                real.send(message(source, to, kind, ttl), port)
                if outs := tuple(out for out, _ in sent_by(real)):
                    found[group, kind, ttl] = outs
    assert found == expected
