# SPDX-License-Identifier: Apache-2.0
"""Promise: a VM that is started again, here or on another host after its own has failed, has its groups and rules."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from devstack.lab import VM, Hypervisor, Lab, Network
from devstack.lab.cloud import Cloud, Machine
from devstack.lab.namespace import wait_for
from tests.functional.promised import (
    BOTH,
    allow,
    boot,
    expect,
    goes_on,
    order,
    ports,
    promised_cloud,
    revoke,
    wait_port,
)

pytestmark = pytest.mark.usefixtures("in_force")
SERVICES = ("tcp/80", "udp/53", "icmp")


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Iterator[Cloud]:
    """Two hypervisors on one pod; VMs that end and begin again, and a member and a stranger on the first."""
    with promised_cloud(module_lab, pods=1) as cloud:
        tenant = cloud.create_account("tenant", ("web", "peer", "none"))
        allow(tenant, "web", *SERVICES, peers=["tenant/peer"])
        allow(tenant, "peer", *SERVICES, peers=["tenant/web"])
        boot(
            cloud,
            order(cloud, tenant, "web1", 1, "web"),
            order(cloud, tenant, "web2", 2, "web"),
            order(cloud, tenant, "peer1", 1, "peer"),
            order(cloud, tenant, "none1", 1, "none"),
        )
        yield cloud


def start(cloud: Cloud, machine: Machine, name: str, host: Hypervisor) -> Machine:
    """Start a VM again, on any host: a new guest with the NIC's id and MAC, which asks DHCP."""
    vm = VM(cloud.lab, name)
    port = host.plug(vm, machine.nic, machine.mac)
    lease = vm.dhcp()
    vm.start_dhcp6()
    vm.finish_dhcp6()
    vm.wait_for_gateway6()
    assert lease.address.startswith(f"{machine.vm.address()}/")
    started = replace(machine, vm=vm, port=port, order=replace(machine.order, hypervisor=host))
    cloud.machines[machine.order.name] = started
    return started


def expect_rules(cloud: Cloud, name: str, net: Network) -> None:
    """Its own rules, and those that name its group."""
    vm, peer, none = (cloud.machines[one].vm for one in (name, "peer1", "none1"))
    for version in BOTH:
        net.some(peer, vm, *SERVICES, version=version)
        net.none(none, vm, *SERVICES, version=version)
        net.some(vm, peer, *SERVICES, version=version)
        net.none(vm, none, *SERVICES, version=version)
    expect(net)


def wait_state(cloud: Cloud, name: str, state: str, host: str = "") -> None:
    """Wait until the API says so of a VM."""
    vm_id = cloud.machines[name].id

    def shown() -> bool:
        (vm,) = cloud.admin.all("listVirtualMachines", "virtualmachine", id=vm_id, listall="true")
        return (vm["state"], vm.get("hostname", "")) == (state, host)

    wait_for(f"{name} {state} on {host or 'no host'}", shown, step=0.1)


def test_a_reboot_in_place(cloud: Cloud, net: Network) -> None:
    """The port goes and comes with another number: the rules are there, what a rule that is gone let in is not."""
    machine, tenant = cloud.machines["web1"], cloud.accounts["tenant"]
    expect_rules(cloud, "web1", net)
    peer = cloud.machines["peer1"].vm
    once = allow(tenant, "web", "udp/5353", peers=["tenant/peer"])
    machine.vm.serve("udp", 5353)
    streams = [peer.stream("udp", machine.vm.address(version), 5353) for version in BOTH]
    goes_on(*streams)
    revoke(tenant, once)
    goes_on(*streams)
    host = machine.order.hypervisor
    host.unplug(machine.port)
    machine.vm.close()
    wait_for("the port to be gone", lambda: "web1" not in ports(cloud.managers[host.name]), step=0.05)
    start(cloud, machine, "web1b", host).vm.serve("udp", 5353)
    expect_rules(cloud, "web1", net)
    wait_state(cloud, "web1", "Running", host.name)
    before = [stream.report() for stream in streams]
    expect_rules(cloud, "web1", net)
    for old, stream in zip(before, streams, strict=True):
        report = stream.stop()
        assert (report.received, report.error) == (old.received, "") and report.sent > old.sent


def test_stopped_and_started_by_the_api(cloud: Cloud, net: Network) -> None:
    """A VM that is to be stopped has its port closed at once, whoever forgets to unplug it."""
    machine, tenant = cloud.machines["web1"], cloud.accounts["tenant"]
    host, peer = machine.order.hypervisor, cloud.machines["peer1"].vm
    tenant.call("stopVirtualMachine", id=machine.id)
    wait_port(cloud, host, "web1", "closed")
    for version in BOTH:
        net.none(peer, machine.vm, *SERVICES, version=version)
        net.none(machine.vm, peer, *SERVICES, version=version)
    expect(net)
    tenant.call("startVirtualMachine", id=machine.id)
    wait_port(cloud, host, "web1", "active")
    expect_rules(cloud, "web1", net)


def test_started_elsewhere_while_its_agent_was_away(cloud: Cloud, net: Network) -> None:
    """The agent of the old host learns afterwards that the VM has gone; it does not take it back."""
    machine = cloud.machines["web2"]
    first, second = cloud.hypervisors
    expect_rules(cloud, "web2", net)
    cloud.managers[second.name].kill()
    second.unplug(machine.port)
    machine.vm.close()
    start(cloud, machine, "web2b", first)
    expect_rules(cloud, "web2", net)
    cloud.managers[second.name].start()
    cloud.managers[second.name].wait_ready()
    wait_state(cloud, "web2", "Running", first.name)
    expect_rules(cloud, "web2", net)
    stream = cloud.machines["peer1"].vm.stream("tcp", cloud.machines["web2"].vm.address(6), 80)
    goes_on(stream)
    stream.stop()


def test_its_host_fails(cloud: Cloud, net: Network) -> None:
    """Power goes: the switch, the agent and the guest at once, and nobody says goodbye. It starts on the other host."""
    tenant = cloud.accounts["tenant"]
    first, second = cloud.hypervisors
    (machine,) = cloud.boot([order(cloud, tenant, "victim", 2, "web")])
    cloud.wait_running([machine])
    machine.vm.serve("tcp", 80)
    expect_rules(cloud, "victim", net)
    stream = cloud.machines["peer1"].vm.stream("tcp", machine.vm.address(), 80)
    goes_on(stream)
    second.namespace.close()
    machine.vm.close()
    del cloud.managers[second.name]
    more = allow(tenant, "web", "tcp/81", peers=["tenant/none"])
    start(cloud, machine, "victimb", first)
    net.some(cloud.machines["none1"].vm, cloud.machines["victim"].vm, "tcp/81")
    expect(net)
    expect_rules(cloud, "victim", net)
    wait_state(cloud, "victim", "Running", first.name)
    revoke(tenant, more)
