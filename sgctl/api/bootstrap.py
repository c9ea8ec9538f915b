# SPDX-License-Identifier: Apache-2.0
"""The first start on a new database: the row about the whole cloud, the root admin account, a file with its key.

The file is written before the account, and the account gets the key that is in the file: whenever the process dies,
the next start completes what is missing. Of several servers that start at once one makes the account. A server that
has the database's own files writes a file that was lost, or was not in a backup, again.
"""

from __future__ import annotations

import configparser
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe
from uuid import NAMESPACE_OID, uuid5

from sgctl.api.sealing import Sealer
from sgctl.errors import Conflict, SgctlError
from sgctl.model import Account, Cloud, Group, Key, Record, User
from sgctl.store import Database, Insert

LOG = logging.getLogger(__name__)

ADMIN = "admin"
FILE = "admin.ini"
_SECTION = "cloudstack"
_KEY_BYTES = 64


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key pair. Its secret is not shown by accident."""

    key: str
    secret: str

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Credentials({self.key!r})"


def bootstrap(database: Database, state_dir: Path, *, endpoint: str, now: int) -> None:
    """Make the root admin account in a new database, which is one without a `Cloud` row; `now` in milliseconds."""
    if database.replica.all(Cloud):
        return
    path = state_dir / FILE
    credentials, ours = _credentials(path, endpoint)
    try:
        database.write([Insert(row) for row in _rows(credentials, now)], comment="the first start")
    except Conflict:
        LOG.info("another server has made the root admin account")
        if ours:
            path.unlink(missing_ok=True)
    else:
        LOG.info("made the root admin account %s; its key is in %s", ADMIN, path)


def rewrite(database: Database, state_dir: Path, sealer: Sealer, *, endpoint: str) -> None:
    """Write the file again if it is lost, with the key that the root admin's user has now; nothing if there is none."""
    path = state_dir / FILE
    keys = database.replica.find(Key, user=_id("user"))
    if not keys or path.exists():
        return
    key = min(keys, key=lambda key: key.created)
    try:
        if _write(path, endpoint, Credentials(key.api_key, sealer.open(key.secret))):
            LOG.warning("%s was not there; wrote the root admin's key to it again", path)
    except OSError as error:
        LOG.warning("%s is not there, and cannot be written: %s", path, error.strerror or error)


def _rows(credentials: Credentials, now: int) -> list[Record]:
    account, user = _id("account"), _id("user")
    return [
        Cloud(id=_id("cloud"), created=now),
        Account(id=account, name=ADMIN, name_key=ADMIN, type=1, created=now),
        Group(
            id=_id("group"),
            account=account,
            name="default",
            name_key="default",
            description="Default Security Group",
            created=now,
        ),
        User(id=user, account=account, username=ADMIN, firstname="Root", lastname="Admin", created=now),
        Key(id=_id("key"), user=user, api_key=credentials.key, secret=credentials.secret, created=now),
    ]


def _id(what: str) -> str:
    return str(uuid5(NAMESPACE_OID, f"sgctl admin {what}"))


def _credentials(path: Path, endpoint: str) -> tuple[Credentials, bool]:
    """What is in the file, or new ones that are written to it; says whether they are new."""
    known = _read(path)
    if known:
        return known, False
    new = Credentials(token_urlsafe(_KEY_BYTES), token_urlsafe(_KEY_BYTES))
    try:
        if _write(path, endpoint, new):
            return new, True
    except OSError as error:
        raise SgctlError(f"the root admin's key cannot be written to {path}: {error.strerror or error}") from error
    known = _read(path)
    if known is None:
        raise SgctlError(f"{path} came and went")
    return known, False


def _read(path: Path) -> Credentials | None:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        if not parser.read(path, encoding="utf-8"):
            return None
        return Credentials(parser[_SECTION]["key"], parser[_SECTION]["secret"])
    except (OSError, UnicodeError, KeyError, configparser.Error) as error:
        raise SgctlError(f"{path} exists, but has no key and secret of the root admin: {error}") from error


def _write(path: Path, endpoint: str, credentials: Credentials) -> bool:
    """Make the whole file, readable by its owner only; False if there is one."""
    text = f"[{_SECTION}]\nendpoint = {endpoint}\nkey = {credentials.key}\nsecret = {credentials.secret}\n"
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    # The file appears under its name complete, or not at all; mkstemp makes it with mode 0600.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True
