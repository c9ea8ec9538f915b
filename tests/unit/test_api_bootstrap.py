# SPDX-License-Identifier: Apache-2.0
"""The first start on a new database."""

import configparser
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from sgctl.api.bootstrap import bootstrap, rewrite
from sgctl.api.sealing import Sealer
from sgctl.errors import Conflict, SgctlError
from sgctl.model import Account, Cloud, Group, Key, User
from sgctl.store import Delete
from tests.unit.api_memory import Memory

ENDPOINT = "http://127.0.0.1:8080/client/api"
SEEDED = f"[cloudstack]\nendpoint = {ENDPOINT}\nkey = k%1\nsecret = s%2\n"


class Beaten(Memory):
    """A database to which another server was faster."""

    def write(self, *arguments: Any, **more: Any) -> None:
        raise Conflict("Cloud", "Cloud", ("name",))


def start(database: Memory, directory: Path) -> None:
    bootstrap(database, directory, endpoint=ENDPOINT, now=1)  # type: ignore[arg-type]


def test_the_file_has_the_admins_key(tmp_path: Path) -> None:
    database, directory = Memory(), tmp_path / "new" / "state"
    start(database, directory)
    file = directory / "admin.ini"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in directory.iterdir()] == ["admin.ini"]
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(file)
    (key,) = database.replica.all(Key)
    assert dict(parser["cloudstack"]) == {"endpoint": ENDPOINT, "key": key.api_key, "secret": key.secret}
    (account,), (group,), (user,) = (database.replica.all(kind) for kind in (Account, Group, User))
    assert (account.name, account.type, group.name) == ("admin", 1, "default")
    assert key.user == user.id and user.account == group.account == account.id


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    database = Memory()
    start(database, tmp_path)
    text = (tmp_path / "admin.ini").read_text()
    start(database, tmp_path)
    assert (database.writes, (tmp_path / "admin.ini").read_text()) == (1, text)


def test_a_deleted_admin_does_not_come_back(tmp_path: Path) -> None:
    database = Memory()
    start(database, tmp_path)
    database.write([Delete(Account, row.id) for row in database.replica.all(Account)])
    start(database, tmp_path)
    assert database.replica.all(Account) == []


def test_a_key_that_is_there_already_is_used(tmp_path: Path) -> None:
    database = Memory()
    (tmp_path / "admin.ini").write_text(SEEDED)
    start(database, tmp_path)
    (key,) = database.replica.all(Key)
    assert (key.api_key, key.secret) == ("k%1", "s%2")
    assert (tmp_path / "admin.ini").read_text() == SEEDED


def test_who_comes_second_leaves_no_file(tmp_path: Path) -> None:
    start(Beaten(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "admin.ini").write_text(SEEDED)
    start(Beaten(), tmp_path)
    assert (tmp_path / "admin.ini").read_text() == SEEDED


@pytest.mark.parametrize("text", ["", "key = x", "[cloudstack]\nkey = x\n", "\x00"])
def test_a_file_without_a_key_stops_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "admin.ini").write_text(text)
    with pytest.raises(SgctlError, match="no key and secret"):
        start(Memory(), tmp_path)


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    database = Memory()
    with pytest.raises(SgctlError, match="cannot be written"):
        start(database, tmp_path / "file")
    assert database.replica.all(Cloud) == []


def test_a_lost_file_is_written_again(tmp_path: Path) -> None:
    database = Memory()
    start(database, tmp_path)
    file = tmp_path / "admin.ini"
    text = file.read_text()
    rewrite(database, tmp_path, Sealer(), endpoint="http://elsewhere")  # type: ignore[arg-type]
    assert file.read_text() == text, "it was there"
    file.unlink()
    rewrite(database, tmp_path, Sealer(), endpoint=ENDPOINT)  # type: ignore[arg-type]
    assert file.read_text() == text and stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_sealed_key_is_written_as_clients_need_it(tmp_path: Path) -> None:
    database = Memory()
    start(database, tmp_path)
    file = tmp_path / "admin.ini"
    text = file.read_text()
    file.unlink()
    sealer = Sealer(Fernet.generate_key())
    sealer.seal_all(database)  # type: ignore[arg-type]
    rewrite(database, tmp_path, sealer, endpoint=ENDPOINT)  # type: ignore[arg-type]
    assert file.read_text() == text


def test_without_the_admin_there_is_no_file_to_write(tmp_path: Path) -> None:
    database = Memory()
    start(database, tmp_path)
    database.write([Delete(Key, row.id) for row in database.replica.all(Key)])
    (tmp_path / "admin.ini").unlink()
    rewrite(database, tmp_path, Sealer(), endpoint=ENDPOINT)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
