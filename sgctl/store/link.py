# SPDX-License-Identifier: Apache-2.0
"""The Idl of the SG database: ovsdbapp's, with rows diverted into records and transactions that keep their answer."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from ovs.db.idl import SchemaHelper, Transaction
from ovs.jsonrpc import Message
from ovsdbapp.backend.ovs_idl.connection import OvsdbIdl

from sgctl.model import Row
from sgctl.store.changes import Operation
from sgctl.store.columns import Json, Kind, schema_json, tables
from sgctl.store.replica import Replica
from sgctl.store.wire import FastSession

LOG = logging.getLogger(__name__)
#: Milliseconds between attempts to connect: the first and the longest wait, each up to twice as long at random, for
#: the server's listen backlog is only 10 deep and a cloud of agents loses it at the same moment. The few who write
#: look for the new leader in all places, every time that theirs is gone.
_BACKOFF = {"unix": (50, 200), "tcp": (1000, 4000), "ssl": (1000, 4000)}
_WRITERS_BACKOFF = (50, 150)
#: Milliseconds of silence after which the server is asked whether it lives, and as many until it is given up.
_PROBE_MS, _WRITERS_PROBE_MS = 5000, 2000
#: How many rows are taken in before other green threads get a turn: a few milliseconds' worth.
_ROWS_AT_ONCE = 250
#: The condition that no row meets.
_NOTHING = [False]


class Answered(Transaction):  # type: ignore[misc]
    """A transaction made of raw operations; `results` is the server's answer, None as long as there is none."""

    def __init__(self, idl: SgIdl, operations: Sequence[Operation]) -> None:
        super().__init__(idl)
        self.results: Json = None
        for operation in operations:
            self.add_op(operation)

    @property
    def over(self) -> bool:
        """Whether it is answered, or never will be because the connection it was sent on is gone."""
        return bool(self._status != Transaction.INCOMPLETE)

    def _process_reply(self, message: Message) -> None:
        self._status = Transaction.SUCCESS
        if message.type == Message.T_REPLY:
            self.results = message.result
        else:
            self.results = [{"error": _error_name(message.error), "details": str(message.error)}]


class SgIdl(OvsdbIdl):  # type: ignore[misc]
    """The connection's state machine; rows end up in `news`, for the owner to apply, and never in the Idl's tables."""

    _session: Any

    def __init__(
        self, remotes: str, replica: Replica, columns: Callable[[Kind], Iterable[str]], *, leader_only: bool
    ) -> None:
        helper = SchemaHelper(schema_json=schema_json())
        self._named = {kind.TABLE: tables()[kind] for kind in replica.kinds}
        for kind in replica.kinds:
            helper.register_columns(kind.TABLE, list(columns(kind)))
        probe = _WRITERS_PROBE_MS if leader_only else _PROBE_MS
        super().__init__(remotes, helper, probe_interval=probe, leader_only=leader_only)
        session = self._session
        self._session = FastSession(session.reconnect, session.remotes, self._inspect)
        _spread_attempts(session.reconnect, _WRITERS_BACKOFF if leader_only else _backoff(remotes))
        self._replica = replica
        self.news: dict[Kind, dict[str, Row | None]] = {kind: {} for kind in replica.kinds}

    @property
    def monitoring(self) -> bool:
        """Whether the rows are here and kept up to date."""
        return bool(self.state == self.IDL_S_MONITORING and self._session.is_connected())

    @property
    def pending(self) -> bool:
        """Whether `run` would find a message at once."""
        return bool(self._session.pending)

    @property
    def agreed(self) -> bool:
        """Whether the server has confirmed the latest conditions; their rows are then here."""
        states = (table.condition_state for table in self.tables.values())
        return self.monitoring and all(state.new is None and state.requested is None for state in states)

    def demand(self, conditions: Mapping[Kind, Json]) -> None:
        """Set the monitor conditions. Before the first connection, or when the former ones are `agreed` on.

        At other times the Idl would spin: it thinks that it can send them, and cannot.
        """
        for kind, condition in conditions.items():
            self.cond_change(kind.TABLE, condition)
        if self.monitoring:
            self.send_cond_change()
        else:
            self.cond_changed = False

    def send_request(self, request: Message) -> Any:
        """Send a request; a monitor that begins with no rows of a table says so in the way that costs nothing.

        To find out that a condition of False fits no row, the server copies each row of the table first: most of a
        second for an agent that connects to a database of 100 000 NICs (tests/bench/SCALE.md).
        """
        if request.method == "monitor_cond_since":
            for wanted in request.params[2].values():
                for part in wanted:
                    if part.get("where") == _NOTHING:
                        part["select"] = {"initial": False}
        return super().send_request(request)

    def transact(self, operations: Sequence[Operation]) -> Answered:
        """Send a transaction without waiting."""
        transaction = Answered(self, operations)
        transaction.commit()
        return transaction

    def take_news(self) -> dict[Kind, dict[str, Row | None]]:
        """What `run` has brought."""
        news = {kind: rows for kind, rows in self.news.items() if rows}
        self.news = {kind: {} for kind in self._replica.kinds}
        return news

    def _inspect(self, message: Message) -> None:
        """Take table updates out of a message."""
        if message.type == Message.T_NOTIFY and message.method in {"update2", "update3"}:
            if message.params[0] != str(self.server_monitor_uuid):
                self._update(message.params[-1])
                message.params[-1] = {}
        elif self._monitor_request_id is not None and message.id == self._monitor_request_id:
            if message.type == Message.T_REPLY:
                self._initial(message.result)
            else:
                LOG.error("%s: the database does not fit this program: %s", self.session_name(), message.error)

    def _initial(self, result: Json) -> None:
        """The answer to a monitor request: whether it goes on where we left off, a transaction id, and rows."""
        found, _, updates = result
        if not found:
            self.news = {kind: dict.fromkeys(self._replica.ids(kind)) for kind in self._replica.kinds}
        self._update(updates)
        result[2] = {}

    def _update(self, updates: Mapping[str, Mapping[str, Json]]) -> None:
        for name, rows in updates.items():
            table = self._named[name]
            news = self.news[table.kind]
            for count, (id, row) in enumerate(rows.items(), 1):
                if not count % _ROWS_AT_ONCE:
                    self.cooperative_yield()
                old = news[id] if id in news else self._replica.get(table.kind, id)
                if "modify" in row and old is None:
                    self._resync(f"{name} {id} was modified, but nobody has told us that it exists")
                else:
                    news[id] = table.changed(id, old, row)

    def _resync(self, why: str) -> None:
        """Begin again with all rows."""
        LOG.error("%s: %s", self.session_name(), why)
        self.last_id = str(UUID(int=0))
        self.force_reconnect()


def _backoff(remotes: str) -> tuple[int, int]:
    return _BACKOFF.get(remotes.partition(":")[0], _BACKOFF["tcp"])


def _spread_attempts(reconnect: Any, backoff: tuple[int, int]) -> None:
    first, longest = backoff
    reconnect.min_backoff = round(first * random.uniform(1, 2))
    reconnect.max_backoff = round(longest * random.uniform(1, 2))


def _error_name(error: Json) -> str:
    return str(error.get("error", "")) if isinstance(error, dict) else str(error)
