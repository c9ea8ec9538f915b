# SPDX-License-Identifier: Apache-2.0
"""Pods and zones that go, and users that come and go."""

from typing import Any

import pytest

from sgctl.model import Key, Range, Vm
from tests.unit.api_memory import Client, Cloud, deploy, deploy_params

PERSON = {"email": "a@b", "firstname": "a", "lastname": "b", "password": "x"}


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def user(cloud: Cloud) -> Client:
    return cloud.account("web")


def test_a_pod_goes_with_its_ranges_once_it_has_no_vms(cloud: Cloud, user: Client) -> None:
    zone = cloud.zone()
    pod = cloud.pod(zone, ipv6=True)
    other = cloud.pod(zone)
    vm = deploy(user, zone, podid=pod["id"])
    assert cloud.admin.refused("deletePod", id=pod["id"])[0] == 536
    user.ok("destroyVirtualMachine", id=vm["id"])
    assert cloud.admin.ok("deletePod", id=pod["id"]) == {"success": True}
    reads = cloud.memory.replica
    assert {row.pod for row in reads.all(Range)} == {other["id"]}
    assert reads.all(Vm) == []
    assert cloud.admin.refused("deletePod", id=pod["id"])[0] == 431


def test_a_zone_goes_once_it_has_no_pods(cloud: Cloud) -> None:
    zone = cloud.zone()
    pod = cloud.pod(zone)
    assert cloud.admin.refused("deleteZone", id=zone["id"])[0] == 536
    cloud.admin.ok("deletePod", id=pod["id"])
    assert cloud.admin.ok("deleteZone", id=zone["id"]) == {"success": True}
    assert cloud.admin.ok("listZones") == {}


def create(cloud: Cloud, **params: object) -> Any:
    return cloud.admin.ok("createUser", **{**PERSON, "account": "web", **params})["user"]


def test_an_account_may_have_several_users(cloud: Cloud, user: Client) -> None:
    second = create(cloud, username="second")
    assert (second["account"], second.get("apikey")) == ("web", None)
    (account,) = user.ok("listAccounts")["account"]
    assert [one["username"] for one in account["user"]] == ["web", "second"]
    keys = user.ok("registerUserKeys", id=second["id"])["userkeys"]
    assert cloud.admin.ok("getUser", userapikey=keys["apikey"])["user"]["username"] == "second"
    cloud.admin.ok("deleteUser", id=second["id"])
    assert len(cloud.memory.replica.find(Key, user=second["id"])) == 0
    assert user.ok("listUsers")["count"] == 1


def test_users_that_cannot_be_made_or_deleted(cloud: Cloud, user: Client) -> None:
    for params in ({"username": "web"}, {"username": "x", "account": "nobody"}):
        assert cloud.admin.refused("createUser", **{**PERSON, "account": "web", **params})[0] == 431
    assert cloud.admin.refused("deleteUser", id=cloud.admin.user.id)[0] == 531


def test_a_filter_for_tags_finds_nothing(user: Client) -> None:
    assert user.ok("listSecurityGroups", **{"tags[0].key": "a", "tags[0].value": "b"}) == {}


def test_texts_of_addresses_that_cannot_be_had(cloud: Cloud, user: Client) -> None:
    zone = cloud.zone()
    cloud.pod(zone)
    vm = deploy(user, zone)
    code, text = user.refused("addIpToNic", nicid=vm["nic"][0]["id"], ipaddress=vm["nic"][0]["ipaddress"])
    assert (code, text.startswith("Failed to assign secondary IP to NIC")) == (530, True)


@pytest.mark.parametrize("missing", ["ip6gateway", "startipv6"])
def test_an_ipv6_range_says_what_it_needs(cloud: Cloud, missing: str) -> None:
    pod = cloud.pod(cloud.zone())
    span = {"ip6cidr": "fd00::/64", "ip6gateway": "fd00::1", "startipv6": "fd00::10"}
    del span[missing]
    assert cloud.admin.refused("createVlanIpRange", podid=pod["id"], **span) == (431, f"ip6cidr needs {missing}")


@pytest.mark.parametrize("taken", [True, False])
def test_an_address_of_the_other_ip_version_is_refused_as_such(cloud: Cloud, user: Client, taken: bool) -> None:
    zone = cloud.zone()
    cloud.pod(zone, ipv6=True)
    nic = deploy(user, zone)["nic"][0] if taken else {"ipaddress": "203.0.113.1", "ip6address": "2001:db8::1"}
    for param, value in (("ip6address", nic["ipaddress"]), ("ipaddress", nic["ip6address"])):
        code, text = user.refused("deployVirtualMachine", **deploy_params(user, zone, **{param: value}))
        assert (code, value in text, "is no IPv" in text) == (431, True, True), text
