# SPDX-License-Identifier: Apache-2.0
"""Promise: accounts share pods and subnets, and the members of a group are wherever they are.

Besides one VM of each account in each pod, pod 1 has a second subnet: its VMs share hypervisor and wire with those of
the first and yet meet them by way of the router. And it has a second range in the first subnet.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from devstack.lab import VM, Lab, Network
from devstack.lab.cloud import Cloud, Order
from devstack.lab.segment import add_addresses
from tests.functional.promised import (
    BOTH,
    WORLD,
    allow,
    boot,
    expect,
    goes_on,
    group_ids,
    order,
    promised_cloud,
    revoke,
)

pytestmark = pytest.mark.usefixtures("in_force")
SERVICES = ("tcp/80", "udp/53", "icmp")
SECOND = 51
"""Number of the second subnet of pod 1: 10.51.0.0/24 and fd00:51::/64."""
WEBS = ("web1", "web1b", "web1r", "web2")
"""Pod 1, its second subnet, its second range (all on one hypervisor), and pod 2."""
OTHERS = ("blog1", "blog1b", "blog2")


def add_second_subnet(cloud: Cloud) -> None:
    """Another subnet on pod 1's wire, and another range in its first subnet."""
    pod = cloud.pod(1)
    gateways = (f"10.{SECOND}.0.1", f"fd00:{SECOND}::1")
    add_addresses(cloud.router.namespace, pod.segment.name, [f"{gateways[0]}/24", f"{gateways[1]}/64"])
    common = {"podid": pod.id, "vlan": "untagged", "forvirtualnetwork": "false"}
    for gateway, first, last in (
        (gateways[0], f"10.{SECOND}.0.10", f"10.{SECOND}.0.20"), ("10.1.0.1", "10.1.0.251", "10.1.0.254"),
    ):  # fmt: skip
        cloud.admin.call(
            "createVlanIpRange", gateway=gateway, netmask="255.255.255.0", startip=first, endip=last, zoneid=pod.zone,
            **common,
        )  # fmt: skip
    cloud.admin.call(
        "createVlanIpRange", zoneid=pod.zone, ip6cidr=f"fd00:{SECOND}::/64", ip6gateway=gateways[1],
        startipv6=f"fd00:{SECOND}::10", endipv6=f"fd00:{SECOND}::20", **common,
    )  # fmt: skip


def at(order: Order, *addresses: str) -> Order:
    """The same VM with addresses of its own choice, which it does not ask DHCP for."""
    return replace(order, addresses=addresses)


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Iterator[Cloud]:
    with promised_cloud(module_lab) as cloud:
        shop, blog = cloud.create_account("shop", ("web",)), cloud.create_account("blog", ("web",))
        boot(
            cloud,
            order(cloud, shop, "web1", 1, "web"),
            order(cloud, shop, "web2", 2, "web"),
            order(cloud, blog, "blog1", 1, "web"),
            order(cloud, blog, "blog2", 2, "web"),
        )
        # Addresses are given by chance, and the lab's DHCP server serves the first subnet only.
        add_second_subnet(cloud)
        boot(
            cloud,
            at(order(cloud, shop, "web1b", 1, "web"), f"10.{SECOND}.0.11/24", f"fd00:{SECOND}::11/64"),
            at(order(cloud, blog, "blog1b", 1, "web"), f"10.{SECOND}.0.12/24", f"fd00:{SECOND}::12/64"),
            at(order(cloud, shop, "web1r", 1, "web"), "10.1.0.252/24", "fd00:1::252/64"),
        )
        yield cloud


@pytest.fixture
def vms(cloud: Cloud) -> dict[str, VM]:
    return {name: machine.vm for name, machine in cloud.machines.items()}


def expect_members(net: Network, vms: dict[str, VM], *, reachable: bool) -> None:
    """All of shop's to all of shop's; never one of blog's, and never shop's to blog's."""
    for version in BOTH:
        for one in WEBS:
            for other in WEBS:
                if one != other:
                    (net.some if reachable else net.none)(vms[one], vms[other], *SERVICES, version=version)
            for other in OTHERS:
                net.none(vms[other], vms[one], *SERVICES, version=version)
                net.none(vms[one], vms[other], *SERVICES, version=version)
    expect(net)


def test_members_meet_in_any_subnet(cloud: Cloud, vms: dict[str, VM], net: Network) -> None:
    """On one hypervisor in one subnet, in one subnet from two ranges, through the router, and in another pod."""
    shop = cloud.accounts["shop"]
    expect_members(net, vms, reachable=False)
    rules = allow(shop, "web", *SERVICES, peers=["shop/web"])
    expect_members(net, vms, reachable=True)
    streams = [
        vms[one].stream(proto, vms[other].address(version), port)
        for one, other in (("web1", "web1b"), ("web1b", "web1"), ("web1b", "web2"), ("web1r", "web1b"))
        for version in BOTH
        for proto, port in (("tcp", 80), ("udp", 53), ("icmp", 0))
    ]
    revoke(shop, rules)
    expect_members(net, vms, reachable=False)
    goes_on(*streams)
    for stream in streams:
        stream.stop()


def test_a_local_pair_that_meets_through_the_router_obeys_both_ends(
    cloud: Cloud, vms: dict[str, VM], net: Network
) -> None:
    """Both ends are checked, though it is one connection in one conntrack zone: the sender's egress does not do."""
    shop, blog = cloud.accounts["shop"], cloud.accounts["blog"]
    into = allow(blog, "web", "tcp/80", "udp/53", peers=["shop/web"])
    out = allow(shop, "web", "tcp/80", "tcp/81", peers=["blog/web"], egress=True)
    for version in BOTH:
        for one, other in (("web1", "blog1b"), ("web1b", "blog1"), ("web1", "blog1"), ("web1b", "blog1b")):
            net.some(vms[one], vms[other], "tcp/80", version=version)
            net.none(vms[one], vms[other], "tcp/81", "udp/53", version=version)
            net.none(vms[other], vms[one], "tcp/80", version=version)
    expect(net)
    revoke(shop, out, egress=True)
    revoke(blog, into)


def test_a_cidr_means_addresses_wherever_they_are(cloud: Cloud, vms: dict[str, VM], net: Network) -> None:
    shop = cloud.accounts["shop"]
    rules = allow(shop, "web", *SERVICES, cidr=f"10.{SECOND}.0.0/24,fd00:{SECOND}::/64")
    for version in BOTH:
        for one in ("blog1b", "web1b"):
            for other in ("web1", "web2", "web1r"):
                net.some(vms[one], vms[other], *SERVICES, version=version)
        net.some(vms["blog1b"], vms["web1b"], *SERVICES, version=version)
        for one in ("blog1", "blog2", "web1"):
            net.none(vms[one], vms["web1b"], *SERVICES, version=version)
            net.none(vms[one], vms["web2"], *SERVICES, version=version)
    expect(net)
    revoke(shop, rules)


def test_the_rest_of_the_world_is_a_cidr_too(cloud: Cloud, vms: dict[str, VM], net: Network) -> None:
    shop = cloud.accounts["shop"]
    outside = cloud.add_outside()
    rules = allow(shop, "web", *SERVICES, cidr=WORLD)
    for version in BOTH:
        for name in WEBS:
            net.some(outside, vms[name], *SERVICES, version=version)
            net.some(vms[name], outside, *SERVICES, version=version)
        for name in OTHERS:
            net.none(outside, vms[name], *SERVICES, version=version)
            net.some(vms[name], outside, *SERVICES, version=version)
    expect(net)
    revoke(shop, rules)


def test_groups_of_one_name_are_two_groups(cloud: Cloud) -> None:
    shop, blog = cloud.accounts["shop"], cloud.accounts["blog"]
    assert group_ids(shop, "web") != group_ids(blog, "web")
