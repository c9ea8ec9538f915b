# SPDX-License-Identifier: Apache-2.0
"""While no agent runs, nothing forwards: on a new bridge, made as the documents say, and after a boot."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from devstack.lab import VM, Hypervisor, Lab, Network, Segment
from devstack.lab.agent import Sniffer
from devstack.lab.cloud import Cloud
from devstack.lab.hypervisor import BRIDGE
from devstack.lab.namespace import wait_for
from tests.functional.promised import BOTH, WORLD, allow, boot, order, two_hypervisors
from tests.functional.scene import BROADCAST, STRANGER_MAC

ROOT = Path(__file__).parents[2]
USERSPACE = ("--", "set", "bridge", BRIDGE, "datapath_type=netdev")
MARK = b"before the agent"


def documented() -> Iterator[tuple[str, str]]:
    """Every command about adding a bridge in README and plugin, by where it stands."""
    for name in ("README.md", "devstack/plugin.sh"):
        text = (ROOT / name).read_text().replace('"$SGCTL_BRIDGE"', BRIDGE)
        for number, line in enumerate(text.splitlines(), 1):
            if found := re.search(r"ovs-vsctl .*\badd-br\b.*", line):
                yield f"{name} {number}", found[0]


COMMANDS = dict(documented())


def mac_of(machine: VM) -> str:
    (device,) = json.loads(machine.namespace.run("ip", "-json", "link", "show", "eth0"))
    return str(device["address"])


def frames(sender: VM, *receivers: VM) -> list[bytes]:
    """To each receiver, to everybody and to nobody; `sender` is who it is."""
    mac, *macs = map(mac_of, (sender, *receivers))
    packets = [IP(src=sender.address(), dst="10.1.0.99") / UDP(sport=9, dport=9) / MARK]
    packets += [ARP(op=1, hwsrc=mac, psrc=sender.address(), pdst="10.1.0.99") / MARK]
    return [bytes(Ether(src=mac, dst=to) / one) for to in (*macs, BROADCAST, STRANGER_MAC) for one in packets]


def everybody_speaks(*machines: VM) -> dict[str, list[Sniffer]]:
    """Each machine sends to all others; what each hears from now on."""
    heard = {vm.name: [vm.sniff(only=MARK)] for vm in machines}
    for vm in machines:
        vm.send(frames(vm, *(other for other in machines if other is not vm)))
    return heard


def total(heard: dict[str, list[Sniffer]]) -> dict[str, int]:
    return {name: sum(one.total() for one in sniffers) for name, sniffers in heard.items()}


@pytest.fixture
def outside(lab: Lab, pod: Segment) -> VM:
    """A machine on the physical network."""
    machine = VM(lab, "outside")
    machine.join(pod)
    machine.add_address("10.1.0.30/24")
    return machine


def plugged(lab: Lab, hypervisor: Hypervisor) -> list[VM]:
    """Two VMs of this hypervisor, which nobody has told the switch about."""
    machines = [VM(lab, name) for name in ("one", "two")]
    for number, vm in enumerate(machines, 1):
        hypervisor.plug(vm, "", f"02:00:00:00:00:0{number}")
        vm.add_address(f"10.1.0.{number}/24")
    return machines


def test_there_are_commands() -> None:
    assert len(COMMANDS) == 3, COMMANDS


@pytest.mark.parametrize("place", COMMANDS)
def test_a_bridge_made_as_documented_forwards_nothing(
    lab: Lab, hypervisor: Hypervisor, pod: Segment, outside: VM, net: Network, place: str
) -> None:
    """As Open vSwitch makes it, it does: which is why the command says more."""
    hypervisor.add_uplink(pod)
    one, two = plugged(lab, hypervisor)
    net.both(one, two, "tcp/80", "icmp")
    net.both(one, outside, "tcp/80", "icmp")
    net.check()
    all_hear = everybody_speaks(one, two, outside)
    wait_for("all to hear the others", lambda: all(total(all_hear).values()))

    ports = hypervisor.vsctl("list-ports", BRIDGE).split()
    hypervisor.vsctl("del-br", BRIDGE)
    words = shlex.split(COMMANDS[place], comments=True)[1:]
    hypervisor.vsctl(*words, *USERSPACE)
    for port in ports:
        hypervisor.vsctl("add-port", BRIDGE, port)
    heard = everybody_speaks(one, two, outside)
    for pair in ((one, two), (two, one), (one, outside), (outside, two)):
        net.none(*pair, "tcp/80", "icmp")
    net.check(within=0)
    assert total(heard) == dict.fromkeys(heard, 0)


@pytest.fixture
def pair(lab: Lab) -> Cloud:
    """Two VMs on one of two hypervisors, which may do what they like, with IPv4 and IPv6."""
    cloud = two_hypervisors(lab, pods=1)
    tenant = cloud.create_account("shop", ["web"])
    allow(tenant, "web", "all", cidr=WORLD)
    boot(cloud, *(order(cloud, tenant, name, 2, "web") for name in ("one", "two")))
    return cloud


def turn_off(cloud: Cloud) -> Hypervisor:
    """All of a hypervisor ends as in a power failure, and what a boot starts first is back: the switch."""
    hypervisor = cloud.hypervisors[1]
    cloud.managers[hypervisor.name].kill()
    hypervisor.stop_vswitchd(kill=True)
    hypervisor.stop_ovsdb(kill=True)
    management = hypervisor.directory / f"{BRIDGE}.mgmt"
    management.unlink()
    hypervisor.start_ovsdb()
    hypervisor.start_vswitchd()
    wait_for("the bridge", management.exists)
    return hypervisor


def test_after_a_boot_nothing_forwards_until_the_agent_comes(pair: Cloud, net: Network) -> None:
    """And no frame goes round and round where two uplinks lead to the same segment."""
    one, two = (pair.machines[name].vm for name in ("one", "two"))
    segment = pair.pods[0].segment
    stray, other = (VM(pair.lab, name) for name in ("stray", "other"))
    for number, machine in enumerate((stray, other)):
        machine.join(segment)
        machine.add_address(f"10.1.0.25{number}/24")
        machine.add_address(f"fd00:1::fff{number}/64")
    pair.hypervisors[1].add_uplink(segment, "eth9")

    def passes(*services: str) -> None:
        for version in BOTH:
            net.both(one, two, *services, version=version)
            net.some(stray, one, *services, version=version)
            net.some(two, stray, *services, version=version)

    passes("tcp/80", "udp/53", "icmp")
    net.check()
    hypervisor = turn_off(pair)
    assert hypervisor.vsctl("get", "bridge", BRIDGE, "fail_mode").strip() == "secure"
    assert "actions" not in hypervisor.ofctl("dump-flows", BRIDGE)
    vms = {vm.name: [vm.sniff()] for vm in (one, two)}
    wire = {vm.name: [vm.sniff(only=MARK)] for vm in (stray, other)}
    for vm, receivers in ((one, (two, stray)), (two, (one, stray)), (stray, (one, two))):
        vm.send(frames(vm, *receivers))
    passes("tcp/80", "udp/53", "icmp")
    net.cells = [replace(cell, reachable=False) for cell in net.cells]
    net.check(within=0)
    assert total(vms) == {"one": 0, "two": 0}
    # What the segment itself has brought to its other machine, and each frame once.
    assert wire["stray"][0].total() == 0
    seen = wire["other"][0].frames()
    assert len(seen) == len(set(seen)) > 0

    pair.managers[hypervisor.name].start()
    pair.managers[hypervisor.name].wait_ready()
    passes("tcp/80", "udp/53", "icmp")
    net.check()
