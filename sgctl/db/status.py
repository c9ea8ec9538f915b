# SPDX-License-Identifier: Apache-2.0
"""How the servers of a database are: asked one by one, since each knows itself best."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sgctl.db.talk import Standing, Talk, TalkError
from sgctl.dbfile import DATABASE
from sgctl.dbserver import program
from sgctl.errors import SgctlError

_MEMBER = re.compile(r"^ +([0-9a-f]{4}) \([0-9a-f]{4} at (\S+)\)( \(self\))?", re.MULTILINE)
"""A line of `cluster/status`, where a member's id is cut to four digits."""
_ATOMS = re.compile(r"\batoms:([0-9]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server; `trouble` says why it is not known how it is."""

    remote: str
    role: str = ""
    connected: bool = False
    index: int | None = None
    schema: str = ""
    id: str = ""
    trouble: str = ""

    @property
    def writable(self) -> bool:
        """Whether it makes transactions itself."""
        return self.connected and self.role in ("leader", "standalone")

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def look(remotes: str) -> list[Server]:
    """Ask all servers."""
    return [_ask(remote) for remote in remotes.split(",") if remote]


def _ask(remote: str) -> Server:
    try:
        with Talk(remote) as talk:
            standing = talk.standing()
    except TalkError as error:
        return Server(remote=remote, trouble=str(error).removeprefix(f"{remote}: "))
    if standing is None:
        return Server(remote=remote, trouble="does not serve the database (yet)")
    waits = "does not reach the database" if standing.role == "relay" else "waits for the other servers"
    return Server(
        remote=remote,
        role=standing.role,
        connected=standing.connected,
        index=standing.index,
        schema=_version(standing),
        id=standing.server,
        trouble="" if standing.connected else waits,
    )


def _version(standing: Standing) -> str:
    return str(json.loads(standing.schema).get("version", "")) if standing.schema else ""


def writable(servers: Sequence[Server]) -> bool:
    """Whether one of them can be written to."""
    return any(server.writable for server in servers)


def leader(remotes: str) -> str:
    """The remote of the server that makes the transactions."""
    return _leader(look(remotes))


def reader(remotes: str) -> str:
    """The remote of a server to read everything from: not the leader, if there are others.

    A server that is busy for seconds with such a request would lose its leadership.
    """
    servers = look(remotes)
    leader = _leader(servers)
    return next((one.remote for one in servers if one.role == "follower" and one.connected), leader)


def _leader(servers: Sequence[Server]) -> str:
    for server in servers:
        if server.writable:
            return server.remote
    reasons = "; ".join(f"{one.remote}: {one.trouble or one.role}" for one in servers)
    raise SgctlError(f"none of the remotes is a stand-alone database or a cluster's leader ({reasons})")


def table(servers: Sequence[Server]) -> str:
    """For people."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="")
    for head in ("remote", "role", "index", "schema", "id", "trouble"):
        shown.add_column(head, no_wrap=True)
    for one in servers:
        index = "" if one.index is None else str(one.index)
        shown.add_row(one.remote, one.role or "?", index, one.schema, one.id[:4], one.trouble)
    console = Console(width=200, no_color=True, highlight=False)
    with console.capture() as capture:
        console.print(shown)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def control(state_dir: Path, command: str, *arguments: str) -> str:
    """Ask the member whose manager uses this state directory, through its control socket."""
    return _control(state_dir, command, DATABASE, *arguments)


def size(state_dir: Path) -> int:
    """How many values the databases of such a server have, in ovsdb-server's own count."""
    found = _ATOMS.search(_control(state_dir, "memory/show"))
    return int(found[1]) if found else 0


def _control(state_dir: Path, command: str, *arguments: str) -> str:
    socket = state_dir.absolute() / "sg.ctl"
    if not socket.exists():
        raise SgctlError(f"no database server runs in {state_dir} (there is no {socket})")
    words = [program("ovs-appctl"), "--timeout=10", "-t", str(socket), command, *arguments]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    if ended.returncode:
        # The server's own words come before ovs-appctl's, that there was an error.
        said = (ended.stderr or ended.stdout).strip().splitlines()[0]
        in_none = said.startswith(f'"{command}" is not a valid command')
        raise SgctlError(f"the database server of {state_dir} is in no cluster" if in_none else f"{command}: {said}")
    return ended.stdout.strip()


def kick(state_dir: Path, server: str) -> str:
    """Take another member, by its id or address, out of the cluster of the one here.

    Raises SgctlError if there is none like it, without asking: Open vSwitch 3.1's server, if it is the only member,
    takes itself out whoever is named, and with itself the database.
    """
    members = _MEMBER.findall(control(state_dir, "cluster/status"))
    others = [(id, address) for id, address, own in members if not own]
    if not any(server == address or server.startswith(id) for id, address in others):
        known = ", ".join(f"{id} ({address})" for id, address in others) or "none"
        raise SgctlError(f"{server} is no other member of the cluster; the others are: {known}")
    return control(state_dir, "cluster/kick", server)
