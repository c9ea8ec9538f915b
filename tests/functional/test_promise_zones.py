# SPDX-License-Identifier: Apache-2.0
"""Promise: a group belongs to its account in the whole region; its members may be in any zone."""

from collections.abc import Iterator

import pytest

from devstack.lab import Lab, Network
from devstack.lab.cloud import Cloud
from tests.functional.promised import (
    BOTH,
    WORLD,
    allow,
    boot,
    expect,
    goes_on,
    order,
    promised_cloud,
    revoke,
)

pytestmark = pytest.mark.usefixtures("in_force")
SERVICES = ("tcp/80", "udp/53", "icmp")


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Iterator[Cloud]:
    """Two zones, in each a pod and a hypervisor, and in each a member of every group."""
    with promised_cloud(module_lab, zones=2) as cloud:
        shop = cloud.create_account("shop", ("web", "db"))
        operator = cloud.create_account("operator", ("nagios",))
        places = [("web", shop), ("db", shop), ("nagios", operator)]
        boot(
            cloud,
            *(order(cloud, account, f"{group}{zone}", zone, group) for zone in (1, 2) for group, account in places),
        )
        yield cloud


def members(cloud: Cloud, group: str) -> list[str]:
    return [f"{group}{zone}" for zone in (1, 2)]


def expect_between(cloud: Cloud, net: Network, source: str, target: str, *, reachable: bool, service: str) -> None:
    for one in members(cloud, source):
        for other in members(cloud, target):
            cell = net.some if reachable else net.none
            for version in BOTH if one != other else ():
                cell(cloud.machines[one].vm, cloud.machines[other].vm, service, version=version)


def test_zones_and_members_are_what_they_seem(cloud: Cloud) -> None:
    vms = cloud.accounts["shop"].all("listVirtualMachines", "virtualmachine")
    assert {vm["name"]: vm["zonename"] for vm in vms} == {
        "web1": "zone1", "db1": "zone1", "web2": "zone2", "db2": "zone2",
    }  # fmt: skip
    (group,) = cloud.accounts["shop"].all("listSecurityGroups", "securitygroup", securitygroupname="web")
    assert group["virtualmachinecount"] == 2


def test_a_rule_means_members_in_every_zone(cloud: Cloud, net: Network) -> None:
    shop = cloud.accounts["shop"]
    rules = allow(shop, "db", "tcp/5432", peers=["shop/web"])
    rules += allow(shop, "web", "tcp/12489", "icmp", peers=["operator/nagios"])
    rules += allow(shop, "web", "udp/7946", peers=["shop/web"])
    expect_between(cloud, net, "web", "db", reachable=True, service="tcp/5432")
    expect_between(cloud, net, "db", "db", reachable=False, service="tcp/5432")
    expect_between(cloud, net, "nagios", "db", reachable=False, service="tcp/5432")
    expect_between(cloud, net, "nagios", "web", reachable=True, service="tcp/12489")
    expect_between(cloud, net, "nagios", "web", reachable=True, service="icmp")
    expect_between(cloud, net, "db", "web", reachable=False, service="icmp")
    expect_between(cloud, net, "web", "web", reachable=True, service="udp/7946")
    expect_between(cloud, net, "db", "web", reachable=False, service="udp/7946")
    expect(net)
    revoke(shop, rules)


def test_revoking_reaches_every_zone(cloud: Cloud, net: Network) -> None:
    shop = cloud.accounts["shop"]
    rules = allow(shop, "web", *SERVICES, peers=["shop/db"])
    for service in SERVICES:
        expect_between(cloud, net, "db", "web", reachable=True, service=service)
    expect(net)
    across = cloud.machines["db2"].vm.stream("tcp", cloud.machines["web1"].vm.address(6), 80)
    revoke(shop, rules)
    for service in SERVICES:
        expect_between(cloud, net, "db", "web", reachable=False, service=service)
    expect(net)
    goes_on(across)
    across.stop()


def test_egress_by_group_reaches_every_zone(cloud: Cloud, net: Network) -> None:
    shop, operator = cloud.accounts["shop"], cloud.accounts["operator"]
    into_db = allow(shop, "db", "tcp/80", cidr=WORLD)
    into_nagios = allow(operator, "nagios", "tcp/80", cidr=WORLD)
    out = allow(shop, "web", "tcp/80", peers=["shop/db"], egress=True)
    expect_between(cloud, net, "web", "db", reachable=True, service="tcp/80")
    expect_between(cloud, net, "web", "nagios", reachable=False, service="tcp/80")
    expect_between(cloud, net, "db", "nagios", reachable=True, service="tcp/80")
    expect(net)
    revoke(shop, out, egress=True)
    expect_between(cloud, net, "web", "nagios", reachable=True, service="tcp/80")
    expect(net)
    revoke(shop, into_db)
    revoke(operator, into_nagios)
