# SPDX-License-Identifier: Apache-2.0
"""The servers of the cloud that is measured: plain, or as an operator deploys them.

Plain: a stand-alone database, and relays of it, on Unix sockets. As deployed: a cluster of three, TLS everywhere, and
ports for agents at the members, where agents may write what is theirs only; relays have no such port.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sgctl.db import elections, pki
from sgctl.db.app import set_roles
from sgctl.db.talk import Standing, Talk, TalkError
from sgctl.dbfile import Member
from sgctl.dbserver import DatabaseServer
from sgctl.jsonrpc import identify
from sgctl.tls import Tls
from tests.bench.scale_cloud import write_file
from tests.functional.ports import free_port
from tests.functional.vswitch_sandbox import eventually

VISITED = "visited"
"""A hypervisor that VMs come to, of which the bench itself is the agent; a process has one certificate, this one's."""
_START = 300.0
MEMBERS = ("main", "second", "third")


@dataclass(frozen=True, slots=True)
class Servers:
    """database: where writers connect.  entrances: where agents do, by the name of the server."""

    running: Mapping[str, DatabaseServer]
    database: str
    entrances: Mapping[str, str]
    tls: Tls | None = None

    def pids(self) -> dict[str, int]:
        """The processes by their names."""
        return {name: one.pid or 0 for name, one in self.running.items()}

    def leader(self) -> str:
        """The name of the server that leads, empty if there is none."""
        return next((name for name, one in self.running.items() if name in MEMBERS and _leads(one)), "")


def start(stack: ExitStack, directory: Path, options: argparse.Namespace) -> Servers:
    """Make the cloud's database and start all servers."""
    (directory / "main").mkdir()
    write_file(directory / "main" / "sg.db", options.nics)
    return (_deployed if options.servers == "deployed" else _plain)(stack, directory, options.relays)


def _plain(stack: ExitStack, directory: Path, relays: int) -> Servers:
    main = stack.enter_context(DatabaseServer(directory / "main"))
    running = {"main": main}
    for name in _names(relays):
        running[name] = stack.enter_context(DatabaseServer(directory / name, relay_of=main.remote))
    entrances = {name: running[name].remote for name in _names(relays) or ["main"]}
    return Servers(running, main.remote, entrances)


def _deployed(stack: ExitStack, directory: Path, relays: int) -> Servers:
    pki.init(directory / "pki")
    tls = pki.server(directory / "pki", VISITED, ["127.0.0.1"])
    identify(tls)
    running: dict[str, DatabaseServer] = {}
    writers, entrances = [], {}
    first = f"ssl:127.0.0.1:{free_port()}"
    for name in MEMBERS:
        port, agents = free_port(), free_port()
        member = Member(local=f"ssl:127.0.0.1:{free_port()}", join=(first,)) if running else Member(local=first)
        running[name] = stack.enter_context(
            DatabaseServer(directory / name, _listen(port), agents=_listen(agents), member=member, tls=tls)
        )
        eventually(lambda: _takes_part(running[name]), _START)  # noqa: B023
        writers.append(f"ssl:127.0.0.1:{port}")
        entrances[name] = f"ssl:127.0.0.1:{agents}"
    with Talk(running["main"].remote) as talk:
        set_roles(talk)
    eventually(lambda: elections.adjust(directory / "main"), _START)
    database = ",".join(writers)
    for name in _names(relays):
        port = free_port()
        running[name] = stack.enter_context(DatabaseServer(directory / name, _listen(port), relay_of=database, tls=tls))
        entrances[name] = f"ssl:127.0.0.1:{port}"
    return Servers(running, database, {name: entrances[name] for name in _names(relays) or MEMBERS}, tls)


def _names(relays: int) -> Sequence[str]:
    return [f"relay{number}" for number in range(relays)]


def _listen(port: int) -> str:
    return f"pssl:{port}:127.0.0.1"


def _takes_part(server: DatabaseServer) -> bool:
    standing = _standing(server)
    return standing is not None and standing.connected


def _leads(server: DatabaseServer) -> bool:
    standing = _standing(server)
    return standing is not None and standing.leader


def _standing(server: DatabaseServer) -> Standing | None:
    try:
        with Talk(server.remote) as talk:
            return talk.standing()
    except TalkError:
        return None
