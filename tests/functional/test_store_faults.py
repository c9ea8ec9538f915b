# SPDX-License-Identifier: Apache-2.0
"""What the store promises when the server dies, hangs, is away, or cannot write."""

import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Event, Thread

import pytest

from sgctl.db.talk import Talk
from sgctl.dbserver import DatabaseServer
from sgctl.errors import StoreError, Unavailable
from sgctl.model import Group, Host
from sgctl.store import Database, Delete, Insert, Update
from sgctl.store.replica import Changes
from tests.functional.store_server import (
    ACME,
    BASE,
    DB,
    HERE,
    WEB,
    connected,
    eventually,
    held,
    offline,
    served,
    truth,
    where,
)
from tests.unit.store_rows import group

KILLS = int(os.environ.get("SGCTL_KILLS", "5"))
"""How often a server is killed while somebody writes."""


@pytest.fixture
def server() -> Iterator[DatabaseServer]:
    with served() as server:
        yield server


@pytest.fixture
def database(server: DatabaseServer) -> Iterator[Database]:
    with connected(server) as database:
        database.write([Insert(row) for row in BASE])
        yield database


def kill(server: DatabaseServer) -> None:
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def quick(action: Callable[[], object], seconds: float) -> bool:
    """Whether it takes less time than that; a machine that stands still may have to try again."""

    def took() -> float:
        began = time.monotonic()
        action()
        return time.monotonic() - began

    return any(took() < seconds for _ in range(4))


@contextmanager
def away(server: DatabaseServer, database: Database) -> Iterator[None]:
    """The same files without a server, until the client has noticed."""
    server.stop()
    eventually(lambda: not database.connected)
    yield
    server.start()


def test_answered_writes_survive_a_kill(server: DatabaseServer, database: Database) -> None:
    for number in range(6):
        row = group(f"g{number}", ACME)
        database.write([Insert(row)], deadline=10)
        killed = server.pid
        kill(server)
        assert database.replica.get(Group, row.id) == row
        eventually(lambda killed=killed: server.pid not in {None, killed})
        with connected(server) as fresh:
            assert fresh.replica.get(Group, row.id) == row
    eventually(lambda: held(database) == truth(server))


def test_kills_amid_writes_leave_all_or_nothing(server: DatabaseServer, database: Database) -> None:
    answered, unsure, killed = set[str](), set[str](), Event()
    chance = random.Random(KILLS)

    def write_pairs() -> None:
        for number in count():
            if killed.is_set():
                return
            pair = [group(f"{number} {half}", ACME) for half in "ab"]
            try:
                database.write([Insert(row) for row in pair])
            except Unavailable as error:
                unsure.update(row.id for row in pair if error.uncertain)
            else:
                answered.update(row.id for row in pair)

    writer = Thread(target=write_pairs)
    writer.start()
    last = None
    for _ in range(KILLS):
        eventually(lambda old=last: server.pid not in {None, old})
        last, before = server.pid, len(answered)
        eventually(lambda seen=before: len(answered) > seen)
        time.sleep(chance.uniform(0, 0.1))
        kill(server)
    killed.set()
    writer.join()
    eventually(lambda: server.pid not in {None, last})
    with connected(server):
        assert database.wait_insync(30)
    found = held(database)[Group].keys() - {WEB.id, DB.id}
    assert answered <= found <= answered | unsure
    assert len(found) % 2 == 0
    assert held(database) == truth(server)


def test_a_write_during_an_absence_fails_soon_and_clearly(server: DatabaseServer, database: Database) -> None:
    with away(server, database):
        assert not database.replica.insync
        assert database.replica.get(Group, WEB.id) == WEB

        def fails() -> None:
            with pytest.raises(Unavailable, match="no connection") as caught:
                database.write([Update(Group, WEB.id, {"name": "x"})])
            assert not caught.value.uncertain

        assert quick(fails, 2)
    database.write([Update(Group, WEB.id, {"name": "x"})], deadline=10)


def test_a_write_waits_for_a_short_absence(server: DatabaseServer, database: Database) -> None:
    with connected(server, patience=30.0, deadline=30.0) as patient:
        kill(server)
        eventually(lambda: not patient.connected)
        patient.write([Update(Group, WEB.id, {"name": "x"})])
        assert held(patient) == truth(server)


def test_a_hanging_server_is_given_up_at_the_deadline(server: DatabaseServer, database: Database) -> None:
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:

        def fails() -> None:
            with pytest.raises(Unavailable, match="in time") as caught:
                database.write([Update(Group, WEB.id, {"name": "x"})], deadline=0.5)
            assert caught.value.uncertain

        assert quick(fails, 1)
    finally:
        os.kill(pid, signal.SIGCONT)
    database.write([Update(Group, DB.id, {"name": "y"})])
    assert held(database) == truth(server)


def test_what_a_relay_has_passed_on_may_have_been_made(server: DatabaseServer, tmp_path: Path) -> None:
    """If it loses the database before that has answered."""
    caught = list[Unavailable]()

    def write() -> None:
        with pytest.raises(Unavailable) as error:
            client.write([Insert(ACME)], deadline=20)
        caught.append(error.value)

    with DatabaseServer(tmp_path, relay_of=server.remote) as relay, connected(relay, leader_only=False) as client:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        writer = Thread(target=write)
        writer.start()
        eventually(lambda: bool(client._sent))
        with Talk(relay.remote) as talk:
            for _ in range(3):  # by now the relay has sent what came before
                talk.call("echo")
        kill(server)
        writer.join()
    assert caught and caught[0].uncertain


def test_changes_during_an_absence_are_noticed(server: DatabaseServer, database: Database) -> None:
    machines = [HERE.machine(ACME, WEB) for _ in range(3)]
    database.write([Insert(row) for machine in machines for row in machine])
    changed: list[Changes] = []
    with away(server, database):
        database.replica.on_change(changed.append)
        gone = [{"op": "delete", "table": row.TABLE, "where": where(row)} for row in machines[0]]
        offline(server, *gone, {"op": "update", "table": "Group", "where": where(WEB), "row": {"description": "new"}})
        offline(server, {"op": "insert", "table": "Host", "row": {"name": "h9"}})
    assert database.wait_insync(30)
    assert held(database) == truth(server)
    told = {id for changes in changed for _, id in changes}
    assert told == {row.id for row in machines[0]} | {WEB.id} | database.replica.ids(Host)
    assert database.replica.get(Group, WEB.id) == replace(WEB, description="new")


def test_many_clients_come_back(server: DatabaseServer, database: Database) -> None:
    clients = [Database(server.remote) for _ in range(30)]
    try:
        for client in clients:
            client.start()
        assert all(client.wait_insync(30) for client in clients)
        kill(server)
        eventually(lambda: not any(client.connected for client in clients))
        database.write([Delete(Group, DB.id)], deadline=10)
        eventually(lambda: all(client.replica.insync and held(client) == held(database) for client in clients))
    finally:
        for client in clients:
            client.stop()


def test_a_full_disk_refuses_writes_and_keeps_what_was_answered() -> None:
    with tempfile.TemporaryDirectory(prefix="sgfull") as directory:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "sgfull", directory], check=True)
        try:
            _fill(Path(directory))
        finally:
            subprocess.run(["umount", "--lazy", directory], check=True)


def _fill(directory: Path) -> None:
    with DatabaseServer(directory) as server, connected(server) as database:
        database.write([Insert(row) for row in BASE])
        written = []
        with pytest.raises(StoreError):
            for number in range(200):
                row = replace(group(f"g{number}", ACME), description="x" * 2000)
                database.write([Insert(row)])
                written.append(row)
        assert written
        assert all(database.replica.get(Group, row.id) == row for row in written)
        subprocess.run(["mount", "-o", "remount,size=1m", str(directory)], check=True)
        assert database.wait_insync(30)
        database.write([Insert(group("later", ACME))], deadline=10)
        assert held(database) == truth(server)
        assert {row.id for row in written} <= truth(server)[Group].keys()


def test_stopping_ends_writes_that_wait() -> None:
    database = Database("unix:/nonexistent/sg.sock", patience=5)
    database.start()
    assert database.alive and not database.connected
    failed: list[Unavailable] = []

    def write() -> None:
        with pytest.raises(Unavailable) as caught:
            database.write([Insert(WEB)], deadline=100)
        failed.append(caught.value)

    writer = Thread(target=write)
    writer.start()
    time.sleep(0.1)
    database.stop()
    writer.join(30)
    assert not writer.is_alive()
    assert failed and not database.alive
