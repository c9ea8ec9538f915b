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
    with moving_cloud(lab, hypervisors=4, options=(f"--host-timeout={HOST_TIMEOUT}",)) as cloud:
        tenant = cloud.create_account("tenant", ("server", "client"))
        allow(tenant, "server", "tcp/80", cidr=WORLD)
        yield cloud


def serving(cloud: Cloud, name: str, host: int) -> Mobile:
    """A VM on a hypervisor that something happens to."""
    made = mobile(cloud, "tenant", name, host, "server")
    made.vm.serve("tcp", 80)
    made.vm.serve("tcp", 81)
    return made


def works(net: Network, client: Mobile, *servers: Mobile) -> None:
    """The servers have their rules: what they allow, and nothing else."""
    for server in servers:
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


def kill(cloud: Cloud, hypervisor: Hypervisor) -> None:
    """Nothing runs on it any more, and nothing gets there."""
    cloud.managers[hypervisor.name].kill()
    hypervisor.stop_vswitchd(kill=True)
    hypervisor.stop_ovsdb(kill=True)
    cut_off(hypervisor)


def revive(cloud: Cloud, hypervisor: Hypervisor) -> None:
    """It is there again, with the ports that it had."""
    cut_off(hypervisor, up=True)
    hypervisor.start_ovsdb()
    hypervisor.start_vswitchd()
    cloud.managers[hypervisor.name].start()
    cloud.managers[hypervisor.name].wait_ready()


def start(cloud: Cloud, server: Mobile, hypervisor: Hypervisor) -> None:
    """Somebody starts the VM on another hypervisor. A guest that boots says more than one thing."""
    server.plug(hypervisor)
    server.run_on(hypervisor)

    def open_there() -> bool:
        server.announce()
        return ports(cloud.managers[hypervisor.name]).get(server.vm.name, {}).get("state") == "active"

    wait_for("the port is open", open_there, step=0.1)


def wait_hosts(cloud: Cloud, state: str, *hypervisors: Hypervisor) -> None:
    """Wait until the API says so of hypervisors."""
    names = {one.name for one in hypervisors}
    wait_for(f"{names} {state}", lambda: {states(cloud)[one] for one in names} == {state}, timeout=60, step=0.5)


def test_a_host_is_cut_off_and_another_dies(cloud: Cloud, net: Network) -> None:
    """One VM starts elsewhere without waiting for a time-out. Nobody starts the other for a while: the API says that it
    does not know. Back again, both hosts find their own ports closed."""
    cut, dead, other = cloud.hypervisors[1:]
    client = mobile(cloud, "tenant", "client", 1, "client")
    first, second = serving(cloud, "first", 2), serving(cloud, "second", 3)
    works(net, client, first, second)
    cut_off(cut)
    kill(cloud, dead)
    start(cloud, first, other)
    works(net, client, first)
    wait_hosts(cloud, "Down", cut, dead)
    known = states(cloud)
    assert (known["first"], known["second"]) == ("Running", "Unknown")
    start(cloud, second, other)
    works(net, client, first, second)
    revive(cloud, dead)
    assert ports(cloud.managers[dead.name])["second"]["state"] == "standby"
    cut_off(cut, up=True)
    wait_hosts(cloud, "Up", cut, dead)
    cloud.wait_port(cut, "first", "standby")
    works(net, client, first, second)
    first.unplug(cut)
    second.unplug(dead)
    there = ports(cloud.managers[other.name])
    assert [there[name]["state"] for name in ("first", "second")] == ["active", "active"]
