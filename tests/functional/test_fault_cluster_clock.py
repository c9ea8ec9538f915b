# SPDX-License-Identifier: Apache-2.0
"""Members of a database cluster whose clocks jump: nobody loses the lead for it, and no answered write is lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from time import time

import pytest

from sgctl.errors import Unavailable
from sgctl.model import Group
from sgctl.store import Database, Insert
from tests.faults.clock import DAY, HOUR, dates, environment, set_file
from tests.functional.api_servers import until
from tests.functional.db_nodes import Cluster, Node, cluster
from tests.functional.store_server import ACME
from tests.unit.store_rows import group

pytestmark = pytest.mark.timeout(300)
WRITES, MEMBERS = 4, 3
PATIENCE = 30.0
JUMPS = (HOUR, -DAY, 365 * DAY, 0)
CLOSE = 60
NAMES = (f"g{number}" for number in count())


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("db")
    for name in "abc":
        set_file(directory / f"{name}.clock", 0)
    with cluster(directory, environment=lambda name: environment(directory / f"{name}.clock")) as found:
        yield found


@pytest.fixture(scope="module")
def client(members: Cluster) -> Iterator[Database]:
    with Database(members.remotes) as database:
        assert database.wait_insync(30)
        database.write([Insert(ACME)])
        yield database


def jump(node: Node, seconds: int) -> None:
    set_file(Path(f"{node.directory}.clock"), seconds)


def write(client: Database) -> set[str]:
    """Some rows, each acknowledged by a majority; the names of those that were."""
    made: set[str] = set()
    while len(made) < WRITES:
        name = next(NAMES)
        with suppress(Unavailable):
            client.write([Insert(group(name, ACME))], deadline=PATIENCE)
            made.add(name)
    return made


def _jumped(node: Node, by: int) -> bool:
    """Whether the database has been written to by a clock that is off by so much."""
    return abs(dates(node.directory / "sg.db")[-1] - time() - by) < CLOSE


def groups(client: Database) -> set[str]:
    return {row.name for row in client.replica.all(Group)}


def test_clocks_of_members_jump(members: Cluster, client: Database) -> None:
    made: set[str] = set()

    def keeps_the_lead(by: int) -> bool:
        """Whether the leader leads when its clock has jumped, and that of another in the other direction."""
        leader = members.leader()
        other = next(node for node in members.nodes if node is not leader)
        jump(leader, by)
        jump(other, -by)
        made.update(write(client))
        until(lambda: _jumped(leader, by), "the clock to jump")
        until(members.complete, "all members")
        return members.leader() is leader

    for by in JUMPS:
        # A machine that stands still for a second costs a leader its lead as well; then the next one's clock jumps.
        assert any(keeps_the_lead(by) for _ in range(MEMBERS))
    until(lambda: groups(client) >= made, "all rows")


def test_a_leader_dies_and_comes_back_while_no_two_clocks_agree(members: Cluster, client: Database) -> None:
    made = write(client)
    for node, by in zip(members.nodes, (HOUR, -DAY, 30 * DAY), strict=True):
        jump(node, by)
    old = members.leader()
    old.stop(signal.SIGKILL)
    made |= write(client)
    jump(old, -365 * DAY)
    old.start()
    until(members.complete, "all members")
    made |= write(client)
    until(lambda: groups(client) >= made, "all rows")
