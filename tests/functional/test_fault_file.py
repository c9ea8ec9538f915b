# SPDX-License-Identifier: Apache-2.0
"""A damaged database file is refused; what a crash leaves of its last record is not damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgctl.dbfile import DatabaseFileError, check
from sgctl.dbserver import DatabaseServer
from sgctl.errors import SgctlError
from sgctl.model import Group
from sgctl.store import Insert
from tests.functional.store_server import BASE, connected
from tests.unit.store_rows import group

HEAD = b"OVSDB JSON "


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database with several records."""
    with DatabaseServer(tmp_path) as server, connected(server) as database:
        database.write([Insert(row) for row in BASE])
        for number in range(5):
            database.write([Insert(group(f"g{number}", BASE[0]))])  # type: ignore[arg-type]
    return tmp_path / "sg.db"


@pytest.mark.parametrize("record", range(5))
def test_damage_before_the_last_record_is_refused(file: Path, record: int) -> None:
    good = file.read_bytes()
    starts = [at for at in range(len(good)) if good.startswith(HEAD, at)]
    check(file)
    for at in (starts[record], starts[record] + 60, starts[record + 1] - 3):
        file.write_bytes(good[:at] + b"?" + good[at + 1 :])
        with pytest.raises(DatabaseFileError, match=f"damaged at byte {starts[record]}"):
            check(file)
        with pytest.raises(SgctlError, match="is damaged"):
            DatabaseServer(file.parent).start()
    file.write_bytes(good[: starts[record]] + good[starts[record] + 7 :])
    with pytest.raises(DatabaseFileError):
        check(file)


@pytest.mark.parametrize("torn", [1, 30, 200])
def test_a_torn_end_is_dropped(file: Path, torn: int) -> None:
    good = file.read_bytes()
    last = good.rindex(HEAD)
    file.write_bytes(good[: last + torn])
    with DatabaseServer(file.parent) as server, connected(server) as database:
        names = {row.name for row in database.replica.all(Group)}
    assert {"g0", "g3"} <= names and "g4" not in names
