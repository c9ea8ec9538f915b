# SPDX-License-Identifier: Apache-2.0
"""The VM that holds virtual MACs moves to another hypervisor while it runs, and its connections go on."""

from collections.abc import Iterator

import pytest

from devstack.lab import Lab
from devstack.lab.cloud import Cloud
from devstack.lab.namespace import wait_for
from tests.faults.standstill import standstill
from tests.functional.cluster import CLUSTER, Promises, promising
from tests.functional.keepalived import VIRTUAL_MACS, Keepalived, end, with_virtual_macs
from tests.functional.promised import BOTH, allow, boot, goes_on, order, promised_cloud
from tests.functional.test_promise_migration import Wanderer

pytestmark = pytest.mark.usefixtures("in_force")
SECONDS = 5.0
INTERVAL = 1.0
"""Seconds between two advertisements: no move may take so long that the backup believes the master dead."""
CLIENTS = ("client1", "client2")


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Iterator[Cloud]:
    """A node that moves, its backup on the second hypervisor, and a client on both."""
    with promised_cloud(module_lab, pods=1) as cloud:
        tenant = cloud.create_account("tenant", ("web",))
        allow(tenant, "web", "tcp/80", "icmp", peers=["tenant/default"])
        nodes = [order(cloud, tenant, name, host, "web") for name, host in (("mover", 1), ("backup", 2))]
        boot(cloud, *nodes, *(order(cloud, tenant, name, host) for host, name in enumerate(CLIENTS, 1)))
        yield cloud


@pytest.fixture
def promises(cloud: Cloud) -> Iterator[Promises]:
    with promising(cloud) as promises:
        yield promises


def keep_carrier(mover: Wanderer) -> None:
    """The guest's interface stays up while it goes from one wire to the other, or keepalived would give up."""
    mover.vm.namespace.ip(
        "link add keep0 type veth peer name keep1", "link set keep0 master guest0", "link set keep0 up",
        "link set keep1 up",
    )  # fmt: skip


def test_it_moves_with_its_vm(cloud: Cloud, promises: Promises) -> None:
    """There and back, in both cases to where nobody has heard it from the new port yet."""
    mover = Wanderer(cloud, cloud.machines["mover"])
    keep_carrier(mover)
    mover.vm.serve("tcp", 80)
    mover.vm.exec("sysctl", "-qw", "net.ipv4.conf.guest0.arp_announce=2")
    promises.share(mover.machine, cloud.machines["backup"], macs=VIRTUAL_MACS)
    daemons = [
        Keepalived(mover.machine, with_virtual_macs(200, "guest0", interval=INTERVAL)),
        Keepalived(cloud.machines["backup"], with_virtual_macs(100, interval=INTERVAL)),
    ]
    for one in daemons:
        one.start()
    for version in BOTH:
        wait_for("it is master", lambda of=version: daemons[0].has(of) and not daemons[1].has(of))
    clients = [cloud.machines[name].vm for name in CLIENTS]
    for client in clients:
        for address in CLUSTER.values():
            wait_for("it serves", lambda by=client, to=address: by.probe("tcp", to, 80) == "open")
    streams = [client.stream("tcp", address, 80) for client in clients for address in CLUSTER.values()]
    goes_on(*streams)
    with standstill(cloud) as machine:
        for _ in range(2):
            machine.begin()
            for stream in streams:
                stream.report(clear=True)
            mover.move()
            goes_on(*streams)
            gap = max(stream.report().gap for stream in streams)
            print(f"it has moved to {mover.host.name}, with a silence of {gap:.2f} s")
            assert gap < SECONDS + machine.seconds()
            for client in clients:
                for version, address in CLUSTER.items():
                    wait_for("it serves", lambda by=client, to=address: by.probe("tcp", to, 80) == "open")
                    assert VIRTUAL_MACS[version] in client.exec("ip", "neigh", "show", "to", address)
    for stream in streams:
        assert stream.stop().error == ""
    end(*daemons)
