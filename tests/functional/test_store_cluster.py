# SPDX-License-Identifier: Apache-2.0
"""A RAFT cluster of three servers and a relay: writers find the leader, and both go on when it dies."""

import subprocess
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from sgctl.model import Group, Host
from sgctl.store import Database, Guard, Insert, Interest, Update
from tests.functional.store_server import ACME, BASE, WEB, eventually, held
from tests.unit.store_rows import group, uid

SCHEMA = str(files("sgctl") / "sg.ovsschema")


class Cluster:
    """Three members a, b, c, which meet on unix sockets in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.members: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Cluster":
        self._tool("create-cluster", self._file("a"), SCHEMA, self._raft("a"))
        self.start("a")
        for name in "bc":
            self._tool("join-cluster", self._file(name), "SG", self._raft(name), self._raft("a"))
            self.start(name)
            self._run("ovsdb-client", "wait", self.remote(name), "SG", "connected")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.members.values():
            process.kill()
            process.wait()

    def start(self, name: str, database: str = "") -> None:
        self.members[name] = subprocess.Popen(
            [
                "ovsdb-server", "-vconsole:off", "-vsyslog:off", f"--remote=p{self.remote(name)}",
                f"--unixctl={self.directory}/{name}.ctl", database or self._file(name),
            ],
        )  # fmt: skip
        eventually(lambda: (self.directory / f"{name}.sock").exists())

    def kill_leader(self) -> None:
        leader = next(name for name in self.members if "Role: leader" in self._status(name))
        self.members[leader].kill()
        self.members.pop(leader).wait()

    def remote(self, name: str) -> str:
        return f"unix:{self.directory}/{name}.sock"

    @property
    def remotes(self) -> str:
        return ",".join(map(self.remote, "abc"))

    def _status(self, name: str) -> str:
        return self._run("ovs-appctl", "-t", f"{self.directory}/{name}.ctl", "cluster/status", "SG")

    def _file(self, name: str) -> str:
        return str(self.directory / f"{name}.db")

    def _raft(self, name: str) -> str:
        return f"unix:{self.directory}/{name}.raft"

    def _tool(self, *arguments: str) -> None:
        self._run("ovsdb-tool", *arguments)

    @staticmethod
    def _run(*command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="sgraft") as directory, Cluster(Path(directory)) as cluster:
        yield cluster


def test_writers_and_readers_survive_the_leader(cluster: Cluster) -> None:
    with Database(cluster.remotes) as writer, Database(cluster.remotes, leader_only=False) as reader:
        assert writer.wait_insync(30) and reader.wait_insync(30)
        writer.write([Insert(row) for row in BASE])
        eventually(lambda: held(reader) == held(writer))
        changed: set[str] = set()
        reader.replica.on_change(lambda changes: changed.update(id for _, id in changes))
        cluster.kill_leader()
        added = group("added", ACME)
        eventually(lambda: not writer.connected)
        writer.write([Insert(added)], [Guard(Group, WEB.id)], deadline=30)
        eventually(lambda: reader.replica.insync and held(reader) == held(writer))
        assert changed == {added.id}


def test_an_agent_reads_and_writes_through_a_relay(cluster: Cluster) -> None:
    interest = Interest()
    cluster.start("relay", f"relay:SG:{cluster.remotes}")
    with Database(cluster.remotes) as writer, Database(cluster.remote("relay"), interest=interest) as agent:
        assert writer.wait_insync(30)
        host = Host(id=uid("h1"), name="h1")
        writer.write([Insert(row) for row in (*BASE, host)])
        interest.watch(host="h1", nics=frozenset())
        assert agent.wait_insync(30)
        agent.write([Update(Host, host.id, {"seen": 7})])
        found = agent.replica.one(Host, name="h1")
        assert found is not None and found.seen == 7
        eventually(lambda: writer.replica.get(Host, host.id) == found)
