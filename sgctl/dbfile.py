# SPDX-License-Identifier: Apache-2.0
"""The file of the embedded SG database: made from the schema, converted when the schema is newer, never when older."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib.resources import as_file, files
from pathlib import Path

from sgctl.errors import SgctlError


class DatabaseFileError(SgctlError):
    """The database file cannot be made, read or converted."""


def prepare(path: Path) -> None:
    """See that there is a database file of this program's schema; on disk, and readable by its owner only."""
    with as_file(files("sgctl") / "sg.ovsschema") as schema:
        fresh = path.with_name(path.name + ".new")
        fresh.unlink(missing_ok=True)
        if not path.exists():
            _tool("create", fresh, schema)
        elif _outdated(path, schema):
            _tool("convert", path, schema, fresh)
            _keep(path)
        else:
            return
        _replace(fresh, path)
        path.with_name(f".{fresh.name}.~lock~").unlink(missing_ok=True)


def _outdated(path: Path, schema: Path) -> bool:
    ours, theirs = json.loads(schema.read_text())["version"], _tool("db-version", path)
    if _order(theirs) > _order(ours):
        raise DatabaseFileError(f"{path} was written by a newer sgctl: its schema is {theirs}, ours {ours}")
    return _tool("needs-conversion", path, schema) == "yes"


def _order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _keep(path: Path) -> None:
    """Leave the old file under a name with its version."""
    kept = path.with_name(f"{path.name}.{_tool('db-version', path)}")
    kept.unlink(missing_ok=True)
    os.link(path, kept)


def _replace(fresh: Path, path: Path) -> None:
    """Put the new file in place so that a crash leaves the old one or all of the new one."""
    _sync(fresh)
    os.replace(fresh, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tool(*arguments: str | Path) -> str:
    program = shutil.which("ovsdb-tool")
    if program is None:
        raise DatabaseFileError("ovsdb-tool is not installed (package openvswitch-switch)")
    result = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, umask=0o077, check=False)
    if result.returncode:
        raise DatabaseFileError(f"ovsdb-tool {arguments[0]}: {result.stderr.strip()}")
    return result.stdout.strip()
