# SPDX-License-Identifier: Apache-2.0
"""A real database in a directory of its own, and what is really in it."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sgctl.dbserver import DatabaseServer
from sgctl.model import TABLES, Row
from sgctl.store import Database
from sgctl.store.columns import Kind, tables
from tests.unit.store_rows import Place, account, group

ACME = account("acme")
WEB, DB = group("web", ACME), group("db", ACME)
HERE = Place("here")
BASE = (ACME, WEB, DB, *HERE.rows)


def eventually(probe: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until the probe is true."""
    end = time.monotonic() + seconds
    while not probe():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)


@contextmanager
def served(listen: str = "") -> Iterator[DatabaseServer]:
    """An embedded database that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="sgdb") as directory, DatabaseServer(Path(directory), listen) as server:
        yield server


@contextmanager
def connected(server: DatabaseServer, **options: Any) -> Iterator[Database]:
    """A client that has everything."""
    with Database(server.remote, **options) as database:
        assert database.wait_insync(30)
        yield database


def online(server: DatabaseServer, *operations: Any) -> list[Any]:
    """Let another program make a transaction on the running server."""
    return _ovsdb("ovsdb-client", server.remote, operations)


def offline(server: DatabaseServer, *operations: Any) -> list[Any]:
    """Change the file of a server that is stopped."""
    return _ovsdb("ovsdb-tool", str(server.directory / "sg.db"), operations)


def _ovsdb(program: str, where: str, operations: tuple[Any, ...]) -> list[Any]:
    command = [program, "transact", where, json.dumps(["SG", *operations])]
    results = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert not [result for result in results if "error" in result], results
    return list(results)


def truth(server: DatabaseServer) -> dict[Kind, dict[str, Row]]:
    """All rows as the server tells them to somebody else."""
    answers = online(server, *({"op": "select", "table": kind.TABLE, "where": []} for kind in TABLES))
    return {kind: dict(map(_record(kind), answer["rows"])) for kind, answer in zip(TABLES, answers, strict=True)}


def _record(kind: Kind) -> Callable[[dict[str, Any]], tuple[str, Row]]:
    def decode(row: dict[str, Any]) -> tuple[str, Row]:
        id = row.pop("_uuid")[1]
        del row["_version"]
        return id, tables()[kind].insert(id, row)

    return decode


def held(database: Database) -> dict[Kind, dict[str, Row]]:
    """All rows of a replica."""
    return {kind: {row.id: row for row in database.replica.all(kind)} for kind in database.replica.kinds}


def where(row: Row) -> list[Any]:
    """The condition that addresses a row."""
    return [["_uuid", "==", ["uuid", row.id]]]
