# SPDX-License-Identifier: Apache-2.0
"""The files of a database server: made from the schema, converted when the schema is newer, never when older.

A stand-alone database is one file. A cluster's member has one too, which knows the member's own address; the schema of
a cluster is converted while it runs (``sgctl-db convert``), for its members do not start all at once.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import as_file, files
from mmap import ACCESS_READ, mmap
from pathlib import Path

from sgctl.errors import SgctlError

DATABASE = "SG"
AGENT_ROLE = "sgctl-agent"
"""The role, in ovsdb-server's sense, of those who connect to the remotes for agents."""
_RECORD = re.compile(rb"OVSDB JSON ([0-9]+) ([0-9a-f]{40})\n")
"""What stands before each record (transaction) of a stand-alone file: its size in bytes and its SHA-1."""


class DatabaseFileError(SgctlError):
    """The database file cannot be made, read or converted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member of a cluster. local: its own RAFT address.  join: those of other members; empty for the first one."""

    local: str
    join: tuple[str, ...] = ()


def prepare(path: Path) -> None:
    """See that there is a stand-alone file of this program's schema; on disk, and readable by its owner only."""
    with as_file(files("sgctl") / "sg.ovsschema") as schema:
        fresh = _fresh(path)
        if path.exists():
            check(path)
        if not path.exists():
            tool("create", fresh, schema)
        elif _clustered(path):
            raise DatabaseFileError(f"{path} belongs to a member of a cluster: give its address, --db-cluster-local")
        elif _outdated(path, schema):
            tool("convert", path, schema, fresh)
            _keep(path, tool("db-version", path))
        else:
            return
        _replace(fresh, path)


def check(path: Path) -> None:
    """Refuse a stand-alone file that is damaged before its last record.

    ovsdb-server itself would drop all that follows, and serve the past: revoked rules would be there again. A last
    record that is not whole is what a crash leaves of a write that nobody has been told of; that is dropped rightly.
    """
    if _clustered(path) or not path.stat().st_size:
        return
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        at = 0
        while (head := _RECORD.match(data, at)) and sha1(data[head.end() : _end(head)]).hexdigest() == head[2].decode():
            at = _end(head)
        if _RECORD.search(data, at + 1):
            raise DatabaseFileError(f"{path} is damaged at byte {at}: put a good copy of it in its place")


def _end(head: re.Match[bytes]) -> int:
    """Where the record ends whose first line this is."""
    return head.end() + int(head[1])


def prepare_member(path: Path, member: Member) -> None:
    """See that there is the file of this member of a cluster.

    A stand-alone database becomes the content of a new cluster.
    """
    if path.exists() and _clustered(path):
        address = tool("db-local-address", path)
        if address != member.local:
            raise DatabaseFileError(f"{path} belongs to the member {address} of a cluster, not to {member.local}")
        return
    fresh = _fresh(path)
    if member.join:
        if path.exists():
            raise DatabaseFileError(f"{path} has a stand-alone database, which cannot join a cluster: move it away")
        tool("join-cluster", fresh, DATABASE, member.local, *member.join)
    elif path.exists():
        prepare(path)
        tool("create-cluster", fresh, path, member.local)
        _keep(path, "standalone")
    else:
        with as_file(files("sgctl") / "sg.ovsschema") as schema:
            tool("create-cluster", fresh, schema, member.local)
    _replace(fresh, path)


def prepare_local(path: Path, targets: Sequence[str]) -> None:
    """Write the server's own configuration: where it listens to agents, who have their role there and nowhere else."""
    with as_file(files("sgctl") / "local.ovsschema") as schema:
        fresh = _fresh(path)
        tool("create", fresh, schema)
    names = [f"remote{number}" for number in range(len(targets))]
    rows = [
        {"op": "insert", "table": "Connection", "uuid-name": name, "row": {"target": target, "role": AGENT_ROLE}}
        for name, target in zip(names, targets, strict=True)
    ]
    used = ["set", [["named-uuid", name] for name in names]]
    config = {"op": "insert", "table": "Config", "row": {"connections": used}}
    tool("transact", fresh, json.dumps(["SG_Local", *rows, config]))
    _replace(fresh, path)


def _clustered(path: Path) -> bool:
    """Whether it is a cluster's file; ovsdb-tool recognises one by its first line, as we do here."""
    with path.open("rb") as file:
        return file.readline().startswith(b"OVSDB CLUSTER ")


def _fresh(path: Path) -> Path:
    """Where a new version of a file is made."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    return fresh


def _outdated(path: Path, schema: Path) -> bool:
    ours, theirs = json.loads(schema.read_text())["version"], tool("db-version", path)
    if _order(theirs) > _order(ours):
        raise DatabaseFileError(f"{path} was written by a newer sgctl: its schema is {theirs}, ours {ours}")
    return tool("needs-conversion", path, schema) == "yes"


def _order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _keep(path: Path, what: str) -> None:
    """Leave the old file under a name that says what it was."""
    kept = path.with_name(f"{path.name}.{what}")
    kept.unlink(missing_ok=True)
    os.link(path, kept)


def _replace(fresh: Path, path: Path) -> None:
    """Put the new file in place so that a crash leaves the old one or all of the new one."""
    _sync(fresh)
    os.replace(fresh, path)
    _sync(path.parent)
    path.with_name(f".{fresh.name}.~lock~").unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tool(*arguments: str | Path) -> str:
    """What ovsdb-tool says."""
    program = shutil.which("ovsdb-tool")
    if program is None:
        raise DatabaseFileError("ovsdb-tool is not installed (package openvswitch-switch)")
    result = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, umask=0o077, check=False)
    if result.returncode:
        raise DatabaseFileError(f"ovsdb-tool {arguments[0]}: {result.stderr.strip()}")
    return result.stdout.strip()
