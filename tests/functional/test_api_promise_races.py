# SPDX-License-Identifier: Apache-2.0
"""Two API servers over one database that promise the same addresses at the same time: one wins, never both.

The database decides, since each server may not have heard yet of what the other has written.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from threading import Event

import pytest
from cs import CloudStack, CloudStackApiException

from sgctl.model import Address, Allowance, Member, Nic, Pod, allowance_text, member_id
from sgctl.store import Database
from tests.functional.api_servers import Server, account, at, catch_up, deploy, pod

ROUNDS = 10
OWN = ("10.21.1.1", "10.21.1.2", "10.21.1.3")
FIRST = ip_address("10.21.1.30")


@dataclass(frozen=True, slots=True)
class Place:
    """Three NICs of an account, and clients at both servers: of the root admin, and of the account."""

    server: Server
    admins: tuple[CloudStack, CloudStack]
    users: tuple[CloudStack, CloudStack]
    nics: tuple[str, str, str]

    def add(self, at: int, nic: int, address: str, **params: str) -> str:
        """Promise an address by way of one server; the id, empty if it is refused."""
        try:
            answer = self.admins[at].addAllowedAddressToNic(
                nicid=self.nics[nic], ipaddress=address, fetch_result=True, **params
            )
        except CloudStackApiException as error:
            assert error.error["errorcode"] == 530, error
            return ""
        return str(answer["allowedaddress"]["id"])

    def remove(self, at: int, id: str) -> None:
        """Take it back, once the server knows of it."""
        catch_up(self.admins[at])
        self.admins[at].removeAllowedAddressFromNic(id=id, fetch_result=True)

    def give(self, at: int, nic: int, address: str) -> str:
        """Make it an address of the NIC, as its owner may; as `add`."""
        try:
            answer = self.users[at].addIpToNic(nicid=self.nics[nic], ipaddress=address, fetch_result=True)
        except CloudStackApiException as error:
            assert error.error["errorcode"] == 530, error
            return ""
        return str(answer["nicsecondaryip"]["id"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("api")
    with Server(directory / "one") as first, Server(directory / "two", db=first.remote) as second:
        admin = first.admin()
        user = account(admin, first.endpoint)
        zone = pod(admin, 21, size=100)
        one, two, three = (str(deploy(user, zone, ipaddress=own)["nic"][0]["id"]) for own in OWN)
        catch_up(at(second, admin))
        yield Place(first, (admin, at(second, admin)), (user, at(second, user)), (one, two, three))


def held(place: Place) -> dict[str, list[tuple[str, bool]]]:
    """By address, which NICs have it, and whether as a promise; all that follows from these rows agrees with them."""
    with Database(place.server.remote) as database:
        assert database.wait_insync(30)
        reads = database.replica
        found: dict[str, list[tuple[str, bool]]] = {}
        nics = {nic.id: nic for nic in reads.all(Nic)}
        for nic in nics.values():
            rows, promises = reads.find(Address, nic=nic.id), reads.find(Allowance, nic=nic.id)
            assert nic.addresses == {row.address for row in rows}
            assert nic.allowed == set(map(allowance_text, promises))
            for row in (*rows, *promises):
                found.setdefault(row.address, []).append((nic.id, isinstance(row, Allowance)))
        expected = {member_id(group, text) for text, by in found.items() for id, _ in by for group in nics[id].groups}
        assert {row.id for row in reads.all(Member)} == expected
        (pod_row,) = reads.all(Pod)
        assert pod_row.shared == {row.address for row in reads.all(Allowance) if row.shared}
        return found


def test_an_address_goes_to_one_of_those_who_want_it(place: Place) -> None:
    """Promised to two NICs, by both servers, and asked for by the owner of a third."""

    def want(number: int) -> str:
        address, server, nic = str(FIRST + number // 6), number % 2, number % 6 // 2
        return place.give(server, nic, address) if nic == 2 else place.add(server, nic, address)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(want, range(6 * ROUNDS)))
    for round in range(ROUNDS):
        assert sum(map(bool, answers[6 * round : 6 * round + 6])) == 1
    found = held(place)
    assert all(len(found[str(FIRST + round)]) == 1 for round in range(ROUNDS))


def test_what_is_taken_back_goes_to_one_of_those_who_want_it(place: Place) -> None:
    """While one server takes it back, both try to promise it to others, until one of them has it."""
    address = str(FIRST + 20)
    holder, id = 0, place.add(0, 0, address)
    for round in range(ROUNDS):
        won = Event()

        def try_for(server: int, nic: int, won: Event = won) -> tuple[int, str]:
            found = ""
            while not found and not won.is_set():
                found = place.add(server, nic, address)
            won.set()
            return nic, found

        with ThreadPoolExecutor(3) as pool:
            removal = pool.submit(place.remove, round % 2, id)
            tries = [pool.submit(try_for, server, nic) for server, nic in enumerate({0, 1, 2} - {holder})]
            removal.result()
            ((holder, id),) = [(nic, found) for nic, found in (one.result() for one in tries) if found]
        assert held(place)[address] == [(place.nics[holder], True)]
    place.remove(0, id)


def test_all_who_share_an_address_get_it(place: Place) -> None:
    """And when all lose it at once, none is left, nor does the pod's row say so."""
    addresses = [str(FIRST + 30 + number) for number in range(3)]
    jobs = [(nic % 2, nic, address) for address in addresses for nic in range(3)]
    with ThreadPoolExecutor(6) as pool:
        ids = list(pool.map(lambda job: place.add(*job, shared="true"), jobs))
    found = held(place)
    assert all(sorted(found[address]) == sorted((nic, True) for nic in place.nics) for address in addresses)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(place.remove, (0, 1) * len(ids), ids))
    assert not held(place).keys() & set(addresses)
