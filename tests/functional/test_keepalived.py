# SPDX-License-Identifier: Apache-2.0
"""A real cluster: Debian's keepalived gives addresses that two VMs share from one to the other, over unicast VRRP.

No virtual MAC: whoever is master has the addresses with its NIC's. Its clients follow because they hear of it, and its
groups' rules hold there.
"""

from collections.abc import Iterator

import pytest

from devstack.lab import Lab, Network
from devstack.lab.agent import Stream
from devstack.lab.cloud import Cloud, Order
from devstack.lab.namespace import wait_for
from tests.faults.standstill import Standstill, standstill
from tests.functional.cluster import CLUSTER, Promises
from tests.functional.keepalived import Keepalived, by_unicast, end
from tests.functional.promised import BOTH, allow, boot, check_recompute, goes_on, two_hypervisors

SECONDS = 4.0
"""Within which clients go on: three advertisements must have been missed first."""
PRIORITY = {"node1": 200, "node2": 100}


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Iterator[Cloud]:
    """Two hypervisors on one pod, and on each a node of the cluster, a client of its group, and a stranger."""
    cloud = two_hypervisors(module_lab, pods=1)
    tenant, other = cloud.create_account("tenant", ("web",)), cloud.create_account("other")
    allow(tenant, "web", "tcp/80", "icmp", peers=["tenant/default"])
    allow(tenant, "web", "vrrp", peers=["tenant/web"])
    kinds = ((tenant, "node", ("web",)), (tenant, "client", ()), (other, "stranger", ()))
    orders = [
        Order(account, f"{name}{host}", cloud.hypervisors[host - 1], cloud.pod(1), groups)
        for host in (1, 2)
        for account, name, groups in kinds
    ]
    boot(cloud, *orders)
    for name in PRIORITY:
        cloud.machines[name].vm.serve("tcp", 80)
    yield cloud
    check_recompute(cloud)


@pytest.fixture
def daemons(cloud: Cloud) -> Iterator[tuple[Keepalived, Keepalived]]:
    """keepalived on both nodes, which may share the addresses; the first is master."""
    first, second = (cloud.machines[name] for name in PRIORITY)
    Promises(cloud).share(first, second)
    daemons = (
        Keepalived(first, by_unicast(first, second, PRIORITY["node1"])),
        Keepalived(second, by_unicast(second, first, PRIORITY["node2"])),
    )
    for one in daemons:
        one.start()
    yield daemons
    end(*daemons)


@pytest.fixture
def machine(cloud: Cloud) -> Iterator[Standstill]:
    """What this machine costs by itself."""
    with standstill(cloud) as found:
        yield found


def expect_master(
    cloud: Cloud, machine: Standstill, master: Keepalived, backup: Keepalived, streams: list[Stream]
) -> None:
    """One node has the addresses; clients have gone on soon enough and reach it, and strangers do not."""
    for version in BOTH:
        wait_for(f"{master.machine.vm.name} is master", lambda of=version: master.has(of) and not backup.has(of))
    goes_on(*streams)
    gap = max((stream.report(clear=True).gap for stream in streams), default=0.0)
    assert gap < SECONDS + machine.seconds()
    machine.begin()
    clients = [cloud.machines[f"client{host}"].vm for host in (1, 2)]
    strangers = [cloud.machines[f"stranger{host}"].vm for host in (1, 2)]
    net = Network()
    for version, address in CLUSTER.items():
        for client in clients:
            net.some(client, address, "tcp/80", version=version)
            net.none(client, address, "tcp/81", version=version)
        for stranger in strangers:
            net.none(stranger, address, "tcp/80", version=version)
    net.check()
    for client in clients:
        for address in CLUSTER.values():
            assert master.machine.mac in client.exec("ip", "neigh", "show", "to", address)


def test_a_cluster_goes_on_when_its_master_dies_and_when_it_comes_back(
    cloud: Cloud, machine: Standstill, daemons: tuple[Keepalived, Keepalived]
) -> None:
    first, second = daemons
    expect_master(cloud, machine, first, second, [])
    clients = [cloud.machines[name].vm for name in ("client1", "client2")]
    streams = [client.stream("icmp", address) for client in clients for address in CLUSTER.values()]
    goes_on(*streams)
    for stream in streams:
        stream.report(clear=True)
    first.kill()
    expect_master(cloud, machine, second, first, streams)
    first.start()
    expect_master(cloud, machine, first, second, streams)
    second.stop()
    expect_master(cloud, machine, first, second, streams)
    for stream in streams:
        stream.stop()
