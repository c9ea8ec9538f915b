# SPDX-License-Identifier: Apache-2.0
"""How many cached flows traffic leaves in a real switch's datapath: none per client, few per port scan."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from flows.inputs import Peer, Policy, Service
from flows.packet import End, Packet
from tests.functional.dummyswitch import DummySwitch
from tests.unit.flow_cast import ROUTER_MAC, C, S, U, client, client6, server, server6, stranger, stranger6
from tests.unit.flow_world import NAGIOS, POLICIES, TCP, UNITS, WEB, bundle, flows_of, rule

pytestmark = pytest.mark.functional
CLIENTS = 1000
ESTABLISHED, SCANNED = 10, 30
QUEUE = 50
"""So many frames a port takes before the switch has looked at one; 100 are too many."""
_MEMBERS = {4: int(IPv4Address("10.77.0.0")), 6: int(IPv6Address("fd00:77::"))}
SERVICES = tuple(rule(0x400 + n, Service(TCP, 8000 + 7 * n, 8003 + 7 * n), f"10.1.{n}.0/24") for n in range(20))


def members(version: int) -> list[End]:
    """Members of a group that the server's rules name, behind the router."""
    return [End(ROUTER_MAC, ip_address(_MEMBERS[version] + n)) for n in range(CLIENTS)]


def world() -> list[object]:
    """The bridge of `flow_world`, where the server has more rules, and the group more members."""
    (web,) = (one for one in POLICIES if one.number == WEB)
    crowd = [f"172.20.{n}.0/24" for n in range(200)]
    more = replace(web, ingress=(*web.ingress, *SERVICES, *bundle(0x1000, TCP, *crowd)))
    peers = [Peer(one.ip, ingress_identity=NAGIOS) for version in (4, 6) for one in members(version)]
    return [*(more if isinstance(unit, Policy) and unit.number == WEB else unit for unit in UNITS), *peers]


@pytest.fixture(scope="module")
def real() -> Iterator[DummySwitch]:
    switch = DummySwitch(range(1, 10))
    try:
        switch.load(flows_of(world()))  # type: ignore[arg-type]
        yield switch
    finally:
        switch.close()


def cached(real: DummySwitch, packets: Iterable[tuple[Packet, int]]) -> list[str]:
    """The cached flows that these packets leave behind, from none."""
    real.control("revalidator/purge")
    for number, (packet, port) in enumerate(packets, 1):
        real.receive(packet.frame, port)
        if number % QUEUE == 0:
            real.sent()
    real.sent()
    return [line for line in real.control("dpctl/dump-flows").splitlines() if "actions:" in line]


@pytest.mark.parametrize("version", [4, 6])
def test_clients_of_a_group_add_none(real: DummySwitch, version: int) -> None:
    here = server if version == 4 else server6
    asks = [Packet.tcp(one, here, 12489, flags="PA") for one in members(version)]
    talk = [pair for one in asks for pair in ((one, U), (one.reply(), S))]
    cached(real, talk)
    found = cached(real, talk)
    assert 4 <= len(found) <= ESTABLISHED, "\n".join(found)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("origin", ["a VM", "the wire"])
@pytest.mark.parametrize("order", ["sequential", "random"])
def test_a_port_scan(real: DummySwitch, version: int, origin: str, order: str) -> None:
    here = server if version == 4 else server6
    near, far = (client, stranger) if version == 4 else (client6, stranger6)
    peer, came = (near, C) if origin == "a VM" else (far, U)
    ports = range(1, 2001) if order == "sequential" else random.Random(7).sample(range(1, 65536), 2000)
    found = cached(real, ((Packet.tcp(peer, here, port), came) for port in ports))
    assert 2 <= len(found) <= SCANNED, "\n".join(found)
