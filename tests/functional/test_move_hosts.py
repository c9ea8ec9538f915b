# SPDX-License-Identifier: Apache-2.0
"""A hypervisor dies or is cut off: its VM is started elsewhere and works at once, and stays there when it returns."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devstack.lab import Lab, Network
from devstack.lab.cloud import Cloud
from devstack.lab.hypervisor import Hypervisor
from devstack.lab.mobile import Mobile
from devstack.lab.namespace import wait_for
from tests.functional.moving import mobile, moving_cloud
from tests.functional.promised import WORLD, allow, expect, ports

pytestmark = pytest.mark.timeout(300)
HOST_TIMEOUT = 20


@pytest.fixture
def cloud(lab: Lab) -> Iterator[Cloud]:
    with moving_cloud(lab, hypervisors=3, options=(f"--host-timeout={HOST_TIMEOUT}",)) as cloud:
        tenant = cloud.create_account("tenant", ("server", "client"))
        allow(tenant, "server", "tcp/80", cidr=WORLD)
        yield cloud


@pytest.fixture
def server(cloud: Cloud) -> Mobile:
    """A VM on the hypervisor that something happens to."""
    made = mobile(cloud, "tenant", "server", 2, "server")
    made.vm.serve("tcp", 80)
    made.vm.serve("tcp", 81)
    return made


@pytest.fixture
def client(cloud: Cloud) -> Mobile:
    return mobile(cloud, "tenant", "client", 1, "client")


def works(net: Network, client: Mobile, server: Mobile) -> None:
    """The server has its rules: what they allow, and nothing else."""
    for version in (4, 6):
        net.some(client.vm, server.vm, "tcp/80", version=version)
        net.none(client.vm, server.vm, "tcp/81", "icmp", version=version)
    expect(net)


def states(cloud: Cloud) -> dict[str, str]:
    """The states of hosts and VMs, by name."""
    hosts = cloud.admin.all("listHosts", "host", type="Routing")
    vms = cloud.admin.all("listVirtualMachines", "virtualmachine", listall="true")
    return {str(one["name"]): str(one["state"]) for one in (*hosts, *vms)}


def cut_off(hypervisor: Hypervisor, *, up: bool = False) -> None:
    """Take the hypervisor off both networks, or put it back."""
    word = "up" if up else "down"
    hypervisor.namespace.ip(f"link set mgmt0 {word}", f"link set eth1 {word}")


def start(cloud: Cloud, server: Mobile, hypervisor: Hypervisor) -> None:
    """Somebody starts the VM on another hypervisor. A guest that boots says more than one thing."""
    server.plug(hypervisor)
    server.run_on(hypervisor)

    def open_there() -> bool:
        server.announce()
        return ports(cloud.managers[hypervisor.name]).get("server", {}).get("state") == "active"

    wait_for("the port is open", open_there, timeout=5, step=0.1)


def test_a_host_that_is_cut_off(cloud: Cloud, server: Mobile, client: Mobile, net: Network) -> None:
    """Its VM starts elsewhere without waiting for a time-out; back again, it finds its own port closed."""
    lost, other = cloud.hypervisors[1:]
    works(net, client, server)
    cut_off(lost)
    start(cloud, server, other)
    works(net, client, server)
    wait_for("the host is Down", lambda: states(cloud)[lost.name] == "Down", timeout=2 * HOST_TIMEOUT, step=0.5)
    assert states(cloud)["server"] == "Running"
    cut_off(lost, up=True)
    wait_for("it is back", lambda: states(cloud)[lost.name] == "Up", timeout=30, step=0.2)
    cloud.wait_port(lost, "server", "standby")
    works(net, client, server)
    server.unplug(lost)
    assert ports(cloud.managers[other.name])["server"]["state"] == "active"


def test_a_host_that_dies(cloud: Cloud, server: Mobile, client: Mobile, net: Network) -> None:
    """Nobody starts its VM for a while: the API says that it does not know. Then it works elsewhere."""
    lost, other = cloud.hypervisors[1:]
    works(net, client, server)
    cloud.managers[lost.name].kill()
    lost.stop_vswitchd(kill=True)
    lost.stop_ovsdb(kill=True)
    cut_off(lost)
    wait_for("it is Down", lambda: states(cloud)[lost.name] == "Down", timeout=2 * HOST_TIMEOUT, step=0.5)
    assert states(cloud)["server"] == "Unknown"
    start(cloud, server, other)
    works(net, client, server)
    cut_off(lost, up=True)
    lost.start_ovsdb()
    lost.start_vswitchd()
    cloud.managers[lost.name].start()
    cloud.managers[lost.name].wait_ready()
    assert ports(cloud.managers[lost.name])["server"]["state"] == "standby"
    works(net, client, server)
    server.unplug(lost)
