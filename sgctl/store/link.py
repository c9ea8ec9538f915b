# SPDX-License-Identifier: Apache-2.0
"""The Idl of the SG database: ovsdbapp's, with rows diverted into records and transactions that keep their answer."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any
from uuid import UUID, uuid1

from ovs.db.idl import SchemaHelper, Transaction
from ovs.jsonrpc import Message
from ovsdbapp.backend.ovs_idl.connection import OvsdbIdl

from sgctl.jsonrpc import FastSession
from sgctl.model import Row
from sgctl.store.changes import Operation
from sgctl.store.columns import Json, Kind, every, schema_json, tables
from sgctl.store.interest import seen
from sgctl.store.replica import News, Replica

LOG = logging.getLogger(__name__)
#: Milliseconds between attempts to connect: the first and the longest wait, each up to twice as long at random, for
#: the server's listen backlog is only 10 deep and a cloud of agents loses it at the same moment: the 500 of a relay try
#: 300 times a second in the worst case, however often it has died. The few who write look for the new leader in all
#: places, every time that theirs is gone.
BACKOFF = {"unix": (50, 200), "tcp": (500, 1000), "ssl": (500, 1000)}
_WRITERS_BACKOFF = (50, 150)
#: Milliseconds of silence after which the server is asked whether it lives, and as many until it is given up.
_PROBE_MS, _WRITERS_PROBE_MS = 5000, 2000
#: The same while a server that has answered makes all rows ready. It says nothing meanwhile, for 4 s of processor time
#: at 50 000 NICs; who gave it up would ask the next one for the same, and none would ever come to an end.
_DUMP_PROBE_MS = 60_000
#: Seconds after which the server hears from who takes rows in: it hangs up after ten, and 100 000 NICs take twenty.
_SIGN_OF_LIFE = 2.0
#: How many rows are taken in before other green threads get a turn: a few milliseconds' worth.
_ROWS_AT_ONCE = 250
#: The condition that no row meets.
_NOTHING = [False]
#: The transaction before all others.
_NEVER = str(UUID(int=0))


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
    uuid: UUID

    def __init__(self, remotes: str, replica: Replica, *, interested: bool, leader_only: bool) -> None:
        helper = SchemaHelper(schema_json=schema_json())
        columns: Callable[[Kind], Iterable[str]] = seen if interested else every
        self._named = {kind.TABLE: tables()[kind] for kind in replica.kinds}
        for kind in replica.kinds:
            helper.register_columns(kind.TABLE, list(columns(kind)))
        probe = _WRITERS_PROBE_MS if leader_only else _PROBE_MS
        super().__init__(remotes, helper, probe_interval=probe, leader_only=leader_only)
        session = self._session
        self._session = FastSession(session.reconnect, session.remotes, self._inspect)
        _spread_attempts(session.reconnect, _WRITERS_BACKOFF if leader_only else _backoff(remotes))
        self._probe_ms = session.reconnect.get_probe_interval()
        self._replica, self._interested = replica, interested
        self.news: dict[Kind, dict[str, Row | None]] = {kind: {} for kind in replica.kinds}
        self._unconfirmed: dict[Kind, set[str]] = {}
        self._shown = monotonic()
        self._since, self._abandoned, self._must_begin_again = _NEVER, "", False
        self._unfit: list[str] | None = None

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
            if condition is not self.tables[kind.TABLE].condition_state.latest:
                self.cond_change(kind.TABLE, condition)
        if self.monitoring:
            self.send_cond_change()
        else:
            self.cond_changed = False

    def run(self) -> bool:
        """Take in what the server says; begin again with nothing if it does not know where we left off."""
        changed = bool(super().run())
        if self._must_begin_again and self._session.is_connected():
            self._begin_again()
        if self._unfit is not None and self._session.is_connected() and self._unfit != self._schemas():
            self._unfit = None
            self.force_reconnect()
        if self._probe_ms:
            waiting = self._unfit is None and self.state == self.IDL_S_DATA_MONITOR_COND_SINCE_REQUESTED
            self._session.reconnect.set_probe_interval(_DUMP_PROBE_MS if waiting else self._probe_ms)
        return changed

    def _schemas(self) -> list[str]:
        """Those of the databases that this server has, as it tells without being asked again."""
        rows = self.server_tables["Database"].rows.values() if self.server_tables else ()
        return sorted(str(row.schema) for row in rows)

    def send_request(self, request: Message) -> Any:
        """Send a request; an agent's monitor never begins with rows.

        To find those that a condition fits, and be it False, the server copies each row of the table first: most of a
        second for an agent that connects to a database of 100 000 NICs (tests/bench/SCALE.md). So an agent asks for
        what it has missed since it left off, or else for nothing, and then changes its conditions.
        """
        if request.method == "monitor_cond_since":
            self._since = request.params[3]
            for part in (part for wanted in request.params[2].values() for part in wanted if self._interested):
                part["select"] = {"initial": False}
        return super().send_request(request)

    def sync_conditions(self) -> None:
        """What to ask for on a new connection; the Idl's own decides whether to go on from where we left off."""
        if any(self._unconfirmed.values()) or self._must_begin_again:
            self.last_id, self._must_begin_again = _NEVER, False
        super().sync_conditions()
        if self._interested and self.last_id == _NEVER:
            for table in self.tables.values():
                table.condition_state.init(_NOTHING)
                table.condition_state.request()
                table.condition_state.ack()

    def _begin_again(self) -> None:
        """Give up the monitor and ask for a new one, on the same connection."""
        self._must_begin_again = False
        for monitor in (self.uuid, self.server_monitor_uuid):
            self._session.send(Message.create_request("monitor_cancel", [str(monitor)]))
        self._abandoned, self.uuid = str(self.uuid), uuid1()
        self.last_id = _NEVER
        self.restart_fsm()

    def doubt(self, kind: Kind, ids: Iterable[str]) -> None:
        """Go by these rows only until all conditions are agreed upon again, unless the server shows them."""
        self._unconfirmed.setdefault(kind, set()).update(ids)

    def take_unconfirmed(self) -> News:
        """The rows from before that this server has not shown, as gone: for when it has agreed to all conditions.

        Until then an agent goes by them, so that a server that knows less never looks like a cloud that is empty.
        """
        gone, self._unconfirmed = self._unconfirmed, {}
        return {kind: dict.fromkeys(ids) for kind, ids in gone.items() if ids}

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
                if message.params[0] != self._abandoned and not self._must_begin_again:
                    self._update(message.params[-1])
                message.params[-1] = {}
        elif self._monitor_request_id is not None and message.id == self._monitor_request_id:
            if message.type == Message.T_REPLY:
                self._initial(message.result)
            else:
                # The Idl leaves it at that, for as long as the connection lasts.
                self._unfit = self._schemas()
                LOG.error("%s: the database does not fit this program, and is not followed until it is converted: %s",
                          self.session_name(), message.error)  # fmt: skip

    def _initial(self, result: Json) -> None:
        """The answer to a monitor request: whether it goes on where we left off, a transaction id, and rows."""
        found, _, updates = result
        self._unfit = None
        if not found and not self._interested:
            self.news = {kind: dict.fromkeys(self._replica.ids(kind)) for kind in self._replica.kinds}
        elif not found and self._since != _NEVER:
            self._must_begin_again = True
        elif not found:
            self._unconfirmed = {kind: set(self._replica.ids(kind)) for kind in self._replica.kinds}
        self._update(updates)
        result[2] = {}

    def _update(self, updates: Mapping[str, Mapping[str, Json]]) -> None:
        for name, rows in updates.items():
            table = self._named[name]
            news, unconfirmed = self.news[table.kind], self._unconfirmed.get(table.kind, set())
            for count, (id, row) in enumerate(rows.items(), 1):
                if not count % _ROWS_AT_ONCE:
                    self.cooperative_yield()
                    self._show_life()
                old = news[id] if id in news else self._replica.get(table.kind, id)
                if "modify" in row and old is None:
                    self._resync(f"{name} {id} was modified, but nobody has told us that it exists")
                else:
                    news[id] = table.changed(id, old, row)
                    unconfirmed.discard(id)

    def _show_life(self) -> None:
        """Say something to the server, if it has not heard from us for a while; the session drops its answer."""
        if monotonic() - self._shown > _SIGN_OF_LIFE:
            self._shown = monotonic()
            echo = Message.create_request("echo", [])
            echo.id = "echo"
            self._session.send(echo)

    def _resync(self, why: str) -> None:
        """Begin again with all rows."""
        LOG.error("%s: %s", self.session_name(), why)
        self.last_id = _NEVER
        self.force_reconnect()


def _backoff(remotes: str) -> tuple[int, int]:
    return BACKOFF.get(remotes.partition(":")[0], BACKOFF["tcp"])


def _spread_attempts(reconnect: Any, backoff: tuple[int, int]) -> None:
    first, longest = backoff
    reconnect.min_backoff = round(first * random.uniform(1, 2))
    reconnect.max_backoff = round(longest * random.uniform(1, 2))


def _error_name(error: Json) -> str:
    return str(error.get("error", "")) if isinstance(error, dict) else str(error)
