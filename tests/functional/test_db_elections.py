# SPDX-License-Identifier: Apache-2.0
"""The election timer follows the size of the database, and nobody else's word."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sgctl.db import elections
from sgctl.db.status import control, size
from sgctl.dbfile import Member
from sgctl.dbserver import DatabaseServer
from sgctl.store import Database, Insert
from tests.functional.ports import free_port
from tests.functional.store_server import ACME
from tests.functional.vswitch_sandbox import eventually

NICS = 43
"""Atoms of one NIC in all tables."""


@pytest.fixture
def member(tmp_path: Path) -> Iterator[DatabaseServer]:
    with DatabaseServer(tmp_path, member=Member(local=f"tcp:127.0.0.1:{free_port()}")) as server:
        with Database(server.remote) as database:
            assert database.wait_insync(10)
            database.write([Insert(ACME)])
        yield server


@pytest.mark.parametrize(
    ("nics", "timer"), [(0, 1000), (7000, 1000), (8000, 2000), (50_000, 7000), (100_000, 13_000), (1_000_000, 16_000)]
)
def test_it_grows_with_the_database(nics: int, timer: int) -> None:
    assert elections.suited(NICS * nics) == timer


def test_a_small_database_keeps_its_timer(member: DatabaseServer) -> None:
    assert elections.adjust(member.directory)
    assert timer(member) == 1000


def test_a_leader_lengthens_it_step_by_step(member: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elections, "_US_PER_ATOM", 4_900_000 / size(member.directory))
    for passed in (2000, 4000, 5000):
        assert not elections.adjust(member.directory)
        eventually(lambda: timer(member) == passed)  # noqa: B023
    eventually(lambda: elections.adjust(member.directory))


def test_what_operators_have_made_longer_stays(member: DatabaseServer) -> None:
    control(member.directory, "cluster/change-election-timer", "1900")
    eventually(lambda: timer(member) == 1900)
    eventually(lambda: elections.adjust(member.directory))
    assert timer(member) == 1900


def timer(member: DatabaseServer) -> int:
    found = elections._TIMER.search(control(member.directory, "cluster/status"))
    assert found is not None
    return int(found[1])
