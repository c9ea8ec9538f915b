# SPDX-License-Identifier: Apache-2.0
"""`sgctl-db check` on real databases: one that the API has filled, spoilt by hand and put right again."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from sgctl.errors import StoreError
from sgctl.model import Member, Nic, Rule, member_id
from sgctl.store import Database, Delete, Insert, Update
from tests.functional.api_servers import Server, account, deploy, pod
from tests.functional.db_nodes import TOOL, tool
from tests.unit.store_rows import uid

NOBODY = uid("nobody")


@dataclass(frozen=True, slots=True)
class Place:
    """A database with a VM each of two accounts, and a writer that asks nobody."""

    server: Server
    database: Database
    nics: tuple[str, str]

    def check(self, *, status: int, output: str = "json") -> Any:
        """What is printed with this status."""
        command = [TOOL, "check", f"--db={self.server.remote}", f"-o{output}"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, ended.stderr) == (status, "")
        return json.loads(ended.stdout) if output == "json" else ended.stdout

    def nic(self, number: int) -> Nic:
        found = self.database.replica.get(Nic, self.nics[number])
        assert found
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with Server(tmp_path_factory.mktemp("api") / "one") as server, Database(server.remote) as database:
        admin = server.admin()
        users = [account(admin, server.endpoint) for _ in range(2)]
        zone = pod(admin, 24, size=50)
        first, second = (str(deploy(user, zone)["nic"][0]["id"]) for user in users)
        users[0].addIpToNic(nicid=first, fetch_result=True)
        users[0].authorizeSecurityGroupIngress(
            securitygroupname="default", protocol="tcp", startport=80, cidrlist="10.0.0.0/8", fetch_result=True
        )
        assert database.wait_insync(30)
        yield Place(server, database, (first, second))


@pytest.fixture(autouse=True)
def sound(place: Place) -> Iterator[None]:
    """Before and after each test nothing contradicts."""
    assert place.check(status=0) == []
    yield
    assert place.check(status=0, output="table") == "no row contradicts others\n"


def test_a_stranger_in_a_group_is_named(place: Place) -> None:
    (group,) = place.nic(0).groups
    (address,) = place.nic(1).addresses
    row = Member(id=member_id(group, address), group=group, nic=place.nics[1], address=address)
    place.database.write([Insert(row)])
    (found,) = place.check(status=1)
    assert (found["table"], found["id"]) == ("Member", row.id)
    assert found["text"].startswith(f"{address} is a member of the group {group} for the NIC {row.nic}, which is not ")
    assert place.check(status=1, output="table") == f"Member {row.id}: {found['text']}\n"
    place.database.write([Delete(Member, row.id)])


def test_a_member_that_is_missing_is_named(place: Place) -> None:
    row = place.database.replica.find(Member, nic=place.nics[0])[0]
    place.database.write([Delete(Member, row.id)])
    (found,) = place.check(status=1)
    assert found["id"] == place.nics[0] and f"its address {row.address} is not among the members" in found["text"]
    place.database.write([Insert(row)])


def test_a_nic_on_a_host_that_does_not_exist_is_named(place: Place) -> None:
    place.database.write([Update(Nic, place.nics[0], {"host": "ghost"})])
    (found,) = place.check(status=1)
    assert found["text"] == "it is on ghost, which no host is called"
    place.database.write([Update(Nic, place.nics[0], {"host": ""})])


def test_the_database_itself_refuses_rules_about_groups_that_do_not_exist(place: Place) -> None:
    (rule,) = place.database.replica.all(Rule)
    with pytest.raises(StoreError):
        place.database.write([Update(Rule, rule.id, {"peer": NOBODY, "cidr": ""})])


def test_no_database_is_no_clean_bill(tmp_path: Any) -> None:
    assert "none of the remotes" in tool("check", f"--db=unix:{tmp_path}/none", status=1)
