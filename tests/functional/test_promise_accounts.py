# SPDX-License-Identifier: Apache-2.0
"""Promise: a rule may name groups of other accounts, and then means all their members, wherever they are."""

from collections.abc import Iterator

import pytest

from devstack.lab import Lab, Network
from devstack.lab.cloud import Cloud
from devstack.lab.example import MISSION_RULE
from sgctl.cli.errors import ApiError
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
    regroup,
    revoke,
)

pytestmark = pytest.mark.usefixtures("in_force")
AGENT = "tcp/12489"
MONITORS = ("nagios1", "cacti2", "both1")
STRANGERS = ("jump1", "nagios2", "web2")


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Iterator[Cloud]:
    """The operator's monitors on both hypervisors and pods; a shop that also has a group called nagios."""
    with promised_cloud(module_lab) as cloud:
        shop = cloud.create_account("shop", ("web", "nagios"))
        operator = cloud.create_account("operator", ("nagios", "cacti", "Idle"))
        boot(
            cloud,
            order(cloud, shop, "web1", 1, "web"),
            order(cloud, shop, "web2", 2, "web"),
            order(cloud, shop, "nagios2", 2, "nagios"),
            order(cloud, operator, "nagios1", 1, "nagios"),
            order(cloud, operator, "cacti2", 2, "cacti"),
            order(cloud, operator, "both1", 1, "cacti", "nagios"),
            order(cloud, operator, "jump1", 1),
        )
        yield cloud


@pytest.fixture
def rules(cloud: Cloud) -> Iterator[list[str]]:
    """The mission's rule, typed as it is written, and its two entries' ids; removed afterwards."""
    shop = cloud.accounts["shop"]
    typed = shop.type(MISSION_RULE)
    assert typed.returncode == 0, typed.stderr
    group = shop.all("listSecurityGroups", "securitygroup", securitygroupname="web")[0]
    rules = [str(rule["ruleid"]) for rule in group["ingressrule"]]
    assert len(rules) == 2
    yield rules
    left = shop.all("listSecurityGroups", "securitygroup", securitygroupname="web")[0]["ingressrule"]
    revoke(shop, [str(rule["ruleid"]) for rule in left])


def expect_monitored(cloud: Cloud, net: Network, *monitors: str) -> None:
    """These, and nobody else, reach the agent's port of both web servers, and no other port."""
    vms = {name: machine.vm for name, machine in cloud.machines.items()}
    for target in ("web1", "web2"):
        for name in (*MONITORS, *STRANGERS):
            for version in BOTH if name != target else ():
                (net.some if name in monitors else net.none)(vms[name], vms[target], AGENT, version=version)
        for name in monitors:
            net.none(vms[name], vms[target], "tcp/12488", "udp/12489", "icmp")
            net.none(vms[target], vms[name], AGENT)
    expect(net)


def test_the_missions_example(cloud: Cloud, rules: list[str], net: Network) -> None:
    expect_monitored(cloud, net, *MONITORS)


def test_each_entry_goes_by_itself(cloud: Cloud, rules: list[str], net: Network) -> None:
    shop = cloud.accounts["shop"]
    group = shop.all("listSecurityGroups", "securitygroup", securitygroupname="web")[0]
    nagios = [str(rule["ruleid"]) for rule in group["ingressrule"] if rule["securitygroupname"] == "nagios"]
    vm = cloud.machines["nagios1"].vm
    expect_monitored(cloud, net, *MONITORS)
    streams = [vm.stream("tcp", cloud.machines["web2"].vm.address(version), 12489) for version in BOTH]
    revoke(shop, nagios)
    expect_monitored(cloud, net, "cacti2", "both1")
    goes_on(*streams)
    for stream in streams:
        stream.stop()


def test_membership_counts_as_it_is_now(cloud: Cloud, rules: list[str], net: Network) -> None:
    regroup(cloud.machines["nagios1"], "Idle")
    regroup(cloud.machines["jump1"], "cacti")
    expect_monitored(cloud, net, "cacti2", "both1", "jump1")
    regroup(cloud.machines["jump1"], "default")
    regroup(cloud.machines["nagios1"], "nagios")
    expect_monitored(cloud, net, *MONITORS)


def test_an_empty_group_is_nobody(cloud: Cloud, net: Network) -> None:
    shop = cloud.accounts["shop"]
    empty = allow(shop, "web", AGENT, peers=["operator/Idle"])
    some = allow(shop, "web", "tcp/22", peers=["operator/nagios"])
    net.some(cloud.machines["nagios1"].vm, cloud.machines["web1"].vm, "tcp/22")
    net.some(cloud.machines["nagios1"].vm, cloud.machines["web2"].vm, "tcp/22")
    expect(net)
    expect_monitored(cloud, net)
    revoke(shop, empty + some)


def test_egress_rules_name_them_too(cloud: Cloud, net: Network) -> None:
    """Egress of one account by a group of another: only its members, over both address families."""
    shop, operator = cloud.accounts["shop"], cloud.accounts["operator"]
    ingress = allow(shop, "web", AGENT, cidr=WORLD) + allow(shop, "nagios", AGENT, cidr=WORLD)
    egress = allow(operator, "nagios", AGENT, peers=["shop/web"], egress=True)
    vms = {name: machine.vm for name, machine in cloud.machines.items()}
    for version in BOTH:
        for target in ("web1", "web2"):
            net.some(vms["nagios1"], vms[target], AGENT, version=version)
            net.some(vms["cacti2"], vms[target], AGENT, version=version)
            net.none(vms["nagios1"], vms[target], "tcp/12488", version=version)
        net.none(vms["nagios1"], vms["nagios2"], AGENT, version=version)
        net.some(vms["cacti2"], vms["nagios2"], AGENT, version=version)
    expect(net)
    revoke(operator, egress, egress=True)
    revoke(shop, ingress)


def test_others_see_nothing_and_change_nothing(cloud: Cloud, rules: list[str]) -> None:
    shop, operator = cloud.accounts["shop"], cloud.accounts["operator"]
    seen = {group["name"] for group in operator.all("listSecurityGroups", "securitygroup", listall="true")}
    assert seen == {"default", "nagios", "cacti", "Idle"}
    nagios = group_ids(operator, "nagios")
    refused = (
        ("deleteSecurityGroup", operator, {"id": nagios}, 536),
        ("revokeSecurityGroupIngress", operator, {"id": rules[0]}, 531),
        ("updateVirtualMachine", shop, {"id": cloud.machines["web1"].id, "securitygroupids": nagios}, 531),
    )
    for command, account, parameters, code in refused:
        with pytest.raises(ApiError) as error:
            account.call(command, **parameters)
        assert error.value.code == code
    with pytest.raises(ApiError, match="nobody"):
        allow(shop, "web", AGENT, peers=["operator/nobody"])
