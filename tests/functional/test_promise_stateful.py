# SPDX-License-Identifier: Apache-2.0
"""Promise: groups are stateful, for TCP, UDP and ICMP; removing a rule leaves what it let in alive until it ends."""

from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, IPv6
from scapy.packet import Packet

from devstack.lab import VM, Lab, Network
from devstack.lab.agent import Stream
from devstack.lab.cloud import Cloud
from devstack.lab.namespace import wait_for
from tests.functional.promised import (
    BOTH,
    WORLD,
    allow,
    boot,
    expect,
    goes_on,
    group_ids,
    order,
    path,
    promised_cloud,
    revoke,
)

pytestmark = pytest.mark.usefixtures("in_force")
SERVICES = ("tcp/80", "udp/53", "icmp")


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Iterator[Cloud]:
    """A server and a client on one hypervisor, another client on the other one and in the other pod."""
    with promised_cloud(module_lab) as cloud:
        tenant = cloud.create_account("tenant", ("server", "client"))
        boot(
            cloud,
            order(cloud, tenant, "server", 1, "server"),
            order(cloud, tenant, "near", 1, "client"),
            order(cloud, tenant, "far", 2, "client"),
        )
        yield cloud


@pytest.fixture
def server(cloud: Cloud) -> VM:
    vm = cloud.machines["server"].vm
    vm.serve("tcp", 80)
    vm.serve("udp", 53)
    return vm


@pytest.fixture
def clients(cloud: Cloud) -> list[VM]:
    return [cloud.machines[name].vm for name in ("near", "far")]


def open_streams(clients: list[VM], server: VM) -> list[Stream]:
    return [
        client.stream(proto, server.address(version), port)
        for client in clients
        for version in BOTH
        for proto, port in (("tcp", 80), ("udp", 53), ("icmp", 0))
    ]


def expect_new(net: Network, clients: list[VM], server: VM, *, reachable: bool) -> None:
    for client in clients:
        for version in BOTH:
            (net.some if reachable else net.none)(client, server, *SERVICES, version=version)
    expect(net)


def test_a_removed_rule_ends_nothing(cloud: Cloud, server: VM, clients: list[VM], net: Network) -> None:
    tenant = cloud.accounts["tenant"]
    expect_new(net, clients, server, reachable=False)
    rules = allow(tenant, "server", *SERVICES, cidr=WORLD)
    expect_new(net, clients, server, reachable=True)
    streams = open_streams(clients, server)
    revoke(tenant, rules)
    expect_new(net, clients, server, reachable=False)
    goes_on(*streams)
    for stream in streams:
        assert stream.stop().error == ""
    expect_new(net, clients, server, reachable=False)


def test_replies_pass_though_nothing_is_let_in_there(cloud: Cloud, server: VM, clients: list[VM], net: Network) -> None:
    tenant = cloud.accounts["tenant"]
    rules = allow(tenant, "server", *SERVICES, peers=["tenant/client"])
    for client in clients:
        for version in BOTH:
            net.some(client, server, *SERVICES, version=version)
            net.none(server, client, *SERVICES, version=version)
    expect(net)
    revoke(tenant, rules)


def test_an_egress_rule_that_goes_ends_nothing(cloud: Cloud, server: VM, clients: list[VM], net: Network) -> None:
    tenant = cloud.accounts["tenant"]
    ingress = allow(tenant, "server", *SERVICES, cidr=WORLD)
    open_out = allow(tenant, "client", *SERVICES, cidr=WORLD, egress=True)
    narrow = allow(tenant, "client", "tcp/1", cidr="192.0.2.0/24", egress=True)
    expect_new(net, clients, server, reachable=True)
    streams = open_streams(clients, server)
    revoke(tenant, open_out, egress=True)
    expect_new(net, clients, server, reachable=False)
    goes_on(*streams)
    for stream in streams:
        stream.stop()
    revoke(tenant, narrow, egress=True)
    expect_new(net, clients, server, reachable=True)
    revoke(tenant, ingress)


def test_one_way_datagrams_go_on(cloud: Cloud, server: VM, clients: list[VM], net: Network) -> None:
    """No reply ever comes, so conntrack calls each of them new; what was let in once is a connection all the same."""
    tenant = cloud.accounts["tenant"]
    rules = allow(tenant, "server", "udp/514", "udp/53", cidr=WORLD)
    for client in clients:
        for version in BOTH:
            net.some(client, server, "udp/53", version=version)
    expect(net)
    sniffer = server.sniff()

    def send(marker: bytes, port: int) -> None:
        for client in clients:
            heads = [head(cloud, client, server, version) for version in BOTH]
            client.send(bytes(one / UDP(sport=port, dport=514) / marker) for one in heads)

    send(b"let in", 4001)
    wait_for("datagrams that a rule lets in", lambda: len(sniffer.frames(b"let in")) == 4)
    revoke(tenant, rules)
    for client in clients:
        net.none(client, server, "udp/53")
    expect(net)
    send(b"nobody's", 4002)
    send(b"goes on", 4001)
    wait_for("datagrams of the same conversation", lambda: len(sniffer.frames(b"goes on")) == 4)
    assert sniffer.frames(b"nobody's") == []
    sniffer.stop()


def test_what_was_never_let_in_has_no_replies(cloud: Cloud, server: VM, clients: list[VM], net: Network) -> None:
    """Unsolicited replies, and segments that belong to no connection, are no way in; a SYN to an open port is."""
    tenant = cloud.accounts["tenant"]
    rules = allow(tenant, "server", "tcp/80", cidr=WORLD)
    for client in clients:
        net.some(client, server, "tcp/80")
    expect(net)
    sniffer = server.sniff()
    for client in clients:
        for version in BOTH:
            good = head(cloud, client, server, version) / TCP(sport=4000, dport=80, flags="S") / b"asked for"
            frames = [*unsolicited(cloud, client, server, version), good]
            client.send(map(bytes, frames))
    wait_for("the segments that a rule lets in", lambda: len(sniffer.frames(b"asked for")) == 4)
    assert sniffer.frames(b"unsolicited") == []
    sniffer.stop()
    revoke(tenant, rules)


def head(cloud: Cloud, client: VM, server: VM, version: int) -> Packet:
    ip = {4: IP, 6: IPv6}[version]
    return path(cloud, client, server) / ip(src=client.address(version), dst=server.address(version))


def unsolicited(cloud: Cloud, client: VM, server: VM, version: int) -> Iterator[Packet]:
    flags = [(80, flags) for flags in ("SA", "", "FSRPAU")] + [(81, flags) for flags in ("A", "PA", "FA", "R", "S")]
    payloads = [TCP(sport=80, dport=port, flags=flag) for port, flag in flags]
    payloads += [UDP(sport=53, dport=4000), ICMP(type=0) if version == 4 else ICMPv6EchoReply()]
    for payload in payloads:
        yield head(cloud, client, server, version) / payload / b"unsolicited"


def test_leaving_the_group_ends_nothing(cloud: Cloud, server: VM, clients: list[VM], net: Network) -> None:
    tenant, machine = cloud.accounts["tenant"], cloud.machines["server"]
    rules = allow(tenant, "server", *SERVICES, peers=["tenant/client"])
    expect_new(net, clients, server, reachable=True)
    streams = open_streams(clients, server)
    tenant.call("updateVirtualMachine", id=machine.id, securitygroupids=group_ids(tenant, "default"))
    expect_new(net, clients, server, reachable=False)
    goes_on(*streams)
    for stream in streams:
        stream.stop()
    tenant.call("updateVirtualMachine", id=machine.id, securitygroupids=group_ids(tenant, "server"))
    revoke(tenant, rules)
