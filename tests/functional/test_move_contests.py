# SPDX-License-Identifier: Apache-2.0
"""A NIC speaks where it was before: its VM has gone back there, or was started elsewhere and runs there still."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from devstack.lab import Lab
from devstack.lab.agent import Guest
from devstack.lab.cloud import Cloud
from devstack.lab.mobile import Mobile
from devstack.lab.namespace import wait_for
from tests.functional.moving import mobile, moving_cloud, settle
from tests.functional.promised import WORLD, allow, ports, revoke

FRAMES = 150
"""So many, one every 20 ms, that it has been asked about them more than once."""


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Iterator[Cloud]:
    with moving_cloud(module_lab, hypervisors=3) as cloud:
        allow(cloud.create_account("tenant", ("server", "client")), "client", "udp/7", cidr=WORLD)
        mobile(cloud, "tenant", "client", 1, "client")
        mobile(cloud, "tenant", "server", 2, "server")
        yield cloud


@pytest.fixture
def server(cloud: Cloud) -> Mobile:
    """The VM that speaks; it has left the second hypervisor for the third, and both have ports for it."""
    found, (_, old, new) = cloud.mobiles["server"], cloud.hypervisors
    if found.host is not old:
        found.migrate(old)
    found.plug(new)
    cloud.wait_port(new, "server", "standby")
    found.run_on(new)
    cloud.wait_port(new, "server", "active")
    cloud.wait_port(old, "server", "standby")
    return found


def states(cloud: Cloud) -> list[str]:
    """Those of the server's ports at its old place and at its new one."""
    return [ports(cloud.managers[one.name]).get("server", {}).get("state", "") for one in cloud.hypervisors[1:]]


def test_a_copy_that_runs_where_it_was_is_kept_out(cloud: Cloud, server: Mobile) -> None:
    client = cloud.mobiles["client"]
    network = IP(src=server.vm.address(), dst=client.vm.address())
    frame = bytes(Ether(src=server.mac, dst=client.mac) / network / UDP(sport=7, dport=7) / b"the copy")
    heard, copy = client.vm.sniff(only=b"the copy"), Guest(server.wires)
    repeater = copy.repeat(cloud.hypervisors[1].name, [frame], interval=0.02)
    while repeater.sent() < FRAMES:
        assert states(cloud) == ["standby", "active"]
    server.vm.send([frame])
    wait_for("the VM is heard where it is", lambda: heard.total() == 1)
    copy.close()
    heard.stop()
    server.unplug(cloud.hypervisors[1])


@pytest.mark.parametrize("away", [False, True], ids=["agent-there", "agent-away"])
def test_a_vm_that_is_back_without_having_been_announced_works(cloud: Cloud, server: Mobile, *, away: bool) -> None:
    """And so does a connection whose rule is gone."""
    client, (old, new) = cloud.mobiles["client"].vm, cloud.hypervisors[1:]
    manager, tenant = cloud.managers[old.name], cloud.accounts["tenant"]
    server.vm.serve("tcp", 80)
    rules = allow(tenant, "server", "tcp/80", cidr=WORLD)
    wait_for("allowed", lambda: client.probe("tcp", server.vm.address(), 80) == "open")
    kept = {"kept": client.stream("tcp", server.vm.address(), 80)}
    settle(kept)
    revoke(tenant, rules)
    if away:
        manager.kill()
    server.run_on(old, announce=False)
    stream = server.vm.stream("icmp", client.address())
    if away:
        manager.start()
        manager.wait_ready()
    wait_for("it is back", lambda: states(cloud) == ["active", "standby"])
    settle(kept, within=60)
    assert not kept["kept"].stop().error
    stream.stop()
    server.unplug(new)
