# SPDX-License-Identifier: Apache-2.0
"""Secret keys at rest.

HMAC signatures need the secret itself, so it cannot be hashed. But only API servers need it, while whoever connects to
the database, hypervisors included, can read all of it. So API servers may share a key of their own, in a file, with
which the secrets in the database are sealed (Fernet: AES-128-CBC with HMAC-SHA256).
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from sgctl.errors import SgctlError
from sgctl.model import Key
from sgctl.store import Database, Guard, Update

LOG = logging.getLogger(__name__)

_SEALED = "sealed:"


class SealError(SgctlError):
    """A secret cannot be opened with the key that this server has."""


class Sealer:
    """Seals and opens secrets with a key; without one it leaves them as they are, and opens only such."""

    def __init__(self, key: bytes | None = None) -> None:
        self._fernet = Fernet(key) if key is not None else None

    @classmethod
    def from_file(cls, path: str) -> Sealer:
        """With the key in a file, which is made, mode 0600, if it is absent; without a key if `path` is empty."""
        if not path:
            return cls()
        try:
            key = _read_or_make(Path(path))
            return cls(key)
        except OSError as error:
            raise SgctlError(f"--api-seal-key {path}: {error.strerror or error}") from error
        except ValueError as error:
            raise SgctlError(f"--api-seal-key {path}: holds no key of 32 bytes in URL-safe base64") from error

    def seal(self, secret: str) -> str:
        """What is stored for a secret."""
        return secret if self._fernet is None else _SEALED + self._fernet.encrypt(secret.encode()).decode("ascii")

    def open(self, stored: str) -> str:
        """The secret that is stored; SealError if it is sealed with another key, or with one and there is none."""
        if not stored.startswith(_SEALED):
            return stored
        if self._fernet is None:
            raise SealError("the secret keys in the database are sealed: --api-seal-key must name the servers' key")
        try:
            return self._fernet.decrypt(stored.removeprefix(_SEALED)).decode()
        except InvalidToken as error:
            raise SealError("--api-seal-key is not the key that sealed the secret keys in the database") from error

    def seal_all(self, database: Database) -> None:
        """Check that all stored secrets can be opened, then seal those that are not; a key changed meanwhile stays."""
        keys = database.replica.all(Key)
        opened = [(key, self.open(key.secret)) for key in keys]
        if self._fernet is None:
            return
        for key, secret in opened:
            if not key.secret.startswith(_SEALED):
                sealed = Update(Key, key.id, {"secret": self.seal(secret)})
                database.write([sealed], [Guard(Key, key.id, {"secret": key.secret})], comment="seal a secret key")
        if any(not key.secret.startswith(_SEALED) for key in keys):
            LOG.info("sealed the secret keys in the database")


def _read_or_make(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes().strip()
    with os.fdopen(descriptor, "wb") as file:
        key = Fernet.generate_key()
        file.write(key + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return key
