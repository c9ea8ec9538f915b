# SPDX-License-Identifier: Apache-2.0
"""The pipeline's static flows between namespaces: real frames on real wires, and real guests' own protocols.

`test_flows_switch` tries each packet alone on ports that are files. Here all of them meet on one switch with veths,
and every neighbour listens in promiscuous mode.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address

import pytest

from devstack.lab import VM, Hypervisor, Lab, Network, Router, Segment
from devstack.lab.hypervisor import BRIDGE as BRIDGE_NAME
from devstack.lab.podserver import PodServer, Reservation
from flows.inputs import Audience, Bridge, Fanout, Moved, Port, Resumed, Shared, Standby, Unit
from flows.text import mac
from tests.unit.flow_cases import CASES
from tests.unit.flow_cast import Hop
from tests.unit.flow_world import PEERS, POD, POLICIES, PORTS, UNITS, UPLINK, flows_of

WITHIN = 30.0
#: Long enough for a frame that must not arrive.
QUIET = 0.3


@dataclass(frozen=True, slots=True)
class Site:
    """The machines by their port numbers in `flow_world`; the one behind the uplink stands for all of the wire."""

    machines: Mapping[int, VM]


def load(hypervisor: Hypervisor, units: Iterable[Unit], bridge: Bridge) -> None:
    hypervisor.ofctl("set-frags", BRIDGE_NAME, "nx-match")
    hypervisor.set_flows(*map(str, flows_of((bridge, *units), bridge)))


def with_numbers(units: Iterable[Unit], numbers: Mapping[int, int]) -> Iterator[Unit]:
    """The same units, on the ports that the switch really has."""
    for unit in units:
        match unit:
            case Port():
                yield replace(unit, number=numbers[unit.number])
            case Fanout() | Shared() | Audience():
                yield replace(unit, ports=tuple(numbers[number] for number in unit.ports))
            case Bridge() | Standby() | Moved() | Resumed():
                pass
            case _:
                yield unit


@pytest.fixture(scope="module")
def site(module_lab: Lab) -> Site:
    hypervisor = Hypervisor(module_lab, "hv1")
    machines, numbers = {}, {}
    macs = {port.number: mac(port.mac) for port in PORTS} | {UPLINK: "02:00:00:00:bb:01"}
    for number, address in macs.items():
        machines[number] = VM(module_lab, f"vm{number}")
        numbers[number] = hypervisor.ofport(hypervisor.plug(machines[number], f"nic{number}", address))
    load(hypervisor, with_numbers(UNITS, numbers), Bridge(uplinks=(numbers[UPLINK],)))
    return Site(machines)


ALONE: list[Hop] = [case[0] for case in CASES.values() if len(case) == 1]


def test_frames_reach_whom_they_may_and_nobody_else(site: Site) -> None:
    """All frames that must be dropped, then all that must arrive; everybody listens."""
    ears = {number: vm.sniff() for number, vm in site.machines.items()}
    wrong = [hop for hop in ALONE if not hop.out and hop.port in site.machines]
    right = [hop for hop in ALONE if hop.out]
    expected = defaultdict(set)
    for hop in right:
        for port in hop.out:
            expected[port].add(hop.pieces[0].frame)
    for hops in (wrong, right):
        for number, vm in site.machines.items():
            vm.send([hop.pieces[0].frame for hop in hops if hop.port == number], interval=0.002)
    deadline = time.monotonic() + WITHIN
    while any(expected[n] - set(ear.frames()) for n, ear in ears.items()) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(QUIET)
    tried = {hop.pieces[0].frame for hop in ALONE}
    heard = {number: set(ear.frames()) & tried for number, ear in ears.items()}
    assert len(wrong) > 80 and len(right) > 60
    for number in site.machines:
        assert heard[number] == expected[number]


GUESTS = {1: "client", 2: "server", 3: "caged"}


@dataclass(frozen=True, slots=True)
class Pod:
    """Three guests of `flow_world` that got their addresses by DHCP, and a machine on the wire."""

    guests: Mapping[str, VM]
    outside: VM


@pytest.fixture(scope="module")
def pod(module_lab: Lab) -> Pod:
    segment = Segment(module_lab, "segment")
    router = Router(module_lab)
    router.connect(segment, ("10.1.0.1/24", "fd00:1::1/64"))
    router.advertise(segment, "fd00:1::/64")
    server = PodServer(module_lab, segment, ("10.1.0.2/24", "fd00:1::2/64"), gateways=["10.1.0.1"])
    outside = VM(module_lab, "outside")
    outside.join(segment)
    for address in ("10.1.0.50/24", "10.1.0.9/24", "fd00:1::50/64"):
        outside.add_address(address)
    hypervisor = Hypervisor(module_lab, "hv2")
    hypervisor.add_uplink(segment)
    ports = [replace(port, addresses=port.addresses[:1] + port.addresses[-1:]) for port in PORTS[:3]]
    guests = {name: VM(module_lab, name) for name in GUESTS.values()}
    server.reserve(
        [Reservation(guests[GUESTS[p.number]].name, mac(p.mac), tuple(map(str, p.addresses))) for p in ports]
    )
    numbers = {
        port.number: hypervisor.ofport(hypervisor.plug(guests[GUESTS[port.number]], port.nic, mac(port.mac)))
        for port in ports
    }
    fanout = Fanout(1, tuple(numbers))
    units = with_numbers([POD, *ports, *POLICIES, *PEERS, fanout], numbers)
    load(hypervisor, units, Bridge(uplinks=(hypervisor.ofport("eth1"),)))
    for guest in guests.values():
        guest.start_dhcp6()
        guest.dhcp()
    for guest in guests.values():
        guest.finish_dhcp6()
        guest.wait_for_gateway6()
    return Pod(guests, outside)


def test_guests_get_their_addresses(pod: Pod) -> None:
    for port in PORTS[:3]:
        guest = pod.guests[GUESTS[port.number]]
        assert {ip_address(guest.address(4)), ip_address(guest.address(6))} <= set(port.addresses)


@pytest.mark.parametrize("version", [4, 6])
def test_guests_find_each_other_and_are_let_in(pod: Pod, version: int, net: Network) -> None:
    client, server = pod.guests["client"], pod.guests["server"]
    net.some(client, server, "tcp/80", "icmp", version=version)
    net.none(client, server, "tcp/84", version=version)
    net.some(pod.outside, server, "tcp/80", version=version)
    net.none(pod.outside, client, "tcp/22", version=version)
    net.check()


def test_closed_egress(pod: Pod, net: Network) -> None:
    caged, server = pod.guests["caged"], pod.guests["server"]
    pod.outside.serve("tcp", 80)
    net.some(caged, "10.1.0.9", "tcp/80")
    net.none(caged, "10.1.0.50", "tcp/80")
    net.none(caged, server, "tcp/80")
    net.check()
    assert caged.resolve("10.1.0.2", "server") == [server.address()]
    assert caged.resolve("fd00:1::2", "server", kind="AAAA", proto="tcp") == [server.address(6)]


def test_large_datagrams_pass_in_pieces(pod: Pod) -> None:
    client, server = pod.guests["client"], pod.guests["server"]
    for port in (5300, 5301):
        server.serve("udp", port)
    assert client.probe("udp", server.address(), 5300, size=4000) == "open"
    assert client.probe("udp", server.address(), 5301, size=4000) == "timeout"
    assert client.ping(server.address(6), size=4000)


def test_a_third_guest_hears_nothing(pod: Pod) -> None:
    client, server, third = (pod.guests[name] for name in ("client", "server", "caged"))
    ear = third.sniff()
    server.serve("tcp", 80)
    for version in (4, 6):
        assert client.probe("tcp", server.address(version), 80) == "open"
        assert client.ping(server.address(version))
    time.sleep(QUIET)
    pair = {bytes.fromhex(mac(port.mac).replace(":", "")) for port in PORTS[:2]}
    assert [frame.hex() for frame in ear.frames() if frame[6:12] in pair] == []
