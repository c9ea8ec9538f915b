# SPDX-License-Identifier: Apache-2.0
"""Live migration: a VM's port exists at the new hypervisor long before the VM, and its conversations go on there."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from devstack.lab import Lab, Network
from devstack.lab.cloud import Cloud
from devstack.lab.hypervisor import Hypervisor
from devstack.lab.mobile import Mobile
from devstack.lab.namespace import wait_for
from tests.functional.moving import (
    OPENING,
    Still,
    conversations,
    mobile,
    moving_cloud,
    opening_times,
    settle,
    staying,
)
from tests.functional.promised import WORLD, allow, expect, revoke

SERVICES = ("tcp/80", "udp/53", "icmp")


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Iterator[Cloud]:
    with moving_cloud(module_lab, hypervisors=3) as cloud:
        cloud.create_account("tenant", ("server", "client", "stays"))
        for name, host, group in (("server", 1, "server"), ("near", 1, "client"), ("far", 2, "client")):
            mobile(cloud, "tenant", name, host, group)
        yield cloud


@pytest.fixture(scope="module")
def still(cloud: Cloud) -> Iterator[Still]:
    """What those see who do not move."""
    with staying(cloud, "tenant", "stays") as found:
        yield found


@pytest.fixture
def server(cloud: Cloud) -> Mobile:
    return at(cloud, "server", 1)


@pytest.fixture
def peers(cloud: Cloud) -> list[Mobile]:
    """A VM on the server's hypervisor, and one on the hypervisor that the server goes to."""
    return [at(cloud, "near", 1), at(cloud, "far", 2)]


def at(cloud: Cloud, name: str, host: int) -> Mobile:
    """A VM of the cloud, brought home if a test has left it elsewhere."""
    found = cloud.mobiles[name]
    home = cloud.hypervisors[host - 1]
    for other, _ in list(found.ports.values()):
        if other not in (home, found.host):
            found.unplug(other)
    if found.host is not home:
        found.migrate(home)
    for proto, port in (("tcp", 80), ("udp", 53)):
        found.vm.serve(proto, port)
    return found


def refused(net: Network, clients: list[Mobile], server: Mobile) -> None:
    """None of the clients can open anything new."""
    for client in clients:
        for version in (4, 6):
            net.none(client.vm, server.vm, *SERVICES, version=version)
    expect(net)


@pytest.mark.parametrize("opened_by_it", [False, True], ids=["opened-to-it", "opened-by-it"])
def test_conversations_go_on(
    cloud: Cloud, server: Mobile, peers: list[Mobile], net: Network, still: Still, *, opened_by_it: bool
) -> None:
    """With a VM that was local and becomes remote, and one that becomes local; also idle ones, whose rule is gone."""
    tenant, target = cloud.accounts["tenant"], cloud.hypervisors[1]
    group = "client" if opened_by_it else "server"
    rules = allow(tenant, group, *SERVICES, cidr=WORLD)
    pairs = [(server.vm, peer.vm) if opened_by_it else (peer.vm, server.vm) for peer in peers]
    for client, other in pairs:
        net.some(client, other, *SERVICES)
    expect(net)
    streams = {
        f"{client.name}-{other.name}-{name}": stream
        for client, other in pairs
        for name, stream in conversations(client, other).items()
    }
    idle = {f"idle {a.name}": a.stream("tcp", b.address(), 80, interval=4.0, timeout=20) for a, b in pairs}
    settle(streams)
    revoke(tenant, rules)
    server.plug(target)
    cloud.wait_port(target, "server", "standby")
    for stream in streams.values():
        stream.report(clear=True)
    still.begin()
    server.run_on(target)
    settle(streams, answers=50)
    gaps = {name: stream.stop().gap for name, stream in streams.items()}
    cost = still.judge(gaps)
    assert opening_times(cloud, target)[-1] < OPENING + 1000 * cost
    settle(idle, answers=1)
    for stream in idle.values():
        assert stream.stop().error == ""
    for client, other in pairs:
        net.none(client, other, *SERVICES)
    expect(net)


def test_a_port_that_waits_carries_nothing(cloud: Cloud, server: Mobile, peers: list[Mobile], still: Still) -> None:
    target, near = cloud.hypervisors[2], peers[0]
    rules = allow(cloud.accounts["tenant"], "server", *SERVICES, cidr=WORLD)
    wait_for("allowed", lambda: near.vm.probe("tcp", server.vm.address(), 80) == "open")
    still.begin()
    streams = conversations(near.vm, server.vm)
    settle(streams)
    port = server.plug(target)
    cloud.wait_port(target, "server", "standby")
    settle(streams, answers=50)
    assert counters(target, port) == (0, 0)
    server.unplug(target)
    settle(streams, answers=50)
    still.judge({name: stream.stop().gap for name, stream in streams.items()})
    wait_for("the row is gone", lambda: not handed(target))
    revoke(cloud.accounts["tenant"], rules)


def counters(hypervisor: Hypervisor, port: str) -> tuple[int, int]:
    """Frames that the switch has got from a port, and sent to it."""
    text = hypervisor.vsctl("get", "Interface", port, "statistics")
    found = dict(one.split("=") for one in text.strip("{} \n").split(", "))
    return int(found["rx_packets"]), int(found["tx_packets"])


def handed(hypervisor: Hypervisor) -> list[str]:
    """The flows for what VMs have brought along to a hypervisor, or will bring."""
    text = hypervisor.ofctl("--no-stats", "dump-flows", "br-int")
    return [line for line in text.splitlines() if "table=112" in line and "hard_timeout" in line]


def test_back_and_forth(cloud: Cloud, server: Mobile, peers: list[Mobile], net: Network, still: Still) -> None:
    rules = allow(cloud.accounts["tenant"], "server", *SERVICES, cidr=WORLD)
    for peer in peers:
        net.some(peer.vm, server.vm, *SERVICES)
    expect(net)
    streams = {f"{p.vm.name}-{name}": s for p in peers for name, s in conversations(p.vm, server.vm).items()}
    idle = peers[1].vm.stream("tcp", server.vm.address(), 80, interval=12, timeout=30)
    settle(streams)
    revoke(cloud.accounts["tenant"], rules)
    for number in (1, 0, 2, 1, 0):
        for stream in streams.values():
            stream.report(clear=True)
        still.begin()
        server.migrate(cloud.hypervisors[number])
        settle(streams, answers=30)
        gaps = {name: stream.report().gap for name, stream in streams.items()}
        still.judge(gaps)
    for stream in streams.values():
        assert stream.stop().error == ""
    settle({"idle": idle}, answers=1, within=60)
    assert idle.stop().error == ""
    refused(net, peers, server)


def test_two_that_talk_move_at_once(
    cloud: Cloud, server: Mobile, peers: list[Mobile], net: Network, still: Still
) -> None:
    """What neither has used since has to be accepted by both of them."""
    near, target = peers[0], cloud.hypervisors[2]
    rules = allow(cloud.accounts["tenant"], "server", *SERVICES, cidr=WORLD)
    net.some(near.vm, server.vm, *SERVICES)
    expect(net)
    streams = conversations(near.vm, server.vm)
    idle = near.vm.stream("tcp", server.vm.address(), 80, interval=6, timeout=30)
    settle(streams)
    revoke(cloud.accounts["tenant"], rules)
    for one in (near, server):
        one.plug(target)
    for one in (near, server):
        cloud.wait_port(target, one.vm.name, "standby")
    for stream in streams.values():
        stream.report(clear=True)
    still.begin()
    for one in (near, server):
        one.run_on(target)
    settle(streams, answers=50)
    gaps = {name: stream.stop().gap for name, stream in streams.items()}
    still.judge(gaps)
    settle({"idle": idle}, answers=1)
    assert idle.stop().error == ""
    refused(net, [near], server)


def test_two_that_talk_part_while_their_agent_hangs(cloud: Cloud, server: Mobile, peers: list[Mobile]) -> None:
    """It learns of both at once, and has something to say about their connections to both."""
    near, rules = peers[0], allow(cloud.accounts["tenant"], "server", *SERVICES, cidr=WORLD)
    wait_for("allowed", lambda: near.vm.probe("tcp", server.vm.address(), 80) == "open")
    streams = conversations(near.vm, server.vm)
    settle(streams)
    revoke(cloud.accounts["tenant"], rules)
    agent = cloud.managers[cloud.hypervisors[0].name].process
    goals = ((near, cloud.hypervisors[1]), (server, cloud.hypervisors[2]))
    agent.send_signal(signal.SIGSTOP)
    try:
        for one, goal in goals:
            one.plug(goal)
            cloud.wait_port(goal, one.vm.name, "standby")
            one.run_on(goal)
        for one, goal in goals:
            cloud.wait_port(goal, one.vm.name, "active")
    finally:
        agent.send_signal(signal.SIGCONT)
    settle(streams, within=60)
    for name, stream in streams.items():
        assert stream.stop().error == "", name


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("step", ["before the port", "while it waits", "after the move"])
def test_an_agent_that_is_down(cloud: Cloud, net: Network, side: str, step: str) -> None:
    """Wherever the VM is in the end, there it works, with all that it had."""
    mover, clients = at(cloud, "far", 2), [at(cloud, "near", 1), at(cloud, "server", 1)]
    source, target = cloud.hypervisors[1:]
    manager = cloud.managers[(source if side == "source" else target).name]
    rules = allow(cloud.accounts["tenant"], "client", *SERVICES, cidr=WORLD)
    for client in clients:
        net.some(client.vm, mover.vm, *SERVICES)
    expect(net)
    streams = {f"{c.vm.name}-{name}": s for c in clients for name, s in conversations(c.vm, mover.vm).items()}
    settle(streams)

    def bounce() -> None:
        manager.kill()
        manager.start()

    if step == "before the port":
        bounce()
    mover.plug(target)
    if step == "while it waits":
        cloud.wait_port(target, "far", "standby")
        bounce()
    mover.run_on(target)
    if step == "after the move":
        bounce()
    manager.wait_ready()
    cloud.wait_port(target, "far", "active")
    cloud.wait_port(source, "far", "standby")
    settle(streams, within=60)
    for name, stream in streams.items():
        assert stream.stop().error == "", name
    for client in clients:
        net.some(client.vm, mover.vm, *SERVICES)
    expect(net)
    revoke(cloud.accounts["tenant"], rules)
