# SPDX-License-Identifier: Apache-2.0
"""Promise: every account has a group `default`, and a VM in no other group is in it."""

from collections.abc import Iterator

import pytest

from devstack.lab import Lab, Network
from devstack.lab.cloud import Cloud, Machine
from sgctl.cli.errors import ApiError
from tests.functional.promised import (
    BOTH,
    WORLD,
    allow,
    boot,
    expect,
    order,
    promised_cloud,
    regroup,
    revoke,
    server_of,
)

pytestmark = pytest.mark.usefixtures("in_force")
SERVICES = ("tcp/80", "udp/53", "icmp")


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Iterator[Cloud]:
    """Two accounts; nobody names a group when the VMs are deployed, but for `open2`."""
    with promised_cloud(module_lab) as cloud:
        one, two = cloud.create_account("one"), cloud.create_account("two", ("open",))
        allow(two, "open", *SERVICES, cidr=WORLD)
        boot(
            cloud,
            order(cloud, one, "plain1", 1),
            order(cloud, one, "mate1", 1),
            order(cloud, one, "mate2", 2),
            order(cloud, two, "other1", 1),
            order(cloud, two, "open2", 2, "open"),
        )
        yield cloud


@pytest.fixture
def plain(cloud: Cloud) -> Machine:
    return cloud.machines["plain1"]


def test_an_account_begins_with_it_and_nothing_else(cloud: Cloud, plain: Machine) -> None:
    account = cloud.create_account("newcomer")
    (group,) = account.all("listSecurityGroups", "securitygroup")
    assert (group["name"], group["ingressrule"], group["egressrule"]) == ("default", [], [])
    vm = plain.order.account.all("listVirtualMachines", "virtualmachine", name="plain1")[0]
    assert [group["name"] for group in vm["securitygroup"]] == ["default"]


def test_nothing_comes_in_and_everything_goes_out(cloud: Cloud, plain: Machine, net: Network) -> None:
    opened = cloud.machines["open2"].vm
    for version in BOTH:
        for name in ("mate1", "mate2", "other1", "open2"):
            net.none(cloud.machines[name].vm, plain.vm, *SERVICES, version=version)
        net.some(plain.vm, opened, *SERVICES, version=version)
        net.some(plain.vm, server_of(cloud.pod(1), version), "icmp", version=version)
    net.check(timeout=0.5)


def test_its_rules_may_change(cloud: Cloud, plain: Machine, net: Network) -> None:
    """The usual one: members of `default` reach each other; the other account's `default` is another group."""
    one = cloud.accounts["one"]
    rules = allow(one, "default", *SERVICES, peers=["one/default"])
    mates = [cloud.machines[name].vm for name in ("plain1", "mate1", "mate2")]
    others = [cloud.machines[name].vm for name in ("other1", "open2")]
    for version in BOTH:
        for mate in mates:
            for peer in mates:
                if peer is not mate:
                    net.some(mate, peer, *SERVICES, version=version)
            for stranger in others:
                net.none(stranger, mate, *SERVICES, version=version)
    expect(net)
    revoke(one, rules)
    net.none(mates[1], mates[0], *SERVICES)
    net.none(mates[2], mates[0], *SERVICES, version=6)
    expect(net)


def test_egress_rules_restrict_it_for_both_families(cloud: Cloud, plain: Machine, net: Network) -> None:
    one, opened = cloud.accounts["one"], cloud.machines["open2"].vm
    rules = allow(one, "default", "tcp/80", cidr="10.0.0.0/8", egress=True)
    net.some(plain.vm, opened, "tcp/80")
    net.none(plain.vm, opened, "udp/53", "icmp")
    net.none(plain.vm, opened, *SERVICES, version=6)
    expect(net)
    revoke(one, rules, egress=True)
    for version in BOTH:
        net.some(plain.vm, opened, *SERVICES, version=version)
    expect(net)


def test_leaving_every_group_leads_back_to_it(cloud: Cloud, plain: Machine, net: Network) -> None:
    """A VM is never in no group: whoever is taken out of `open` and into `default` is closed."""
    opened = cloud.machines["open2"]
    net.some(plain.vm, opened.vm, "tcp/80")
    expect(net)
    regroup(opened, "default")
    for version in BOTH:
        net.none(plain.vm, opened.vm, *SERVICES, version=version)
    expect(net)
    regroup(opened, "open")
    net.some(plain.vm, opened.vm, "tcp/80")
    expect(net)


@pytest.mark.parametrize(
    ("command", "parameters"),
    [
        ("deleteSecurityGroup", {"name": "default"}),
        ("createSecurityGroup", {"name": "Default"}),
    ],
)
def test_it_stays(cloud: Cloud, command: str, parameters: dict[str, str]) -> None:
    account = cloud.accounts["two"]
    with pytest.raises(ApiError):
        account.call(command, **parameters)
    assert "default" in [group["name"] for group in account.all("listSecurityGroups", "securitygroup")]
