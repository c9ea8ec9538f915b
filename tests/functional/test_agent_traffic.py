# SPDX-License-Identifier: Apache-2.0
"""What guests notice of the agent: nothing when it restarts or hangs, and little when their VM moves."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from devstack.lab import VM, CommandFailed, Lab
from devstack.lab.agent import Stream
from devstack.lab.cloud import Cloud, Machine, Order
from devstack.lab.namespace import wait_for
from sgctl.openflow.conntrack import MOST_FRAGMENTS
from tests.faults.standstill import standstill
from tests.faults.strain import Strain
from tests.functional.promised import goes_on

FOREIGN = "cookie=0xbeef, table=250, priority=7 actions=drop"
GAP = 0.25
"""Seconds without an answer that a 10 ms conversation may have on this machine, though nothing is lost."""
MOVE_GAP = 1.5
IN_FLIGHT = 2


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Cloud:
    """One pod on two hypervisors; one tenant whose VMs reach each other on tcp/80, udp/53 and by ping."""
    cloud = Cloud(module_lab)
    pod = cloud.add_pod()
    for _ in range(2):
        cloud.add_hypervisor(pod)
    cloud.start()
    cloud.register()
    tenant = cloud.create_account("shop", ["web"])
    for rule in ({"protocol": "tcp", "startport": "80"}, {"protocol": "icmp", "icmptype": "-1", "icmpcode": "-1"},
                 {"protocol": "udp", "startport": "53"}):  # fmt: skip
        peer = {"usersecuritygrouplist[0].account": "shop", "usersecuritygrouplist[0].group": "web"}
        tenant.call("authorizeSecurityGroupIngress", securitygroupname="web", **rule, **peer)
    places = (("near", 0), ("also", 0), ("far", 1))
    orders = [Order(tenant, name, cloud.hypervisors[at], cloud.pod(1), ("web",)) for name, at in places]
    machines = cloud.boot(orders)
    cloud.wait_running(machines)
    for machine in machines:
        machine.vm.serve("tcp", 80)
        machine.vm.serve("udp", 53)
    return cloud


def vm(cloud: Cloud, name: str) -> VM:
    return cloud.machines[name].vm


@contextmanager
def undisturbed(cloud: Cloud, *, gap: float = GAP) -> Iterator[None]:
    """Conversations of all kinds, local and across, lose nothing meanwhile."""
    near = vm(cloud, "near")
    ways = [(peer, proto, port) for peer in ("also", "far") for proto, port in (("tcp", 80), ("udp", 53), ("icmp", 0))]
    streams = {(peer, proto): near.stream(proto, vm(cloud, peer).address(), port) for peer, proto, port in ways}
    goes_on(*streams.values())
    with bearable(cloud) as most:
        for stream in streams.values():
            stream.report(clear=True)
        yield
        goes_on(*streams.values())
        limit, reports = most(gap), {way: stream.report() for way, stream in streams.items()}
    for way, stream in streams.items():
        assert reports[way].gap < limit, (way, reports[way], limit)
        wait_for(f"all answers of {way}", partial(nothing_lost, stream))
        stream.stop()


def nothing_lost(stream: Stream) -> bool:
    """Whether all has been answered but for what is on its way; what is lost never is."""
    report = stream.report()
    return report.sent - report.received <= IN_FLIGHT


@contextmanager
def bearable(cloud: Cloud) -> Iterator[Callable[[float], float]]:
    """For how long a conversation may stand still meanwhile on this machine, by what it may on one that is idle."""
    with Strain() as strain, standstill(cloud) as machine:
        yield lambda usual: usual * strain.ratio() + machine.seconds()


@pytest.mark.parametrize("kill", [True, False])
@pytest.mark.parametrize("number", [0, 1])
def test_guests_do_not_notice_a_restart(cloud: Cloud, number: int, kill: bool) -> None:
    """The first hypervisor's manager takes the SG database with it."""
    hypervisor = cloud.hypervisors[number]
    flows = hypervisor.ofctl("--no-stats", "dump-flows", "br-int")
    with undisturbed(cloud):
        cloud.managers[hypervisor.name].restart(kill=kill)
        time.sleep(1)
    assert hypervisor.ofctl("--no-stats", "dump-flows", "br-int") == flows


def older(flows: str) -> str:
    """The same pipeline as another version could have laid it out: other cookies, other numbers of tables."""

    def renumbered(found: re.Match[str]) -> str:
        return f"{found[1]}{int(found[2]) + (found[2] != '0')}"

    def renamed(found: re.Match[str]) -> str:
        return f"cookie={int(found[1], 16) ^ 0xFFFF:#x}"

    moved = re.sub(r"(\btable=|goto_table:|resubmit\(,)(\d+)", renumbered, flows)
    return re.sub(r"cookie=(0x5c\w{14})", renamed, moved)


def test_guests_do_not_notice_an_upgrade(cloud: Cloud) -> None:
    """An agent finds flows of another version: it takes the switch over in one bundle, which opens nothing."""
    hypervisor, manager = cloud.hypervisors[1], cloud.managers["hv2"]
    closed = vm(cloud, "far")
    closed.serve("udp", 54)
    dump = ("--no-stats", "--no-names", "dump-flows", "br-int")
    manager.kill()
    flows = sorted(line for line in hypervisor.ofctl(*dump).splitlines() if "cookie=0x5c" in line)
    old = older("\n".join(flows)).splitlines()
    assert not {line.split()[0] for line in old} & {line.split()[0] for line in flows}
    hypervisor.ofctl("--bundle", "replace-flows", "br-int", "-", stdin="\n".join([*old, FOREIGN]))
    prober = vm(cloud, "near").stream("udp", closed.address(), 54)
    with undisturbed(cloud):
        manager.start()
        manager.wait_ready()
        time.sleep(1)
    assert prober.stop().received == 0
    found = hypervisor.ofctl(*dump).splitlines()
    assert sorted(line for line in found if "cookie=0x5c" in line) == flows
    assert any("cookie=0xbeef" in line for line in found)
    hypervisor.ofctl("del-flows", "br-int", "cookie=0xbeef/-1")
    metrics = manager.get("/metrics")[1]
    assert "sgctl_bundle_seconds_count 1.0" in metrics
    assert f'sgctl_flow_mods_total{{kind="add"}} {len(flows)}.0' in metrics


def test_a_port_plugged_while_the_agent_is_away_stays_closed(cloud: Cloud) -> None:
    manager = cloud.managers["hv2"]
    order = Order(cloud.accounts["shop"], "late", cloud.hypervisors[1], cloud.pod(1), ("web",))
    manager.kill()
    answer = cloud.deploy(order)
    machine = cloud._plug(order, answer)
    address = answer["nic"][0]["ipaddress"]
    machine.vm.add_address(f"{address}/24")
    seen = vm(cloud, "far").sniff()
    assert machine.vm.probe("icmp", vm(cloud, "far").address()) in ("timeout", "unreachable")
    assert not seen.frames(bytes.fromhex(machine.mac.replace(":", "")))
    seen.stop()
    manager.start()
    manager.wait_ready()
    wait_for("the late VM to be reachable", lambda: vm(cloud, "near").ping(address))
    cloud.machines["late"] = machine


def test_what_the_datapath_is_told_is_told_again_after_a_restart(cloud: Cloud) -> None:
    """ovs-vswitchd keeps neither the bound of the zone nor how many fragments it may hold."""
    hypervisor = cloud.hypervisors[1]

    def told() -> tuple[list[str], list[str]]:
        control, datapath = ("-t", str(hypervisor.directory / "ovs-vswitchd.ctl")), "netdev@ovs-netdev"
        limits = hypervisor.appctl(*control, "dpctl/ct-get-limits", datapath, "zone=1")
        fragments = hypervisor.appctl(*control, "dpctl/ipf-get-status", datapath)
        return re.findall(r"zone=1,limit=(\d+)", limits), re.findall(r"max num frags \(v4/v6\): (\d+)", fragments)

    before = told()
    assert before == (["1000000"], [str(MOST_FRAGMENTS)])
    hypervisor.restart_vswitchd()

    def told_again() -> bool:
        """Not as long as the datapath is not there either."""
        with suppress(CommandFailed):
            return told() == before
        return False

    wait_for("the same again", told_again)
    wait_for("the VM to be reachable", lambda: vm(cloud, "near").ping(vm(cloud, "far").address()))


def test_forgotten_connections_of_a_port_that_is_gone(cloud: Cloud) -> None:
    hypervisor, machine = cloud.hypervisors[1], cloud.machines["far"]
    address = machine.vm.address()
    stream = vm(cloud, "near").stream("tcp", address, 80)
    control = str(hypervisor.directory / "ovs-vswitchd.ctl")

    def remembered() -> list[str]:
        dump = hypervisor.appctl("-t", control, "dpctl/dump-conntrack").splitlines()
        return [line for line in dump if f"src={address}," in line or f"dst={address}," in line]

    wait_for("its connection", lambda: any(line.startswith("tcp") for line in remembered()))
    hypervisor.vsctl("del-port", "br-int", machine.port)
    wait_for("the end", lambda: not shown(cloud, "hv2", machine.port))
    wait_for("no connection", lambda: not remembered())
    stream.stop()
    hypervisor._add_port(machine.port, {"iface-id": machine.nic, "attached-mac": machine.mac})
    wait_for("the VM to be back", lambda: vm(cloud, "near").ping(address))


def test_a_vm_moves_with_its_connections(cloud: Cloud) -> None:
    machine = cloud.machines["also"]
    address = machine.vm.address()
    stream = vm(cloud, "far").stream("tcp", address, 80)
    goes_on(stream)
    with bearable(cloud) as most:
        stream.report(clear=True)
        port = prepare_move(cloud, machine)
        goes_on(stream)
        assert stream.report(clear=True).gap < most(GAP)
        assert shown(cloud, "hv2", port) == "standby"
        finish_move(machine)
        goes_on(stream)
        report = stream.report()
        assert report.gap < most(MOVE_GAP), report
    wait_for("the claim", lambda: shown(cloud, "hv2", port) == "active")
    wait_for("the other side", lambda: shown(cloud, "hv1", machine.port) == "standby")
    wait_for("all answers", partial(nothing_lost, stream))
    assert stream.stop().error == ""
    assert vm(cloud, "near").probe("tcp", address, 80) == "open"
    cloud.hypervisors[0].unplug(machine.port)
    time.sleep(1)
    assert vm(cloud, "far").probe("tcp", address, 80) == "open"
    hosts = {
        one["name"]: one.get("hostname")
        for one in cloud.admin.all("listVirtualMachines", "virtualmachine", listall="true")
    }
    assert hosts["also"] == "hv2"


def prepare_move(cloud: Cloud, machine: Machine) -> str:
    """Plug the VM into the other hypervisor too, as libvirt does before it copies; the new port.

    Nothing runs behind it yet, so nothing may speak there: the kernel would, as soon as a card with IPv6 is up.
    """
    machine.vm.namespace.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
    port = cloud.hypervisors[1].plug(machine.vm, machine.nic, machine.mac, device="eth1")
    wait_for("standby", lambda: shown(cloud, "hv2", port) == "standby")
    return port


def finish_move(machine: Machine) -> None:
    """The guest goes on behind the new card: its addresses are there now, and QEMU sends a RARP."""
    namespace = machine.vm.namespace
    v4 = next(address for address in machine.vm.addresses if ":" not in address)
    namespace.ip("address flush dev eth0 scope global", "link set eth0 down")
    namespace.ip(f"address add {v4} dev eth1", "route replace default via 10.1.0.1")
    mac = bytes.fromhex(machine.mac.replace(":", ""))
    rarp = b"\xff" * 6 + mac + bytes.fromhex("80350001080006040003") + (mac + bytes(4)) * 2
    machine.vm.send([rarp.ljust(60, b"\0")], device="eth1")


def shown(cloud: Cloud, host: str, port: str) -> str:
    """The state of a port, empty if the agent does not know it."""
    status, answer = cloud.managers[host].get("/admin/ports")
    assert status == 200, answer
    return next((str(one["state"]) for one in answer["ports"] if one["name"] == port), "")
