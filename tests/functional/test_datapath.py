# SPDX-License-Identifier: Apache-2.0
"""What established traffic of two local VMs costs the switch: passes, connections, cached flows."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from devstack.lab import VM, Hypervisor, Lab
from devstack.lab.agent import Stream
from devstack.lab.cloud import Cloud, Machine
from devstack.lab.namespace import wait_for
from tests.functional.promised import BOTH, WORLD, allow, boot, order, two_hypervisors

CONNECTIONS = 1000
WAYS, MEGAFLOWS = 4, 10
INTERVAL = 2.0
"""Seconds between two packets of each of the thousand connections."""
_MEGAFLOW = re.compile(r"recirc_id\((?P<id>\w+)\).*actions:(?P<actions>.*)")


@dataclass(frozen=True, slots=True)
class Megaflow:
    """One entry of the datapath's cache: where it is in a packet's way, and what it does."""

    text: str
    recirculation: int
    actions: str

    @property
    def next(self) -> int:
        """The recirculation in which packets go on, 0 if they end here."""
        found = re.search(r"recirc\((\w+)\)", self.actions)
        return int(found[1], 0) if found else 0


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Cloud:
    """Two VMs of one group on one hypervisor, which reach each other on tcp/80 and udp/53."""
    cloud = two_hypervisors(module_lab, pods=1)
    tenant = cloud.create_account("shop", ["web"])
    allow(tenant, "web", "tcp/80", "udp/53", cidr=WORLD)
    for vm in boot(cloud, order(cloud, tenant, "client", 1, "web"), order(cloud, tenant, "server", 1, "web")):
        vm.serve("tcp", 80)
        vm.serve("udp", 53)
    return cloud


def machines(cloud: Cloud) -> tuple[Machine, Machine]:
    return cloud.machines["client"], cloud.machines["server"]


def forget_megaflows(hypervisor: Hypervisor) -> None:
    """Empty the datapath's cache, so that it holds what present traffic needs."""
    hypervisor.appctl("-t", str(hypervisor.directory / "ovs-vswitchd.ctl"), "dpctl/del-flows")


def megaflows(cloud: Cloud, version: int) -> list[Megaflow]:
    """The cached flows that packets of the pair have used, neighbour discovery left out."""
    hypervisor = cloud.hypervisors[0]
    ports = [machine.port for machine in machines(cloud)]
    ethertype = {4: "eth_type(0x0800)", 6: "eth_type(0x86dd)"}[version]
    text = hypervisor.appctl("-t", str(hypervisor.directory / "ovs-vswitchd.ctl"), "dpctl/dump-flows", "--names")
    lines = [line for line in text.splitlines() if any(f"in_port({port})" in line for port in ports)]
    found = [_MEGAFLOW.search(line) for line in lines if ethertype in line and "icmpv6(" not in line]
    return [Megaflow(one.string, int(one["id"], 0), one["actions"]) for one in found if one]


def connections(hypervisor: Hypervisor, client: VM, server: VM, version: int, port: int) -> list[str]:
    """The conntrack entries of the pair's connections to a port, in all zones."""
    text = hypervisor.appctl("-t", str(hypervisor.directory / "ovs-vswitchd.ctl"), "dpctl/dump-conntrack")
    original = f"orig=(src={client.address(version)},dst={server.address(version)},"
    return [line for line in text.splitlines() if original in line and f"dport={port})" in line.partition("reply")[0]]


@pytest.fixture(scope="module", params=BOTH)
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def crowd(cloud: Cloud, version: int) -> Iterator[list[Stream]]:
    """A thousand live UDP conversations and one TCP connection of the pair."""
    client, server = (machine.vm for machine in machines(cloud))
    address = server.address(version)
    streams = [client.stream("udp", address, 53, interval=INTERVAL) for _ in range(CONNECTIONS - 1)]
    streams.append(client.stream("tcp", address, 80, interval=INTERVAL))
    wait_for("answers of all", lambda: all(stream.report().received > 1 for stream in streams), timeout=60, step=0.5)
    forget_megaflows(cloud.hypervisors[0])
    time.sleep(1.5 * INTERVAL)
    wait_for("both ways to be cached", lambda: len(megaflows(cloud, version)) >= WAYS)
    yield streams
    for stream in streams:
        assert stream.stop().error == ""


def test_a_thousand_connections_of_a_pair(cloud: Cloud, version: int, crowd: list[Stream]) -> None:
    """One conntrack entry each, and no cached flow that is for one of them only."""
    client, server = (machine.vm for machine in machines(cloud))
    hypervisor = cloud.hypervisors[0]
    assert len(connections(hypervisor, client, server, version, 53)) == CONNECTIONS - 1
    assert len(connections(hypervisor, client, server, version, 80)) == 1
    found = megaflows(cloud, version)
    assert WAYS <= len(found) <= MEGAFLOWS, "\n".join(one.text for one in found)


def test_established_packets_pass_twice(cloud: Cloud, version: int, crowd: list[Stream]) -> None:
    """Every packet has one conntrack look-up and one recirculation, then leaves by the other VM's port."""
    found = megaflows(cloud, version)
    first = [one for one in found if not one.recirculation]
    then = {one.recirculation: one for one in found if one.recirculation}
    ports = {machine.port for machine in machines(cloud)}
    assert first and all(one.actions.startswith("ct(zone=1),recirc(") for one in first), first
    assert {one.next for one in first} == set(then)
    assert {one.actions for one in found if one.recirculation} == ports, then
