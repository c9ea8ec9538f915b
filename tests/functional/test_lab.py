# SPDX-License-Identifier: Apache-2.0
"""The lab itself: what it builds works, its probes tell the truth, and it leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devstack.lab import VM, Hypervisor, Lab, Network, Router, Segment
from devstack.lab.namespace import CommandFailed, wait_for
from devstack.lab.podserver import PodServer, Reservation
from devstack.lab.vm import Lease


def mac(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def plugged(lab: Lab, hypervisor: Hypervisor, number: int) -> VM:
    """A VM with the addresses 10.1.0.N and fd00:1::N."""
    vm = VM(lab, f"vm{number}")
    hypervisor.plug(vm, f"nic-{number}", mac(number))
    vm.add_address(f"10.1.0.{number}/24")
    vm.add_address(f"fd00:1::{number}/64")
    return vm


@pytest.fixture
def pair(lab: Lab, hypervisor: Hypervisor) -> tuple[VM, VM]:
    return plugged(lab, hypervisor, 11), plugged(lab, hypervisor, 12)


def test_vms_reach_each_other_through_open_vswitch(pair: tuple[VM, VM], net: Network) -> None:
    one, two = pair
    for version in (4, 6):
        net.both(one, two, "tcp/80", "udp/53", "icmp", version=version)
    net.check()


def test_static_flows_decide(hypervisor: Hypervisor, pair: tuple[VM, VM], net: Network) -> None:
    one, two = pair
    hypervisor.set_flows("priority=1,arp,actions=normal", "priority=1,icmp,actions=normal", "priority=0,actions=drop")
    net.some(one, two, "icmp")
    net.none(one, two, "tcp/80", "udp/53")
    net.none(one, two, "icmp", version=6)
    net.check(within=0)


def test_a_wrong_expectation_is_shown(pair: tuple[VM, VM], net: Network) -> None:
    one, two = pair
    net.none(one, two, "tcp/80")
    net.some(one, two, "icmp")
    with pytest.raises(AssertionError, match=r"1 of 2 cells.*\n +vm11 -> vm12 +tcp/80 .* expected blocked +seen open"):
        net.check(within=0)


def test_an_unserved_port_is_refused_not_blocked(pair: tuple[VM, VM]) -> None:
    one, two = pair
    assert one.probe("tcp", two.address(), 81) == "refused"
    assert one.probe("udp", two.address(), 81) == "refused"
    assert one.probe("tcp", "10.9.9.9", 80) == "unreachable"


def test_large_datagrams_arrive_in_fragments(pair: tuple[VM, VM]) -> None:
    one, two = pair
    two.serve("udp", 53)
    assert one.probe("udp", two.address(), 53, size=4000) == "open"
    assert one.ping(two.address(6), size=4000)


def test_frames_are_sent_and_seen_as_they_are(pair: tuple[VM, VM]) -> None:
    one, two = pair
    sniffer = two.sniff()
    plain = bytes.fromhex("02000000000c02000000000b88b5") + b"plain marker".ljust(50, b"\0")
    tagged = bytes.fromhex("02000000000c02000000000b8100002a88b5") + b"tagged marker".ljust(50, b"\0")
    one.send([plain, tagged])
    wait_for("both to arrive", lambda: len(sniffer.frames(b"marker")) >= 2)
    assert one.ping(two.address())
    assert sniffer.frames(b"marker") == [plain, tagged]


def test_streams_report_gaps(hypervisor: Hypervisor, pair: tuple[VM, VM]) -> None:
    one, two = pair
    two.serve("tcp", 80)
    streams = [one.stream("tcp", two.address(), 80), one.stream("icmp", two.address())]
    for stream in streams:
        wait_for("answers", lambda one=stream: one.report().received >= 30)
    hypervisor.set_flows("actions=drop")
    time.sleep(0.5)
    for stream in streams:
        report = stream.stop()
        assert report.gap >= report.silence > 0.3
        assert report.sent > report.received


def test_two_pods_with_dhcp_dns_and_a_router(lab: Lab, net: Network) -> None:
    router = Router(lab)
    machines = []
    for number in (1, 2):
        segment = Segment(lab, f"pod{number}")
        gateways = (f"10.{number}.0.1/24", f"fd00:{number}::1/64")
        router.connect(segment, gateways)
        router.advertise(segment, f"fd00:{number}::/64")
        server = PodServer(
            lab, segment, (f"10.{number}.0.2/24", f"fd00:{number}::2/64"), gateways=[gateways[0].partition("/")[0]]
        )
        hypervisor = Hypervisor(lab, f"hv{number}")
        hypervisor.add_uplink(segment)
        vm = VM(lab, f"vm{number}")
        hypervisor.plug(vm, f"nic-{number}", mac(number))
        server.reserve([Reservation(vm.name, mac(number), (f"10.{number}.0.77", f"fd00:{number}::77"))])
        lease = vm.dhcp()
        assert lease == Lease(f"10.{number}.0.77/24", gateway=f"10.{number}.0.1", dns=f"10.{number}.0.2")
        vm.start_dhcp6()
        assert vm.finish_dhcp6().address == f"fd00:{number}::77/128"
        vm.wait_for_gateway6()
        assert vm.resolve(lease.dns, vm.name) == [f"10.{number}.0.77"]
        assert vm.resolve(lease.dns, vm.name, kind="AAAA", proto="tcp") == [f"fd00:{number}::77"]
        machines.append(vm)
    for version in (4, 6):
        net.both(*machines, "tcp/80", "udp/53", "icmp", version=version)
    net.check()
    for vm in machines:  # the router's advertisements must not make a guest invent addresses
        assert vm.exec("ip", "-6", "address", "show", "scope", "global").count("inet6") == 1


def test_an_unknown_nic_gets_no_lease(lab: Lab, pod: Segment, hypervisor: Hypervisor) -> None:
    PodServer(lab, pod, ["10.1.0.2/24"], gateways=["10.1.0.1"])
    hypervisor.add_uplink(pod)
    vm = VM(lab, "stranger")
    hypervisor.plug(vm, "nic", mac(1))
    with pytest.raises(CommandFailed, match="no lease"):
        vm.dhcp(seconds=1)


def test_names_cannot_smuggle_configuration(lab: Lab) -> None:
    with pytest.raises(ValueError, match="names in the lab"):
        VM(lab, "a\ndhcp-option=6,1.2.3.4")
    with pytest.raises(ValueError, match="does not appear to be"):
        Reservation("vm", mac(1), ("10.0.0.1\nfoo",))


def test_a_restarted_switch_forwards_again(hypervisor: Hypervisor, pair: tuple[VM, VM], net: Network) -> None:
    one, two = pair
    hypervisor.restart_vswitchd(kill=True)
    net.both(one, two, "icmp")
    net.check()


def test_thirty_vms_come_up_in_seconds(lab: Lab, hypervisor: Hypervisor) -> None:
    started = time.monotonic()
    vms = [plugged(lab, hypervisor, number) for number in range(10, 40)]
    assert vms[0].ping(vms[-1].address())
    assert time.monotonic() - started < 60


VICTIM = """
import time
from devstack.lab import *
lab = Lab()
hypervisor = Hypervisor(lab, "hv1")
vm = VM(lab, "vm1")
hypervisor.plug(vm, "nic", "02:00:00:00:00:01")
vm.guest.call("hello")
print(lab.directory, *(p.pid for p in hypervisor._processes.values()), flush=True)
time.sleep(60)
"""


def test_nothing_is_left_after_a_kill() -> None:
    root = Path(__file__).parents[2]
    victim = subprocess.Popen([sys.executable, "-c", VICTIM], stdout=subprocess.PIPE, text=True, cwd=root)
    assert victim.stdout is not None
    directory, *pids = victim.stdout.readline().split()
    assert Path(directory).is_dir()
    assert len(pids) == 2
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate()
    deadline = time.monotonic() + 30
    left = [Path(directory), *(Path("/proc", pid) for pid in pids)]
    while any(path.exists() for path in left) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [path for path in left if path.exists()]
