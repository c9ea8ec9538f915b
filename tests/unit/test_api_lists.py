# SPDX-License-Identifier: Apache-2.0
"""What list commands find: keywords, addresses however they are written, and what is not set."""

from typing import Any

import pytest

from tests.unit.api_memory import Client, Cloud, deploy


class World:
    """A pod with both IP versions, and a VM in it."""

    def __init__(self) -> None:
        self.cloud = Cloud()
        self.admin, self.user = self.cloud.admin, self.cloud.account("web")
        self.zone = self.cloud.zone()
        self.pod = self.cloud.pod(self.zone, ipv6=True)
        self.vm = deploy(self.user, self.zone)
        self.nic = self.vm["nic"][0]


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def found(client: Client, command: str, **params: object) -> int:
    return int(client.ok(command, **params).get("count", 0))


def test_a_keyword_of_jobs_is_in_the_command(world: World) -> None:
    assert found(world.user, "listAsyncJobs", keyword="DEPLOY") == 1
    assert found(world.user, "listAsyncJobs", keyword="revoke") == 0


def test_a_keyword_of_nics_is_in_an_address(world: World) -> None:
    what = {"virtualmachineid": world.vm["id"]}
    for key in ("ipaddress", "ip6address", "macaddress"):
        assert found(world.user, "listNics", keyword=world.nic[key].upper(), **what) == 1
    assert found(world.user, "listNics", keyword="nothing", **what) == 0


@pytest.mark.parametrize(("keyword", "count"), [("10.", 1), ("FD00:", 1), ("untag", 1), ("nothing", 0)])
def test_a_keyword_of_ranges_is_in_an_address_or_the_vlan(world: World, keyword: str, count: int) -> None:
    assert found(world.admin, "listVlanIpRanges", keyword=keyword) == count
    assert found(world.admin, "listVlanIpRanges", keyword=world.pod["name"]) == 1


def spellings(ip6address: str) -> list[str]:
    """The same IPv6 address in other ways."""
    first, last = ip6address.split("::")
    return [f"{first.upper()}::{last.upper()}", f"{first}:0::0:{last}"]


def test_an_ipv6_address_is_found_however_it_is_written(world: World) -> None:
    for text in spellings(world.nic["ip6address"]):
        assert found(world.user, "listVirtualMachines", ip6address=text) == 1, text
        assert found(world.user, "listVirtualMachines", ipaddress=text) == 1, text
    for text in ("fd00::9:9", "nothing"):
        assert found(world.user, "listVirtualMachines", ip6address=text) == 0, text


@pytest.mark.parametrize(
    ("made", "asked"),
    [
        ({"ipaddress": "fd00:9::1"}, ["FD00:9:0::1", "fd00:9::1"]),
        ({"cidr": "fd00:a::/64"}, ["FD00:A:0::/64", "fd00:a::1/64"]),
    ],
    ids=str,
)
def test_what_is_allowed_is_found_however_it_is_written(world: World, made: dict[str, Any], asked: list[str]) -> None:
    world.admin.ok("addAllowedAddressToNic", nicid=world.nic["id"], **made)
    for text in asked:
        assert found(world.user, "listAllowedAddresses", ipaddress=text) == 1, text
    assert found(world.user, "listAllowedAddresses", ipaddress="fd00:9::2") == 0


@pytest.mark.parametrize("command", ["listTags", "listVolumes", "listLoadBalancerRules", "listProjects"])
def test_pages_of_lists_that_are_always_empty(world: World, command: str) -> None:
    assert world.user.ok(command, page=1, pagesize=10) == {}
    assert world.user.refused(command, pagesize=10)[0] == 431
    assert world.user.refused(command, page=1, pagesize=501)[0] == 431


def test_what_is_not_set_is_left_out() -> None:
    cloud = Cloud()
    (template,) = cloud.admin.ok("listTemplates", templatefilter="all")["template"]
    cloud.zone()
    (network,) = cloud.admin.ok("listNetworks")["network"]
    assert "" not in (*template.values(), *network.values())
