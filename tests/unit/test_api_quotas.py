# SPDX-License-Identifier: Apache-2.0
"""What an account may have at most, whoever asks for more of it."""

from typing import Any

import pytest

from sgctl.model import Group, Member, Row, Rule, Vm
from sgctl.quotas import Quotas
from tests.unit.api_memory import Client, Cloud, deploy, deploy_params

CIDR = {"cidrlist": "10.0.0.0/8"}


class Place:
    """A cloud of quotas with a zone, and a user in it."""

    def __init__(self, **quotas: int) -> None:
        self.cloud = Cloud(quotas=Quotas(**quotas))
        self.zone = self.cloud.zone()
        self.pod = self.cloud.pod(self.zone)
        self.user = self.cloud.account("web")

    def deploy(self, **params: object) -> Any:
        return deploy(self.user, self.zone, **params)

    def refused(self, command: str, *, by: Client | None = None, **params: object) -> str:
        """What is said, after nothing has been changed."""
        before = self.rows()
        code, text = (by or self.user).refused(command, **params)
        assert code == 532
        assert self.rows() == before
        return text

    def rows(self) -> dict[type[Row], set[Row]]:
        reads = self.cloud.memory.replica
        return {kind: set(reads.all(kind)) for kind in (Group, Rule, Vm, Member)}


def test_groups_of_an_account() -> None:
    place = Place(groups_per_account=2)
    place.user.ok("createSecurityGroup", name="a")
    text = place.refused("createSecurityGroup", name="b")
    assert text == "account web may have 2 security groups at most (--max-groups-per-account)"
    place.user.ok("deleteSecurityGroup", name="a")
    place.user.ok("createSecurityGroup", name="b")


def test_vms_of_an_account_without_those_that_are_destroyed() -> None:
    place = Place(vms_per_account=2)
    first, _ = place.deploy(), place.deploy()
    params = deploy_params(place.user, place.zone)
    assert "account web may have 2 VMs at most" in place.refused("deployVirtualMachine", **params)
    place.user.ok("destroyVirtualMachine", id=first["id"])
    place.deploy()
    place.refused("deployVirtualMachine", **params)
    deploy(place.cloud.account("other"), place.zone)


def test_a_root_admin_is_bound_by_the_quota_of_the_account_that_it_acts_for() -> None:
    place = Place(vms_per_account=1, groups_per_account=1)
    place.deploy()
    admin = place.cloud.admin
    for account in ("web", "admin"):
        params = deploy_params(admin, place.zone, account=account)
        if account == "admin":
            admin.ok("deployVirtualMachine", **params)
        place.refused("deployVirtualMachine", by=admin, **params)
        place.refused("createSecurityGroup", by=admin, name="a", account=account)


def test_rules_of_a_group_in_both_directions_together() -> None:
    place = Place(rules_per_group=3)
    place.user.ok("authorizeSecurityGroupIngress", securitygroupname="default", cidrlist="10.0.0.0/8,11.0.0.0/8")
    more = {"securitygroupname": "default", "cidrlist": "12.0.0.0/8,13.0.0.0/8"}
    text = place.refused("authorizeSecurityGroupEgress", **more)
    assert text == "security group default may have 3 rules at most (--max-rules-per-group)"
    place.user.ok("authorizeSecurityGroupEgress", securitygroupname="default", cidrlist="12.0.0.0/8")
    place.refused("authorizeSecurityGroupIngress", securitygroupname="default", cidrlist="14.0.0.0/8")


def test_members_of_a_group_by_whichever_way_they_come() -> None:
    place = Place(members_per_group=2)
    user = place.user
    user.ok("createSecurityGroup", name="a")
    first, second = place.deploy(), place.deploy(securitygroupnames="a")
    nic = first["nic"][0]["id"]
    user.ok("addIpToNic", nicid=nic)
    text = place.refused("addIpToNic", nicid=nic)
    assert text == "security group default may have 2 members' addresses at most (--max-members-per-group)"
    place.refused("deployVirtualMachine", **deploy_params(user, place.zone))
    place.refused("updateVirtualMachine", id=second["id"], securitygroupnames="a,default")
    address = {"nicid": nic, "ipaddress": "10.2.0.250"}
    place.refused("addAllowedAddressToNic", by=place.cloud.admin, **address)
    user.ok("destroyVirtualMachine", id=first["id"])
    user.ok("updateVirtualMachine", id=second["id"], securitygroupnames="a,default")


def test_who_has_too_much_already_may_have_less() -> None:
    place = Place()
    place.user.ok("authorizeSecurityGroupIngress", securitygroupname="default", cidrlist="10.0.0.0/8,11.0.0.0/8")
    vm = place.deploy()
    place.cloud.limit(Quotas(rules_per_group=1, members_per_group=1, vms_per_account=1, groups_per_account=1))
    place.refused("authorizeSecurityGroupIngress", securitygroupname="default", cidrlist="12.0.0.0/8")
    (group,) = place.user.ok("listSecurityGroups")["securitygroup"]
    place.user.ok("revokeSecurityGroupIngress", id=group["ingressrule"][0]["ruleid"])
    place.user.ok("updateVirtualMachine", id=vm["id"], displayname="x")
    place.user.ok("destroyVirtualMachine", id=vm["id"])


@pytest.mark.parametrize("nic", ["addresses_per_nic", "groups_per_nic"])
def test_zero_is_no_limit(nic: str) -> None:
    quotas = {"groups_per_account": 0, "vms_per_account": 0, "rules_per_group": 0, "members_per_group": 0, nic: 0}
    place = Place(**quotas)
    user = place.user
    user.ok("createSecurityGroup", name="a")
    user.ok("authorizeSecurityGroupIngress", securitygroupname="a", **CIDR)
    vm = place.deploy(securitygroupnames="a,default")
    id = vm["nic"][0]["id"]
    user.ok("addIpToNic", nicid=id)
    place.cloud.admin.ok("addAllowedAddressToNic", nicid=id, ipaddress="10.2.0.250")


def test_the_last_one_goes_to_one_of_two_servers() -> None:
    """Another server takes it between this one's look and its write."""
    place = Place(rules_per_group=1, members_per_group=1, vms_per_account=1, groups_per_account=2)
    group = {"securitygroupname": "default"}
    deployed = deploy_params(place.user, place.zone)
    for command, params, kind in (
        ("createSecurityGroup", {"name": "a"}, Group),
        ("authorizeSecurityGroupIngress", {**group, "cidrlist": "10.0.0.0/8"}, Rule),
        ("deployVirtualMachine", deployed, Vm),
    ):
        others = {"name": "b"} if kind is Group else {**group, "cidrlist": "11.0.0.0/8"} if kind is Rule else deployed
        before = len(place.rows()[kind])

        def first(command: str = command, others: dict[str, Any] = others) -> None:
            place.user.ok(command, **others)

        place.cloud.memory.before_next_write = first
        assert place.user.refused(command, **params)[0] == 532
        assert len(place.rows()[kind]) == before + 1
