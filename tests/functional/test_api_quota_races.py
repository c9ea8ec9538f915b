# SPDX-License-Identifier: Apache-2.0
"""Two API servers over one database, and more wishes at once than a quota allows: just as many are granted."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from cs import CloudStack, CloudStackApiException

from sgctl.model import Group, Member, Row, Rule, Vm
from sgctl.store import Database
from tests.functional.api_servers import Server, account, at, catch_up, deploy, pod

MOST, WISHES = 7, 16
QUOTAS = tuple(
    f"--max-{what}={MOST}" for what in ("vms-per-account", "groups-per-account", "rules-per-group", "members-per-group")
)
Wish = Callable[[CloudStack, int], object]


@dataclass(frozen=True, slots=True)
class Place:
    """An account's clients at two servers with quotas, and the zone for its VMs."""

    server: Server
    admins: tuple[CloudStack, CloudStack]
    users: tuple[CloudStack, CloudStack]
    zone: Any

    def granted(self, wish: Wish) -> int:
        """How many of the wishes, made at both servers at once, are granted; the others are refused for the quota."""

        def ask(number: int) -> bool:
            try:
                wish(self.users[number % 2], number)
            except CloudStackApiException as error:
                assert error.error["errorcode"] == 532, error
                return False
            return True

        self.catch_up()
        with ThreadPoolExecutor(WISHES) as pool:
            return sum(pool.map(ask, range(WISHES)))

    def catch_up(self) -> None:
        """Both servers know what either has been told."""
        for admin in self.admins:
            catch_up(admin)

    def count(self, kind: type[Row], **columns: str) -> int:
        """How many rows the database has."""
        with Database(self.server.remote) as database:
            assert database.wait_insync(30)
            return len(database.replica.find(kind, **columns))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("api")
    with (
        Server(directory / "one", *QUOTAS) as first,
        Server(directory / "two", *QUOTAS, db=first.remote) as second,
    ):
        admin = first.admin()
        user = account(admin, first.endpoint)
        zone = pod(admin, 23, size=100)
        yield Place(first, (admin, at(second, admin)), (user, at(second, user)), zone)


def group(place: Place, name: str) -> str:
    """The id of a group of the account."""
    (found,) = place.users[0].listSecurityGroups(securitygroupname=name)["securitygroup"]
    return str(found["id"])


def test_rules(place: Place) -> None:
    def wish(user: CloudStack, number: int) -> None:
        authorize = user.authorizeSecurityGroupIngress if number % 4 < 2 else user.authorizeSecurityGroupEgress
        authorize(securitygroupname="default", cidrlist=f"10.0.{number}.0/24", fetch_result=True)

    assert place.granted(wish) == place.count(Rule, group=group(place, "default")) == MOST


def test_groups(place: Place) -> None:
    """Besides `default`, which the account has from the start."""
    assert place.granted(lambda user, number: user.createSecurityGroup(name=f"g{number}")) == MOST - 1
    assert place.count(Group, account=place_account(place)) == MOST


def test_vms_and_members(place: Place) -> None:
    """VMs in the same group; then one VM gives up its address there, and both servers want to fill the place."""
    vms: list[Any] = []
    assert place.granted(lambda user, number: vms.append(deploy(user, place.zone))) == MOST
    assert place.count(Vm, account=place_account(place)) == MOST
    default = group(place, "default")
    assert place.count(Member, group=default) == MOST
    nics = [vm["nic"][0]["id"] for vm in vms]
    place.catch_up()
    place.users[0].destroyVirtualMachine(id=vms[0]["id"], fetch_result=True)

    def wish(user: CloudStack, number: int) -> None:
        user.addIpToNic(nicid=nics[1 + number % (MOST - 1)], fetch_result=True)

    assert place.granted(wish) == 1
    assert place.count(Member, group=default) == MOST


def place_account(place: Place) -> str:
    """The id of the account."""
    (found,) = place.users[0].listAccounts()["account"]
    return str(found["id"])
