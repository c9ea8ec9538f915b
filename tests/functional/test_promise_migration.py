# SPDX-License-Identifier: Apache-2.0
"""Promise: a VM moves between hypervisors while it runs, with its rules and its connections.

The guest's interface is a bridge with one wire to each hypervisor, only one of which is in it. So the guest moves as in
a live migration: the destination has a port for its NIC before it comes, and its sockets notice nothing.
"""

from collections.abc import Iterator
from itertools import count

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from devstack.lab import VM, Hypervisor, Lab, Network
from devstack.lab.agent import Stream
from devstack.lab.cloud import Cloud, Machine
from devstack.lab.namespace import wait_for
from devstack.lab.segment import add_addresses, add_gateways
from tests.functional.promised import (
    BOTH,
    allow,
    boot,
    expect,
    goes_on,
    order,
    promised_cloud,
    revoke,
    wait_port,
)

pytestmark = pytest.mark.usefixtures("in_force")
SERVICES = ("tcp/80", "udp/53", "icmp")
PROBES = (("tcp", 80), ("udp", 53), ("icmp", 0))


class Wanderer:
    """A VM that can be on either hypervisor; it begins on the first."""

    def __init__(self, cloud: Cloud, machine: Machine) -> None:
        self.cloud = cloud
        self.machine = machine
        self.host = machine.order.hypervisor
        self.devices = {self.host.name: "eth0"}
        self.ports = {self.host.name: machine.port}
        self.numbers = count(1)
        namespace = self.vm.namespace
        addresses = [f"{self.vm.address()}/24", f"{self.vm.address(6)}/64"]
        namespace.sysctl("net.ipv6.conf.eth0.disable_ipv6", 1)
        namespace.ip(
            f"link add guest0 address {machine.mac} type bridge forward_delay 0 mcast_snooping 0",
            "address flush dev eth0", "link set eth0 master guest0", "link set guest0 up",
        )  # fmt: skip
        add_addresses(namespace, "guest0", addresses)
        add_gateways(namespace, ("10.1.0.1", "fd00:1::1"))
        namespace.sysctl("net.ipv6.conf.default.disable_ipv6", 1)

    @property
    def vm(self) -> VM:
        """The guest."""
        return self.machine.vm

    def prepare(self, host: Hypervisor) -> None:
        """The destination has a port for the NIC, and waits."""
        self.devices[host.name] = device = f"eth{next(self.numbers)}"
        self.ports[host.name] = host.plug(self.vm, self.machine.nic, self.machine.mac, device=device)
        wait_port(self.cloud, host, self.vm.name, "standby")
        wait_port(self.cloud, self.host, self.vm.name, "active")

    def arrive(self, host: Hypervisor) -> None:
        """The guest goes on at the destination, and QEMU says so."""
        old, new = self.devices[self.host.name], self.devices[host.name]
        self.vm.namespace.ip(f"link set {old} nomaster", f"link set {new} master guest0")
        left, self.host = self.host, host
        self.vm.send([rarp(self.machine.mac)], device=new)
        wait_port(self.cloud, host, self.vm.name, "active")
        wait_port(self.cloud, left, self.vm.name, "standby")

    def leave(self, host: Hypervisor) -> None:
        """The source removes its port."""
        host.unplug(self.ports.pop(host.name))

    def move(self) -> None:
        """All of that, to the other hypervisor."""
        left = self.host
        host = next(one for one in self.cloud.hypervisors if one is not left)
        self.prepare(host)
        self.arrive(host)
        self.leave(left)


def rarp(mac: str) -> bytes:
    fields = {"op": 3, "hwsrc": mac, "hwdst": mac, "psrc": "0.0.0.0", "pdst": "0.0.0.0"}
    return bytes(Ether(src=mac, dst="ff:ff:ff:ff:ff:ff", type=0x8035) / ARP(**fields))


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Iterator[Cloud]:
    """Two hypervisors on one pod; a VM that moves, and members and strangers on both."""
    with promised_cloud(module_lab, pods=1) as cloud:
        tenant = cloud.create_account("tenant", ("web", "peer", "none"))
        allow(tenant, "peer", *SERVICES, peers=["tenant/web"])
        others = [(f"{group}{host}", host, group) for group in ("peer", "none") for host in (1, 2)]
        boot(
            cloud,
            order(cloud, tenant, "mover", 1, "web"),
            *(order(cloud, tenant, name, host, group) for name, host, group in others),
        )
        yield cloud


@pytest.fixture(scope="module")
def mover(cloud: Cloud) -> Wanderer:
    vm = cloud.machines["mover"].vm
    wanderer = Wanderer(cloud, cloud.machines["mover"])
    for peer in (vm, cloud.machines["peer1"].vm, cloud.machines["peer2"].vm):
        peer.serve("tcp", 80)
        peer.serve("udp", 53)
    return wanderer


@pytest.fixture
def rules(cloud: Cloud, mover: Wanderer, net: Network) -> Iterator[list[str]]:
    """What the moving VM lets in, in force."""
    rules = allow(cloud.accounts["tenant"], "web", *SERVICES, peers=["tenant/peer"])
    expect_rules(cloud, mover, net)
    yield rules
    revoke(cloud.accounts["tenant"], rules)


def expect_rules(cloud: Cloud, mover: Wanderer, net: Network, *, let_in: bool = True) -> None:
    """Its rules and those that name its group, for those beside it and those on the other hypervisor."""
    for version in BOTH:
        for host in (1, 2):
            peer, none = cloud.machines[f"peer{host}"].vm, cloud.machines[f"none{host}"].vm
            (net.some if let_in else net.none)(peer, mover.vm, *SERVICES, version=version)
            net.none(none, mover.vm, *SERVICES, version=version)
            net.some(mover.vm, peer, *SERVICES, version=version)
            net.none(mover.vm, none, *SERVICES, version=version)
    expect(net)


def conversations(cloud: Cloud, mover: Wanderer) -> list[Stream]:
    """From it and to it, with both peers, in all protocols."""
    peers = [cloud.machines[f"peer{host}"].vm for host in (1, 2)]
    pairs = [(one, other) for peer in peers for one, other in ((peer, mover.vm), (mover.vm, peer))]
    return [
        one.stream(proto, other.address(version), port)
        for one, other in pairs
        for version in BOTH
        for proto, port in PROBES
    ]


def test_two_ports_are_no_harm(cloud: Cloud, mover: Wanderer, rules: list[str], net: Network) -> None:
    """While the copy goes on, the guest is where it was; if it fails, nothing has happened."""
    streams = conversations(cloud, mover)
    other = cloud.hypervisors[1]
    mover.prepare(other)
    goes_on(*streams)
    for stream in streams:
        stream.stop()
    expect_rules(cloud, mover, net)
    vm = cloud.admin.all("listVirtualMachines", "virtualmachine", listall="true", name="mover")[0]
    assert (vm["state"], vm["hostname"]) == ("Running", "hv1")
    mover.leave(other)
    wait_port(cloud, mover.host, "mover", "active")
    expect_rules(cloud, mover, net)


def test_it_moves_there_and_back(cloud: Cloud, mover: Wanderer, rules: list[str], net: Network) -> None:
    streams = conversations(cloud, mover)
    for _ in range(2):
        mover.move()
        goes_on(*streams)
        expect_rules(cloud, mover, net)
        goes_on(*streams)
        where = {machine.id: machine.order.hypervisor.name for machine in cloud.machines.values()}
        where[mover.machine.id] = mover.host.name
        wait_for("the API to say where it is", lambda expected=where: hosts(cloud) == expected)
    for stream in streams:
        assert stream.stop().error == ""


def hosts(cloud: Cloud) -> dict[str, str]:
    """Where the API says that running VMs are."""
    vms = cloud.admin.all("listVirtualMachines", "virtualmachine", listall="true", state="Running")
    return {str(vm["id"]): str(vm["hostname"]) for vm in vms}


def test_a_rule_that_is_gone_stays_gone_and_its_connections_live(
    cloud: Cloud, mover: Wanderer, rules: list[str], net: Network
) -> None:
    """Removed before the move: what it had let in moves along, and nothing new is let in at either end."""
    streams = conversations(cloud, mover)
    revoke(cloud.accounts["tenant"], rules)
    expect_rules(cloud, mover, net, let_in=False)
    mover.move()
    goes_on(*streams)
    expect_rules(cloud, mover, net, let_in=False)
    goes_on(*streams)
    for stream in streams:
        assert stream.stop().error == ""
    rules[:] = allow(cloud.accounts["tenant"], "web", *SERVICES, peers=["tenant/peer"])
    expect_rules(cloud, mover, net)


def test_a_rule_changed_while_it_moves_is_there_when_it_arrives(
    cloud: Cloud, mover: Wanderer, rules: list[str], net: Network
) -> None:
    left = mover.host
    host = next(one for one in cloud.hypervisors if one is not left)
    mover.prepare(host)
    more = allow(cloud.accounts["tenant"], "web", "tcp/81", peers=["tenant/none"])
    mover.arrive(host)
    mover.leave(left)
    net.some(cloud.machines["none1"].vm, mover.vm, "tcp/81")
    net.some(cloud.machines["none2"].vm, mover.vm, "tcp/81", version=6)
    expect(net)
    expect_rules(cloud, mover, net)
    revoke(cloud.accounts["tenant"], more)


def test_nobody_else_can_take_its_place(cloud: Cloud, mover: Wanderer, rules: list[str], net: Network) -> None:
    """Frames of its MAC and address from another VM of the other hypervisor do not move it."""
    name = "none1" if mover.host is cloud.hypervisors[1] else "none2"
    thief, peer = cloud.machines[name], cloud.machines[f"peer{name[-1]}"]
    seen = peer.vm.sniff()
    stolen = Ether(src=mover.machine.mac, dst=peer.mac) / IP(src=mover.vm.address(), dst=peer.vm.address())
    thief.vm.send([rarp(mover.machine.mac), bytes(stolen / UDP(sport=7, dport=53) / b"stolen")])
    expect_rules(cloud, mover, net)
    assert seen.frames(b"stolen") == []
    wait_port(cloud, mover.host, "mover", "active")
    seen.stop()
