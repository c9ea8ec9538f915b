# SPDX-License-Identifier: Apache-2.0
"""A cluster of three `sgctl-manager sgctl.db`: its leader is killed while tenants write, its members come and go."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from cs import CloudStack, CloudStackApiException

from sgctl.errors import Unavailable
from sgctl.model import Account, Group, Host
from sgctl.store import Database, Insert, Interest, Update
from tests.faults.strain import Strain
from tests.functional.api_servers import Server, until
from tests.functional.db_nodes import Cluster, Node, cluster, tool
from tests.functional.ports import free_port
from tests.functional.store_server import ACME, eventually
from tests.unit.store_rows import account, group, uid

#: Several databases on a machine that may be busy with other tests.
pytestmark = pytest.mark.timeout(300)

HOST = Host(id=uid("host h1"), name="h1")
LOAD, HANG = account("load"), account("hang")
HANG_LIMIT = 20.0
LIMIT = 3.0
"""Seconds after which the API must write again when the leader was killed."""


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("db")) as found:
        yield found


@pytest.fixture
def three(members: Cluster) -> Iterator[Cluster]:
    """Three members, whatever another test has done to them."""
    yield members
    for node in members.nodes:
        if not node.runs:
            node.start()
    until(members.complete, "all members")


class Tenant(threading.Thread):
    """Makes groups by the API, one after the other, and remembers which of them were acknowledged, and when."""

    def __init__(self, client: CloudStack, name: str) -> None:
        super().__init__(daemon=True)
        self.client, self.prefix = client, name
        self.made: dict[str, float] = {}
        self.troubles: list[str] = []
        self._ended = threading.Event()

    def run(self) -> None:
        for number in range(100_000):
            if self._ended.is_set():
                return
            name = f"{self.prefix}{number}"
            try:
                self.client.createSecurityGroup(name=name)
                self.made[name] = time.monotonic()
            except CloudStackApiException as error:
                self.troubles.append(str(error))
                time.sleep(0.02)

    def end(self) -> None:
        self._ended.set()
        self.join(60)
        assert not self.is_alive()

    def silence_after(self, moment: float) -> float:
        """Seconds from a moment to the first acknowledgement of a request that was answered well after it."""
        later = until(lambda: [at for at in list(self.made.values()) if at > moment + 0.05], "a group")
        return float(min(later)) - moment


@pytest.fixture
def api(three: Cluster, tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "api", db=three.remotes) as server:
        yield server


@pytest.fixture
def agent(three: Cluster) -> Iterator[Database]:
    """An agent's end of the database, with its Host row."""
    interest = Interest()
    interest.watch(host="h1", nics=frozenset())
    with Database(three.remotes, interest=interest) as database:
        assert database.wait_insync(30)
        database.write([Insert(HOST)])
        yield database


@pytest.fixture
def tenants(api: Server) -> Iterator[list[Tenant]]:
    found = [Tenant(api.admin(), name) for name in ("x", "y")]
    for tenant in found:
        tenant.start()
    yield found
    for tenant in found:
        tenant.end()


def told(agent: Database, seen: int) -> bool:
    """Whether the agent could write its heartbeat."""
    try:
        agent.write([Update(Host, HOST.id, {"seen": seen})])
    except Unavailable:
        return False
    return True


def test_the_leader_dies_under_load(three: Cluster, api: Server, agent: Database, tenants: list[Tenant]) -> None:
    """Twice: nothing acknowledged is lost, the API writes again in seconds, an agent notices nothing but a delay.

    On a machine that is busy with other tests one of the two may take longer.
    """
    silences: list[float] = []
    with Strain() as strain:
        for turn in range(1, 3):
            until(lambda: all(len(tenant.made) > 5 for tenant in tenants), "tenants write")
            leader = three.leader()
            killed = time.monotonic()
            leader.stop(signal.SIGKILL)
            silences.append(max(tenant.silence_after(killed) for tenant in tenants))
            until(lambda: told(agent, turn), "the agent's heartbeat")  # noqa: B023
            leader.start()
            until(three.complete, "the killed member comes back")
        limit = LIMIT * strain.ratio()
    assert min(silences) < limit, (silences, limit)
    for tenant in tenants:
        tenant.end()
    acknowledged = {name for tenant in tenants for name in tenant.made}
    listed = {one["name"] for one in api.admin().listSecurityGroups(fetch_list=True)}
    assert acknowledged <= listed
    with Database(three.remotes) as fresh:
        assert fresh.wait_insync(30)
        assert acknowledged <= {one.name for one in fresh.replica.all(Group)}
        assert fresh.replica.get(Host, HOST.id) == replace(HOST, seen=2)


def test_nothing_that_was_acknowledged_is_lost(three: Cluster) -> None:
    """A writer of the store, which gets its answers faster than the API's tenants; each member has them all."""
    done: list[str] = []
    killed: Node | None = None
    with Database(three.remotes) as writer:
        assert writer.wait_insync(30)
        writer.write([Insert(LOAD)])
        end, numbers = time.monotonic() + 90, count()
        while len(done) < 300 and time.monotonic() < end:
            number = next(numbers)
            if number == 100:
                killed = three.leader()
                killed.stop(signal.SIGKILL)
            done += _made(writer, group(f"load{number}", LOAD))
    assert killed is not None and len(done) == 300
    killed.start()
    until(three.complete, "the killed member comes back")
    for node in three.nodes:
        with Database(node.remote, leader_only=False) as reader:
            assert reader.wait_insync(30)
            eventually(lambda: set(done) <= reader.replica.ids(Group))


def test_a_leader_that_hangs_is_left(three: Cluster) -> None:
    """As one that vanishes without a word: its machine loses power, or its network."""
    with Database(three.remotes) as writer:
        assert writer.wait_insync(30)
        writer.write([Insert(HANG)])
        leader = three.leader()
        os.kill(leader.pid, signal.SIGSTOP)
        try:
            stopped = time.monotonic()
            eventually(lambda: bool(_made(writer, group(f"{stopped} {time.monotonic()}", HANG))), 60)
            silence = time.monotonic() - stopped
        finally:
            os.kill(leader.pid, signal.SIGCONT)
        assert silence < HANG_LIMIT
    until(three.complete, "the member comes back")


def _made(writer: Database, new: Group) -> list[str]:
    """Its id, if the write was acknowledged."""
    try:
        writer.write([Insert(new)])
    except Unavailable:
        return []
    return [new.id]


def test_agents_read_from_a_relay_and_write_through_it(three: Cluster, tmp_path: Path) -> None:
    interest = Interest()
    interest.watch(host="h2", nics=frozenset())
    with Node(tmp_path / "relay", f"--db-relay-of={three.remotes}") as relay:
        with Database(relay.remote, interest=interest) as agent, Database(three.remotes) as writer:
            assert agent.wait_insync(30) and writer.wait_insync(30)
            agent.write([Insert(Host(id=uid("host h2"), name="h2"))])
            eventually(lambda: writer.replica.get(Host, uid("host h2")) is not None)
            writer.write([Update(Host, uid("host h2"), {"asked": 7})])
            eventually(lambda: agent.replica.one(Host, name="h2").asked == 7)  # type: ignore[union-attr]
        with Database(relay.remote) as strict:
            assert not strict.wait_insync(2), "a writer must not be content with a relay"
        lost = Server(tmp_path / "lost", db=relay.remote).start()
        until(lambda: "none of the remotes is a stand-alone database or a cluster's leader" in lost.log, "a word")
        lost.stop()
        assert "relay" in tool("status", f"--db={three.remotes},{relay.remote}")


def test_a_stand_alone_database_becomes_a_cluster(tmp_path: Path) -> None:
    node = Node(tmp_path / "one")
    with node, Database(node.remote) as database:
        assert database.wait_insync(30)
        database.write([Insert(ACME)])
    node.options = (f"--db-cluster-local={node.address}",)
    with node, Database(node.remote) as database:
        assert database.wait_insync(30)
        assert database.replica.all(Account) == [ACME]
    assert (node.directory / "sg.db.standalone").exists()
    node.options = ("--db-cluster-local=tcp:127.0.0.1:1",)
    with pytest.raises(AssertionError, match=f"belongs to the member {node.address}"):
        node.start()
    node.options = ()
    with pytest.raises(AssertionError, match="give its address, --db-cluster-local"):
        node.start()


def test_a_member_leaves_and_a_dead_one_is_kicked(tmp_path: Path) -> None:
    with cluster(tmp_path) as found:
        a, b, c = found.nodes
        tool("leave", f"--state-dir={c.directory}")
        until(lambda: c.address not in tool("member", f"--state-dir={a.directory}"), "c has left")
        c.stop()
        new = Node(tmp_path / "d", f"--db-cluster-join={a.address},{b.address}")
        new.options += (f"--db-cluster-local={new.address}",)
        with new:
            until(lambda: new.address in tool("member", f"--state-dir={a.directory}"), "d has joined")
            b.stop(signal.SIGKILL)
            until(lambda: "Role: leader" in tool("member", f"--state-dir={a.directory}")
                  or "Role: leader" in tool("member", f"--state-dir={new.directory}"), "a leader")  # fmt: skip
            tool("kick", f"--state-dir={a.directory}", b.address)
            until(lambda: b.address not in tool("member", f"--state-dir={a.directory}"), "b has gone")


def test_several_managers_of_one_machine_keep_out_of_each_others_way(three: Cluster) -> None:
    """The fixture's three run side by side; a fourth with the same port or directory says what is wrong."""
    first = three.nodes[0]
    twin = Node(first.directory)
    with pytest.raises(AssertionError, match=f"another sgctl-manager uses the state directory {first.directory}"):
        twin.start()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", first.port)) == 0, "the first still serves"


def test_a_control_plane_in_three_commands(tmp_path: Path) -> None:
    """Each node runs the database and the API in one process; any of the APIs will do, whoever leads."""
    nodes = [Node(tmp_path / name, apps=("sgctl.db", "sgctl.api")) for name in "abc"]
    remotes = ",".join(node.remote for node in nodes)
    for node in nodes:
        join = [] if node is nodes[0] else [f"--db-cluster-join={nodes[0].address}"]
        node.options = (f"--db={remotes}", f"--db-cluster-local={node.address}", f"--api-port={free_port()}", *join)
    with nodes[0], nodes[1], nodes[2]:
        until(lambda: all("the API is at" in node.log for node in nodes), "three APIs")
        until(Cluster(nodes).complete, "all members")
        files = [node.directory / "admin.ini" for node in nodes]
        keys = {line for file in files if file.exists() for line in file.read_text().splitlines() if "key" in line}
        assert len(keys) == len({line.partition("=")[0] for line in keys}) > 0, "one account, wherever its key is"
        assert [node.stop() for node in reversed(nodes)] == [0, 0, 0]
    assert not any("Traceback" in node.log for node in nodes)
    left = {path.name for node in nodes for path in node.directory.iterdir()}
    assert left <= {"admin.ini", "log", "ovsdb-server.log", "sg.db", ".sg.db.~lock~", "sg.lock"}
