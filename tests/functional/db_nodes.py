# SPDX-License-Identifier: Apache-2.0
"""Database nodes as an operator starts them: `sgctl-manager sgctl.db`, all on loopback in one network namespace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from sgctl.db.status import look
from tests.functional.api_servers import DEADLINE, until
from tests.functional.ports import free_port

MANAGER = Path(sys.executable).with_name("sgctl-manager")
TOOL = Path(sys.executable).with_name("sgctl-db")


class Node:
    """One manager that runs the database; `port` serves clients, `raft` the other members."""

    def __init__(self, directory: Path, *options: str, kind: str = "tcp", apps: Sequence[str] = ("sgctl.db",)) -> None:
        self.directory, self.options, self.kind, self.apps = directory, options, kind, apps
        self.port, self.raft, self.agents_port = free_port(), free_port(), free_port()
        self.environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._said = 0

    @property
    def remote(self) -> str:
        """Where clients connect."""
        return f"{self.kind}:127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """Where other members connect."""
        return f"{self.kind}:127.0.0.1:{self.raft}"

    @property
    def agents_remote(self) -> str:
        """Where agents connect."""
        return f"ssl:127.0.0.1:{self.agents_port}"

    @property
    def log(self) -> str:
        """What its manager has said in all its lives."""
        return (self.directory / "log").read_text()

    @property
    def pid(self) -> int:
        """Its ovsdb-server's process id."""
        return int((self.directory / "sg.pid").read_text())

    def start(self) -> Self:
        """Start it and wait until it runs."""
        self.launch()
        return self.wait_running()

    def launch(self) -> None:
        """Start it."""
        self.directory.mkdir(exist_ok=True)
        fixed = [f"--host={self.directory.name}", f"--state-dir={self.directory}"]
        listen = f"--db-listen=p{self.kind}:{self.port}:127.0.0.1"
        with (self.directory / "log").open("ab") as log:
            self._said = log.tell()
            command = [MANAGER, *fixed, listen, *self.options, *self.apps]
            self._process = subprocess.Popen(command, stderr=log, env=os.environ | self.environment)

    def wait_running(self) -> Self:
        """Wait until it runs, after `launch`."""
        until(lambda: " runs " in self.log[self._said :] or self._process_ended(), "database node")
        assert not self._process_ended(), self.log
        return self

    @property
    def runs(self) -> bool:
        """Whether it has been started and not stopped."""
        return self._process is not None

    def _process_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def stop(self, number: int = signal.SIGTERM) -> int | None:
        """End the manager, and with it its server; the exit status."""
        if self._process is None:
            return None
        self._process.send_signal(number)
        status = self._process.wait(DEADLINE)
        self._process = None
        return status

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class Cluster:
    """Some members; `options` of sgctl-db say who asks them, if they do not answer everybody."""

    def __init__(self, nodes: Sequence[Node], options: Sequence[str] = ()) -> None:
        self.nodes, self.options = nodes, options

    @property
    def remotes(self) -> str:
        """All of them."""
        return ",".join(node.remote for node in self.nodes)

    def standing(self) -> list[dict[str, Any]]:
        """What `sgctl-db status` says about each; without its start where anybody may ask, for that is done often."""
        if not self.options:
            return [one.as_json() for one in look(self.remotes)]
        said = tool("status", f"--db={self.remotes}", "--output=json", *self.options, status=None)
        return list(json.loads(said))

    def leader(self) -> Node:
        """The member that leads now."""
        return until(self._leader, "a leader")  # type: ignore[no-any-return]

    def _leader(self) -> Node | None:
        roles = zip(self.nodes, self.standing(), strict=True)
        return next((node for node, one in roles if one["role"] == "leader" and one["connected"]), None)

    def complete(self) -> bool:
        """Whether all members take part."""
        return all(one["connected"] for one in self.standing())


@contextmanager
def cluster(
    directory: Path, *options: str, kind: str = "tcp", agents: bool = False,
    environment: Callable[[str], dict[str, str]] = lambda name: {},
) -> Iterator[Cluster]:  # fmt: skip
    """Three nodes, the first of which begins the cluster; `options` are those of TLS, `environment` a node's."""
    with ExitStack() as stack:
        nodes: list[Node] = []
        for name in "abc":
            node = Node(directory / name, *options, kind=kind)
            node.environment = environment(name)
            node.options = (*options, f"--db-cluster-local={node.address}")
            node.options += (f"--db-cluster-join={nodes[0].address}",) if nodes else ()
            node.options += (f"--db-listen-agents=pssl:{node.agents_port}:127.0.0.1",) if agents else ()
            nodes.append(node)
            stack.callback(node.stop)
        nodes[0].start()
        for node in nodes[1:]:
            node.launch()
        for node in nodes[1:]:
            node.wait_running()
        found = Cluster(nodes, options)
        until(found.complete, "all members")
        yield found


def tool(*arguments: str, status: int | None = 0) -> str:
    """What `sgctl-db` prints, or says on standard error if it fails."""
    ended = subprocess.run([TOOL, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert status is None or ended.returncode == status, ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr
    return ended.stderr if status else ended.stdout
