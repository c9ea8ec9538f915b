# SPDX-License-Identifier: Apache-2.0
"""One connection to one ovsdb-server: requests and their answers, and what the server says about itself."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from ovs.jsonrpc import EOF, Message
from ovs.poller import Poller
from ovs.stream import Stream

from sgctl.dbfile import DATABASE
from sgctl.errors import SgctlError
from sgctl.jsonrpc import FastConnection

Json = Any
Rows = Mapping[str, Mapping[str, Json]]
"""Rows by UUID: their columns in OVSDB's JSON, without the UUID."""
_PASSED_ON = 2.0
"""Seconds in which a relay that is in touch with its database has answered a write, on a busy machine."""
_NOTHING = {"op": "delete", "table": "Cloud", "where": [["_uuid", "==", ["uuid", str(UUID(int=0))]]]}
"""A write that changes nothing."""


class TalkError(SgctlError):
    """A server cannot be reached, does not answer, or refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a server says about its copy of the SG database; that a relay is `connected`, it has to show."""

    model: str
    connected: bool
    leader: bool
    server: str
    index: int | None
    schema: Json

    @property
    def role(self) -> str:
        """One word for it."""
        if self.model == "clustered":
            return "leader" if self.leader else "follower"
        return self.model


class Talk:
    """A connection to the server at one remote (``unix:``, ``tcp:``, ``ssl:``); a call may take `timeout` seconds."""

    def __init__(self, remote: str, *, timeout: float = 5.0) -> None:
        self.remote, self.timeout = remote, timeout
        try:
            error, stream = Stream.open_block(Stream.open(remote), round(timeout * 1000))
        except (OSError, TypeError) as cause:
            raise TalkError(f"{remote}: {cause}") from cause
        if error:
            raise TalkError(f"{remote}: {os.strerror(error)}")
        self._rpc = FastConnection(stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._rpc.close()

    def call(self, method: str, *params: Json, timeout: float | None = None) -> Json:
        """A request's answer."""
        request = Message.create_request(method, list(params))
        until = monotonic() + (self.timeout if timeout is None else timeout)
        error = self._rpc.send(request)
        while not error:
            self._rpc.run()
            error, message = self._rpc.recv()
            if message is None:
                error = self._wait(until) if error == errno.EAGAIN else error
            elif message.type == Message.T_REQUEST and message.method == "echo":
                error = self._rpc.send(Message.create_reply(message.params, message.id))
            elif message.id == request.id:
                if message.error is not None:
                    raise TalkError(f"{self.remote}: {_text(message.error)}")
                return message.result
        raise TalkError(f"{self.remote}: {'the server hung up' if error == EOF else os.strerror(error)}")

    def _wait(self, until: float) -> int:
        poller = Poller()
        self._rpc.wait(poller)
        self._rpc.recv_wait(poller)
        poller.timer_wait_until(round(until * 1000))
        poller.block()
        return errno.ETIMEDOUT if monotonic() > until else 0

    def transact(self, operations: Iterable[Json], database: str = DATABASE) -> list[Json]:
        """A transaction's results; raises TalkError if any of them is an error."""
        results: list[Json] = self.call("transact", database, *operations)
        for result in results:
            if isinstance(result, dict) and "error" in result:
                raise TalkError(f"{self.remote}: {_text(result)}")
        return results

    def standing(self) -> Standing | None:
        """What the server says about the SG database; None if it does not serve it (yet)."""
        own = {"op": "select", "table": "Database", "where": [["name", "==", DATABASE]]}
        rows = self.transact([own], "_Server")[0]["rows"]
        if not rows:
            return None
        row = rows[0]
        return Standing(
            model=row["model"],
            connected=row["connected"] and (row["model"] != "relay" or self._passes_on()),
            leader=row["leader"],
            server=_optional(row["sid"]) or "",
            index=_optional(row["index"]),
            schema=_optional(row["schema"]),
        )

    def _passes_on(self) -> bool:
        """Whether a relay is in touch with its database, to which it passes writes on.

        It says that it is for half a minute after it has lost it, so that a short absence is not noticed.
        """
        try:
            self.call("transact", DATABASE, _NOTHING, timeout=_PASSED_ON)
        except TalkError:
            return False
        return True

    def rows(self, tables: Iterable[str]) -> dict[str, Rows]:
        """All rows of some tables, as one transaction sees them."""
        names = tuple(tables)
        results = self.transact({"op": "select", "table": name, "where": []} for name in names)
        return {name: by_id(result["rows"]) for name, result in zip(names, results, strict=True)}


def by_id(rows: Iterable[Json]) -> Rows:
    """Rows as `select` gives them, by their UUIDs."""
    return {row["_uuid"][1]: {name: value for name, value in row.items() if name != "_uuid"} for row in rows}


def _optional(value: Json) -> Json:
    """What is in a column of at most one element."""
    if isinstance(value, list):
        return value[1] if value[0] == "uuid" else None
    return value


def _text(error: Json) -> str:
    if isinstance(error, dict):
        return f"{error.get('error')}: {error.get('details', '')}".rstrip(": ")
    return str(error)
