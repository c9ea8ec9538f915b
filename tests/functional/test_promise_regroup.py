# SPDX-License-Identifier: Apache-2.0
"""Promise, beyond CloudStack: the groups of a VM may change while it runs."""

from collections.abc import Iterator

import pytest

from devstack.lab import VM, Lab, Network
from devstack.lab.agent import Stream
from devstack.lab.cloud import Cloud
from devstack.lab.namespace import wait_for
from tests.functional.promised import BOTH, WORLD, allow, boot, expect, goes_on, order, promised_cloud, regroup

pytestmark = pytest.mark.usefixtures("in_force")
GROUPS = {"web": "tcp/80", "dns": "udp/53", "ping": "icmp"}
"""Each group lets everybody in to one service."""


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Iterator[Cloud]:
    """A VM whose groups change, another beside it, and one on the other hypervisor."""
    with promised_cloud(module_lab) as cloud:
        tenant = cloud.create_account("tenant", (*GROUPS, "vault", "quiet"))
        for group, service in GROUPS.items():
            allow(tenant, group, service, cidr=WORLD)
        allow(tenant, "vault", "tcp/5432", "icmp", peers=["tenant/web"])
        allow(tenant, "quiet", "tcp/5432", peers=["tenant/vault"], egress=True)
        boot(
            cloud,
            order(cloud, tenant, "chameleon", 1, "web"),
            order(cloud, tenant, "near", 1, "vault"),
            order(cloud, tenant, "far", 2, "vault"),
        )
        yield cloud


@pytest.fixture
def vms(cloud: Cloud) -> dict[str, VM]:
    return {name: machine.vm for name, machine in cloud.machines.items()}


def expect_into(net: Network, vms: dict[str, VM], *groups: str) -> None:
    """Exactly the services of these groups are open at the one that changes, for near and far."""
    for version in BOTH:
        for name in ("near", "far"):
            for group, service in GROUPS.items():
                cell = net.some if group in groups else net.none
                cell(vms[name], vms["chameleon"], service, version=version)
    expect(net)


@pytest.mark.parametrize("groups", [("dns",), ("web", "dns", "ping"), ("ping", "web"), ("default",), ("web",)])
def test_it_has_the_services_of_its_present_groups(
    cloud: Cloud, vms: dict[str, VM], net: Network, groups: tuple[str, ...]
) -> None:
    regroup(cloud.machines["chameleon"], *groups)
    expect_into(net, vms, *groups)


def test_others_rules_see_its_present_groups(cloud: Cloud, vms: dict[str, VM], net: Network) -> None:
    """As a peer it counts where it is a member now, on its own hypervisor and on the other."""
    for groups, member in ((("web",), True), (("dns",), False), (("dns", "web"), True)):
        regroup(cloud.machines["chameleon"], *groups)
        for version in BOTH:
            for name in ("near", "far"):
                cell = net.some if member else net.none
                cell(vms["chameleon"], vms[name], "tcp/5432", "icmp", version=version)
        expect(net)


def test_egress_rules_come_and_go_with_the_group(cloud: Cloud, vms: dict[str, VM], net: Network) -> None:
    for quiet in (True, False):
        regroup(cloud.machines["chameleon"], "web", *(["quiet"] if quiet else []))
        for version in BOTH:
            for name in ("near", "far"):
                net.some(vms["chameleon"], vms[name], "tcp/5432", version=version)
                (net.none if quiet else net.some)(vms["chameleon"], vms[name], "icmp", version=version)
                net.some(vms[name], vms["chameleon"], "tcp/80", version=version)
        expect(net)


def test_connections_outlive_the_change(cloud: Cloud, vms: dict[str, VM], net: Network) -> None:
    regroup(cloud.machines["chameleon"], "web", "dns", "ping")
    expect_into(net, vms, *GROUPS)
    streams = [
        vms[name].stream(proto, vms["chameleon"].address(version), port)
        for name in ("near", "far")
        for version in BOTH
        for proto, port in (("tcp", 80), ("udp", 53), ("icmp", 0))
    ]
    regroup(cloud.machines["chameleon"], "default")
    expect_into(net, vms)
    goes_on(*streams)
    for stream in streams:
        assert stream.stop().error == ""


def test_the_vm_notices_nothing(cloud: Cloud, vms: dict[str, VM], net: Network) -> None:
    """Ten changes in a row, as fast as the API takes them, cost a running connection no packet."""
    machine = cloud.machines["chameleon"]
    regroup(machine, "web", "ping")
    expect_into(net, vms, "web", "ping")
    pings = [vms["far"].stream("tcp", vms["chameleon"].address(version), 80) for version in BOTH]
    pings += [vms["far"].stream("icmp", vms["chameleon"].address(version)) for version in BOTH]
    for number in range(10):
        regroup(machine, "web", "ping", *(["dns"] if number % 2 else []))
    expect_into(net, vms, "web", "ping", "dns")
    for ping in pings:
        wait_for("all answers", lambda stream=ping: unanswered(stream) <= 2)
        assert ping.stop().error == ""


def unanswered(stream: Stream) -> int:
    """What is lost, or still on its way."""
    report = stream.report()
    return report.sent - report.received
