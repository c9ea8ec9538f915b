# SPDX-License-Identifier: Apache-2.0
"""Transactions: what they do, what they refuse, and that the replica shows them when they return."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import pytest

from sgctl.dbserver import DatabaseServer
from sgctl.errors import Conflict, Referenced, Stale, StoreError
from sgctl.model import Account, Address, Cloud, Group, Member, Nic, Pod, Rule, Vm
from sgctl.store import Absent, Change, Condition, Database, Delete, Guard, Insert, Update
from tests.functional.store_server import ACME, BASE, DB, HERE, WEB, connected, held, online, served, truth, where
from tests.unit.store_rows import group, rule


@pytest.fixture(scope="module")
def server() -> Iterator[DatabaseServer]:
    with served() as server:
        yield server


@pytest.fixture
def database(server: DatabaseServer) -> Iterator[Database]:
    """A connection to a database that holds `BASE` only."""
    with connected(server) as database:
        kinds = (Cloud, Member, Address, Nic, Vm, Rule, Group)
        database.write([Delete(kind, row.id) for kind in kinds for row in database.replica.all(kind)])
        present = [row for row in BASE if database.replica.get(type(row), row.id) is None]
        database.write([Insert(row) for row in present])
        yield database


def test_what_was_written_is_there_for_everybody(server: DatabaseServer, database: Database) -> None:
    machine = HERE.machine(ACME, WEB, DB)
    database.write([Insert(row) for row in (*machine, rule(WEB, DB), rule(WEB))], comment="a VM and its rules")
    assert all(database.replica.get(type(row), row.id) == row for row in machine)
    assert held(database) == truth(server)


def test_updates_of_every_type(server: DatabaseServer, database: Database) -> None:
    _, nic, *_ = machine = HERE.machine(ACME, WEB)
    peered = rule(WEB, DB)
    database.write([Insert(row) for row in (*machine, peered)])
    for groups in ({WEB.id, DB.id}, {DB.id}, set[str](), {WEB.id}):
        database.write([Update(Nic, nic.id, {"groups": frozenset(groups)})])
        assert database.replica.get(Nic, nic.id) == replace(nic, groups=frozenset(groups))
    for servers in ({"::1"}, {"::1", "10.0.0.2"}, set[str]()):
        database.write([Update(Pod, HERE.pod.id, {"dns_servers": frozenset(servers)})])
        assert database.replica.get(Pod, HERE.pod.id) == replace(HERE.pod, dns_servers=frozenset(servers))
    odd = {"description": 'ä "{[\\\n\x01 🐍', "name": "x" * 70_000}
    database.write([Update(Group, WEB.id, odd), Update(Rule, peered.id, {"peer": None, "last": 0})])
    assert database.replica.get(Rule, peered.id) == replace(peered, peer=None, last=0)
    assert held(database) == truth(server)


Refusal = tuple[list[Change], list[Condition], type[StoreError], str]
NOBODY = str(uuid4())
ONE, (VM, NIC, ADDRESS) = HERE.machine(ACME), HERE.machine(ACME)
REFUSED: dict[str, Refusal] = {
    "same name": ([Insert(replace(WEB, id=NOBODY))], [], Conflict, "Group"),
    "same id": ([Insert(replace(WEB, name_key="other"))], [], Conflict, "Group"),
    "same name twice": ([Insert(replace(group("x", ACME), id=str(uuid4()))) for _ in "12"], [], Conflict, "Group"),
    "same MAC": ([Insert(row) for row in (*ONE, VM, replace(NIC, mac=ONE[1].mac), ADDRESS)], [], Conflict, "NIC"),
    "same address": (
        [Insert(row) for row in (*ONE, VM, NIC, replace(ADDRESS, address=ONE[2].address))], [], Conflict, "Address",
    ),
    "account in use": ([Delete(Account, ACME.id)], [], Referenced, "Account"),
    "group in a rule": ([Insert(rule(WEB, DB)), Delete(Group, DB.id)], [], Referenced, "Group"),
    "group of a VM": ([*map(Insert, HERE.machine(ACME, DB)), Delete(Group, DB.id)], [], Referenced, "Group"),
    "account unknown": ([Insert(replace(group("x", ACME), account=NOBODY))], [], Stale, "Account"),
    "group is gone": ([Update(Group, NOBODY, {"name": "x"})], [], Stale, NOBODY),
    "deleted twice": ([Delete(Group, DB.id), Delete(Group, DB.id)], [], Stale, DB.id),
    "guard differs": ([Delete(Group, DB.id)], [Guard(Group, WEB.id, {"description": "new"})], Stale, WEB.id),
    "guarded row is gone": ([Delete(Group, DB.id)], [Guard(Group, NOBODY)], Stale, NOBODY),
    "guarded set differs": ([Delete(Group, DB.id)], [Guard(Pod, HERE.pod.id, {"dns_servers": {"::9"}})], Stale, "Pod"),
    "somebody has it": ([Delete(Group, DB.id)], [Absent(Group, "name", WEB.name)], Stale, WEB.name),
    "no such direction": ([Insert(replace(rule(WEB), direction="up"))], [], StoreError, "up"),
    "a second cloud": ([Insert(Cloud(id=str(uuid4()), name=name)) for name in "ab"], [], StoreError, "Cloud"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "guards", "error", "text"), REFUSED.values(), ids=REFUSED)
def test_refused_changes_change_nothing(
    server: DatabaseServer,
    database: Database,
    changes: list[Change],
    guards: list[Condition],
    error: type[StoreError],
    text: str,
) -> None:
    before = truth(server)
    with pytest.raises(error, match=text) as caught:
        database.write([Update(Group, WEB.id, {"name": "first"}), *changes], guards)
    assert type(caught.value) is error
    assert held(database) == truth(server) == before


def test_conflicts_and_references_name_the_table(database: Database) -> None:
    with pytest.raises(Conflict) as conflict:
        database.write([Insert(replace(WEB, id=NOBODY))])
    assert (conflict.value.table, set(conflict.value.columns)) == ("Group", {"account", "name_key"})
    with pytest.raises(Referenced) as referenced:
        database.write([Delete(Pod, HERE.pod.id)])
    assert referenced.value.table == "Pod"


def test_true_guards_let_pass(database: Database) -> None:
    guards = [Guard(Group, WEB.id), Guard(Group, WEB.id, {"description": "", "account": ACME.id})]
    pod = Guard(Pod, HERE.pod.id, {"dns_servers": database.replica.all(Pod)[0].dns_servers})
    database.write(
        [Update(Group, WEB.id, {"description": "new"})], [*guards, pod, Absent(Group, "name", "nobody has it")]
    )
    found = database.replica.get(Group, WEB.id)
    assert found is not None and found.description == "new"


def test_only_one_of_two_writers_gets_the_name(server: DatabaseServer, database: Database) -> None:
    with connected(server) as other, ThreadPoolExecutor() as threads:

        def attempt(writer: Database, name: str) -> bool:
            try:
                writer.write([Insert(replace(group(name, ACME), id=str(uuid4())))])
            except Conflict:
                return False
            return True

        for number in range(50):
            won = list(threads.map(attempt, (database, other), [f"g{number}"] * 2))
            assert sorted(won) == [False, True]
        assert held(database) == held(other) == truth(server)


def test_guarded_counters_lose_nothing(server: DatabaseServer, database: Database) -> None:
    database.write([Insert(Cloud(id=NOBODY))])

    def count_up(_: int) -> int:
        """Add one as an API server would, and say how often somebody else was faster."""
        stale = 0
        while True:
            now = database.replica.all(Cloud)[0].sequence
            try:
                database.write(
                    [Update(Cloud, NOBODY, {"sequence": now + 1})], [Guard(Cloud, NOBODY, {"sequence": now})]
                )
            except Stale:
                stale += 1
            else:
                return stale

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(count_up, range(100)))
    assert database.replica.all(Cloud)[0].sequence == 100


def test_what_others_delete_goes(server: DatabaseServer, database: Database) -> None:
    changed: set[str] = set()
    database.replica.on_change(lambda changes: changed.update(id for _, id in changes))
    online(server, {"op": "delete", "table": "Group", "where": where(DB)})
    database.write([Update(Group, WEB.id, {"description": "later"})])
    assert database.replica.get(Group, DB.id) is None
    assert changed == {DB.id, WEB.id}


def test_thousands_of_rows_in_one_transaction(server: DatabaseServer, database: Database) -> None:
    rows = [row for _ in range(2000) for row in HERE.machine(ACME, WEB)]
    began = time.monotonic()
    database.write([Insert(row) for row in rows])
    database.write([Update(Nic, nic.id, {"host": "h1"}) for nic in database.replica.find(Nic, groups=WEB.id)])
    with connected(server) as fresh:
        assert held(fresh) == held(database)
    database.write([Delete(type(row), row.id) for row in reversed(rows)])
    assert time.monotonic() - began < 60
    assert database.replica.count(Nic) == 0


def test_writing_from_a_listener_is_refused(database: Database) -> None:
    caught: list[RuntimeError] = []

    def write(_: object) -> None:
        with pytest.raises(RuntimeError) as error:
            database.write([])
        caught.append(error.value)

    database.replica.on_change(write)
    database.write([Update(Group, WEB.id, {"description": "x"})])
    assert caught
