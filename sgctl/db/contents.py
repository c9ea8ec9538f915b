# SPDX-License-Identifier: Apache-2.0
"""Snapshots of the whole database: taken from, and put back into, a running server or cluster.

`ovsdb-client restore` gives all rows new UUIDs; here they are the ids that VMs, ports and tenants' tools know. So the
difference between snapshot and database is worked out, and made in one transaction that fails if somebody else writes
meanwhile: agents see the difference only, or nothing.

What is *reported*, rather than asked for, stays as it is: hosts, where NICs are, and jobs. An old word about where a
NIC is would make its present host close the port; one that was deleted comes back without a place, and the agent that
has its port claims it. What agents may write and the count of barriers stay, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import IO

from sgctl.db import roles
from sgctl.db.talk import Json, Rows, Talk, TalkError, by_id
from sgctl.dbfile import DATABASE, tool
from sgctl.dbserver import program
from sgctl.errors import SgctlError
from sgctl.tls import Tls

_KEPT_TABLES = frozenset({"Host", "Handover", "Job", *roles.TABLES})
_KEPT_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "NIC": ("host", "state", "reason", "since"),
    "Cloud": ("sequence", "asked", "heartbeat", "allowances"),
}
_NOWHERE: Mapping[str, Mapping[str, Json]] = {"NIC": {"host": "", "state": "", "reason": "", "since": 0}}
_ATTEMPTS = 10
_SECONDS = 120.0

Tables = Mapping[str, Rows]


def backup(remote: str, path: Path, tls: Tls | None, *, force: bool = False) -> None:
    """Write the database's content into a new file, a stand-alone database; on disk when this returns."""
    if path.exists() and not force:
        raise SgctlError(f"{path} exists (--force overwrites it)")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                _client(remote, tls, "backup", DATABASE, output=file)
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink()
                raise
    except OSError as error:
        raise SgctlError(f"cannot write {path}: {error.strerror}") from error


def convert(remote: str, tls: Tls | None) -> bool:
    """Give a running database this program's schema; says whether that was necessary."""
    with as_file(files("sgctl") / "sg.ovsschema") as schema:
        if _client(remote, tls, "needs-conversion", str(schema)) != "yes":
            return False
        _client(remote, tls, "convert", str(schema))
        return True


def restore(remote: str, path: Path) -> int:
    """Make a database what it was; the number of rows that were not the same.

    `remote` is the server that makes the transactions: versions of rows are its own, even in a cluster. It is asked
    for one table at a time, for it does nothing else while it gives one away.
    """
    snapshot = _snapshot(path)
    for _ in range(_ATTEMPTS):
        with Talk(remote, timeout=_SECONDS) as talk:
            live = {name: talk.rows([name])[name] for name in snapshot}
        todo = list(difference(live, merged(live, snapshot)))
        if not todo:
            return 0
        with Talk(remote, timeout=_SECONDS) as talk:
            try:
                talk.transact([*_unchanged(live), *todo, {"op": "commit", "durable": True}])
                return len(todo)
            except TalkError as error:
                if "timed out" not in str(error):
                    raise
    raise SgctlError("others write to the database all the time: stop the API servers, and try again")


def merged(live: Tables, snapshot: Tables) -> dict[str, Rows]:
    """The snapshot, with what is reported as it is now; versions of rows are left out."""
    return {
        name: _clean(live[name] if name in _KEPT_TABLES else _kept(name, live[name], rows))
        for name, rows in snapshot.items()
    }


def _kept(name: str, live: Rows, snapshot: Rows) -> Rows:
    """The snapshot of a table with the reported columns as they are, or as in a new row."""
    columns, fresh = _KEPT_COLUMNS.get(name, ()), _NOWHERE.get(name, {})
    return {
        id: {**row, **({one: live[id][one] for one in columns} if id in live else fresh)}
        for id, row in _clean(snapshot).items()
    }


def difference(live: Tables, wanted: Tables) -> Iterator[Json]:
    """The operations that make one of the other."""
    for name, rows in wanted.items():
        here = _clean(live[name])
        for id in here.keys() - rows.keys():
            yield {"op": "delete", "table": name, "where": _where(id)}
        for id, row in rows.items():
            if id not in here:
                yield {"op": "insert", "table": name, "uuid": id, "row": row}
            elif changed := {column: value for column, value in row.items() if here[id].get(column) != value}:
                yield {"op": "update", "table": name, "where": _where(id), "row": changed}


def _unchanged(live: Tables) -> Iterator[Json]:
    """That nobody has written since: each row is the version that was read."""
    for name, rows in live.items():
        if name in _KEPT_TABLES:
            continue
        versions = [{"_uuid": ["uuid", id], "_version": row["_version"]} for id, row in rows.items()]
        seen = {"columns": ["_uuid", "_version"], "until": "==", "rows": versions}
        yield {"op": "wait", "timeout": 0, "table": name, "where": [], **seen}


def _clean(rows: Rows) -> Rows:
    return {id: {name: value for name, value in row.items() if name != "_version"} for id, row in rows.items()}


def _where(id: str) -> Json:
    return [["_uuid", "==", ["uuid", id]]]


def _snapshot(path: Path) -> Tables:
    """The rows of a file, in this program's schema."""
    if not path.is_file():
        raise SgctlError(f"there is no file {path}")
    with tempfile.TemporaryDirectory() as directory, as_file(files("sgctl") / "sg.ovsschema") as schema:
        copy = path
        if tool("needs-conversion", path, schema) == "yes":
            copy = Path(directory, "snapshot.db")
            tool("convert", path, schema, copy)
        names = list(json.loads(schema.read_text())["tables"])
        selects = [{"op": "select", "table": name, "where": []} for name in names]
        results = json.loads(tool("query", copy, json.dumps([DATABASE, *selects])))
    return {name: by_id(result["rows"]) for name, result in zip(names, results, strict=True)}


def _client(remote: str, tls: Tls | None, command: str, *arguments: str, output: IO[bytes] | None = None) -> str:
    """What ovsdb-client says; its own time-out is for servers that hang."""
    options = [*(tls.options() if tls else []), f"--timeout={_SECONDS:.0f}", "-vconsole:off"]
    options += ["--no-leader-only"] if command == "backup" else []
    ended = subprocess.run(
        [program("ovsdb-client"), *options, command, remote, *arguments],
        stdout=subprocess.PIPE if output is None else output,
        stderr=subprocess.PIPE,
        check=False,
    )
    if ended.returncode:
        raise SgctlError(f"{command}: {_reason(ended.stderr.decode(errors='replace').splitlines())}")
    return "" if output is not None else ended.stdout.decode().strip()


def _reason(lines: Iterable[str]) -> str:
    return next((line.removeprefix("ovsdb-client: ") for line in reversed([*lines])), "ovsdb-client failed")
