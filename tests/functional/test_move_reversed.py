# SPDX-License-Identifier: Apache-2.0
"""Switches have been restarted on both sides, conntrack takes an answer for the first packet, and then the VM comes.

Nothing is handed over, for the hypervisor that it leaves remembers nothing; and for the one that it comes to, it is its
peer who has opened the connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import sleep

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from devstack.lab import Lab, Network
from devstack.lab.agent import Sniffer, Stream
from devstack.lab.cloud import Cloud
from devstack.lab.hypervisor import Hypervisor
from devstack.lab.namespace import wait_for
from tests.functional.moving import mobile, moving_cloud, settle
from tests.functional.promised import WORLD, allow, expect, revoke, wait_in_force

LOOKS = 4
"""So often nothing new has come when nothing is on its way any more."""
TRIES = 4.0
"""Seconds in which TCP tries several times again."""


@pytest.fixture
def cloud(lab: Lab) -> Iterator[Cloud]:
    with moving_cloud(lab, hypervisors=2) as cloud:
        tenant = cloud.create_account("tenant", ("server", "client"))
        for name, host in (("server", 1), ("client", 2)):
            mobile(cloud, "tenant", name, host, name).vm.serve("tcp", 80)
        allow(tenant, "server", "tcp/80", cidr=WORLD)
        yield cloud


def conntrack(hypervisor: Hypervisor, *command: str) -> str:
    control = str(hypervisor.directory / "ovs-vswitchd.ctl")
    return hypervisor.appctl("-t", control, *(command or ("dpctl/dump-conntrack",)))


def last_segment(sniffer: Sniffer, address: str) -> Ether:
    """The last TCP segment that has come from there, now that it is cut off."""

    def segments() -> list[Ether]:
        frames = [Ether(frame) for frame in sniffer.frames()]
        return [one for one in frames if TCP in one and one[IP].src == address]

    found: list[Ether] = wait_for("a segment to be kept", segments)
    looks = 0
    while looks < LOOKS:
        sleep(0.1)
        looks = looks + 1 if len(segments()) == len(found) else 0
        found = segments()
    sniffer.stop()
    return found[-1]


def keep_alive(of: Ether) -> Ether:
    """What the other end of an idle connection sends, to hear whether it is still there."""
    ends = Ether(src=of.dst, dst=of.src) / IP(src=of[IP].dst, dst=of[IP].src)
    heard = of[TCP].seq + len(of[TCP].payload)
    return ends / TCP(sport=80, dport=of[TCP].sport, seq=of[TCP].ack - 1, ack=heard, flags="A", window=of[TCP].window)


def forgotten(cloud: Cloud) -> tuple[Stream, str]:
    """A conversation that both switches have forgotten while its client is cut off, and of which the server has spoken.

    Also returns how conntrack shows its entry, if the server's segment has made one.
    """
    server, client = cloud.mobiles["server"], cloud.mobiles["client"]
    mine, theirs = client.vm.address(), server.vm.address()
    wait_for("allowed", lambda: client.vm.probe("tcp", theirs, 80) == "open")
    stream = client.vm.stream("tcp", theirs, 80)
    settle({"it": stream})
    sniffer = server.vm.sniff()
    settle({"it": stream}, answers=3)
    client.wires.ip(f"link set {cloud.hypervisors[1].name} nomaster")
    segment = last_segment(sniffer, mine)
    for hypervisor in cloud.hypervisors:
        conntrack(hypervisor, "dpctl/flush-conntrack")
    server.vm.send([bytes(keep_alive(segment))])
    return stream, f"tcp,orig=(src={theirs},dst={mine},sport=80,dport={segment[TCP].sport})"


def come(cloud: Cloud, home: Hypervisor) -> None:
    """The client runs on the server's hypervisor, with nothing handed over."""
    client = cloud.mobiles["client"]
    client.plug(home)
    cloud.wait_port(home, "client", "standby")
    client.run_on(home)
    cloud.wait_port(home, "client", "active")


def test_it_goes_on_where_its_peer_is(cloud: Cloud, net: Network) -> None:
    server, client, home = cloud.mobiles["server"], cloud.mobiles["client"], cloud.hypervisors[0]
    stream, reversed_entry = forgotten(cloud)
    wait_for("the answer seen first", lambda: reversed_entry in conntrack(home))
    come(cloud, home)
    settle({"it": stream})
    assert stream.stop().error == ""
    (entry,) = [line for line in conntrack(home).splitlines() if line.startswith(reversed_entry)]
    assert ",mark=3," in entry
    net.none(server.vm, client.vm, "tcp/80")
    net.some(client.vm, server.vm, "tcp/80")
    expect(net)


def test_it_does_not_if_no_rule_lets_either_begin_it(cloud: Cloud) -> None:
    """The server may send nothing of its own, and the client's rule is gone; with a rule the same stream goes on."""
    tenant, home = cloud.accounts["tenant"], cloud.hypervisors[0]
    server, client = cloud.mobiles["server"].vm, cloud.mobiles["client"].vm
    allow(tenant, "server", "udp/53", cidr=WORLD, egress=True)
    wait_for("the server is shut in", lambda: server.probe("tcp", client.address(), 80) != "open")
    stream, entry = forgotten(cloud)
    (group,) = tenant.all("listSecurityGroups", "securitygroup", securitygroupname="server")
    revoke(tenant, [str(rule["ruleid"]) for rule in group["ingressrule"]])
    wait_in_force(*cloud.managers.values())
    heard, sniffer = stream.report().received, server.sniff()
    come(cloud, home)
    sleep(TRIES)
    arrived = [frame for frame in sniffer.frames() if TCP in Ether(frame)]
    sniffer.stop()
    assert (arrived, stream.report().received) == ([], heard)
    assert entry not in conntrack(home)
    allow(tenant, "server", "tcp/80", cidr=WORLD)
    settle({"it": stream}, within=60)
    assert stream.stop().error == ""
