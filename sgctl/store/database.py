# SPDX-License-Identifier: Apache-2.0
"""The connection to the SG database: it owns the replica and makes durable transactions.

One thread runs the Idl; under a monkey-patched eventlet that is a green thread. Others only queue requests and wait.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from threading import Event, Lock, Thread, current_thread
from time import monotonic, sleep
from types import TracebackType
from typing import Self

from ovs.poller import Poller

from sgctl.collector import uncollected
from sgctl.errors import Stale, Unavailable
from sgctl.jsonrpc import identify
from sgctl.model import TABLES, Nic
from sgctl.store.changes import Change, Condition, Update, operations
from sgctl.store.interest import DECISIVE, KINDS, Conditions, Interest, Watch
from sgctl.store.link import Answered, SgIdl
from sgctl.store.plugged import Plugged, answered, look_up
from sgctl.store.replica import Changes, News, Replica
from sgctl.store.requests import Alarm, Request
from sgctl.tls import Tls

LOG = logging.getLogger(__name__)


class Database:
    """A connection to the SG database at `remotes` (``unix:``, ``tcp:``, ``ssl:``; several with commas).

    replica: the rows that are wanted; all of them, or with an `interest` (an agent's) those that it asks for, without
    the columns that agents do not follow.
    tls: who we are on ``ssl:`` connections; one for all databases of a process.
    leader_only: speak with a cluster's leader only. Writers should; agents may read from relays, and do by default.
    deadline, patience: seconds that a write may take, and that it waits for a connection where there is none.
    """

    def __init__(
        self,
        remotes: str,
        *,
        interest: Interest | None = None,
        tls: Tls | None = None,
        leader_only: bool | None = None,
        deadline: float = 5.0,
        patience: float = 0.9,
    ) -> None:
        self.replica = Replica(TABLES if interest is None else KINDS)
        self.remotes = remotes
        self._interest, self._conditions = interest, Conditions()
        self._deadline, self._patience = deadline, patience
        if tls is not None:
            identify(tls)
        writer = interest is None if leader_only is None else leader_only
        self._idl = SgIdl(remotes, self.replica, interested=interest is not None, leader_only=writer)
        self._followed: Watch | None = None
        self._settled = self._reached = False
        self._plugged = Plugged()
        self._question: tuple[list[str], Answered] | None = None
        self._lock = Lock()
        self._queue: deque[Request] = deque()
        self._sent: list[Request] = []
        self._alarm = Alarm()
        self._insync, self._stopping = Event(), False
        self._thread = Thread(target=self._serve, name="sgctl-store", daemon=True)
        if interest is not None:
            interest.on_watch = self._watch
            self._idl.demand(self._conditions.of(None, self.replica))

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Disconnect; writes that wait fail."""
        self._stopping = True
        self._alarm.ring()
        if self._thread.is_alive():
            self._thread.join()
        self._alarm.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def connected(self) -> bool:
        """Whether there is a server that can be written to."""
        return self._idl.monitoring

    @property
    def alive(self) -> bool:
        """Whether the connection's thread runs; it ends by `stop` and by faults of this program only."""
        return self._thread.is_alive()

    def wait_insync(self, timeout: float) -> bool:
        """Wait until `replica.insync`, at most `timeout` seconds; says whether it is."""
        return self._insync.wait(timeout)

    def write(
        self,
        changes: Sequence[Change],
        guards: Sequence[Condition] = (),
        *,
        comment: str = "",
        deadline: float | None = None,
    ) -> None:
        """Make one durable transaction; when this returns it is on disk and in the replica.

        Raises `Conflict`, `Stale`, `Referenced` or `StoreError` if nothing was changed, `Unavailable` if the database
        could not be asked; only if that is `uncertain` the change may have been made all the same. A `deadline` given
        here also is the time to wait for a connection.
        """
        if current_thread() is self._thread:
            raise RuntimeError("a write from within on_change would wait for itself")
        request = Request(operations(changes, guards, comment))
        until = monotonic() + (self._deadline if deadline is None else deadline)
        begin = until if self.connected or deadline is not None else min(until, monotonic() + self._patience)
        self._queue.append(request)
        self._alarm.ring()
        if not request.done.wait(begin - monotonic()) and request.withdraw():
            with suppress(ValueError):
                self._queue.remove(request)
            raise Unavailable(f"there is no connection to the database {self.remotes}")
        if not request.done.wait(until - monotonic()):
            raise Unavailable(f"the database {self.remotes} did not answer in time", uncertain=True)
        try:
            request.check()
        except Stale:
            self._plugged.expire({change.id for change in changes if isinstance(change, Update)})
            self._alarm.ring()
            raise

    def _watch(self) -> None:
        """The interest has changed: nothing is complete until the next turn says so."""
        with self._lock:
            self._turn_insync(False)
            self.replica.doubt()
        self._alarm.ring()

    def _turn_insync(self, insync: bool) -> None:
        self.replica.insync = insync
        (self._insync.set if insync else self._insync.clear)()

    def _serve(self) -> None:
        try:
            while not self._stopping:
                self._turn()
                self._sleep()
        finally:
            self._stopping = True
            self._idl.close()
            with self._lock:
                self._turn_insync(False)
            self.replica.announce(frozenset())
            self._finish([*self._sent, *self._queue])

    def _turn(self) -> None:
        with uncollected():
            self._idl.run()
            self._absorb(self._idl.take_news())
        self._finish([request for request in self._sent if request.over or not self._idl.monitoring])
        while self._queue and self._idl.monitoring:
            request = self._queue.popleft()
            if request.send(self._idl):
                self._sent.append(request)

    def _sleep(self) -> None:
        """Until something is to be done; only give others a turn if there is."""
        if self._idl.pending or self._stopping:
            sleep(0)
            return
        poller = Poller()
        self._idl.wait(poller)
        self._alarm.watch(poller)
        left = self._plugged.left(monotonic())
        if left is not None:
            poller.timer_wait(round(left * 1000) + 1)
        poller.block()
        self._alarm.silence()

    def _finish(self, requests: Iterable[Request]) -> None:
        """Answer requests, after the replica has seen what came before their answers."""
        for request in requests:
            request.done.set()
        self._sent = [request for request in self._sent if not request.done.is_set()]

    def _absorb(self, news: News) -> None:
        decisive = self._interest is not None and not DECISIVE.isdisjoint(news)
        if decisive:
            self.replica.insync = False
        changed = self.replica.absorb(news)
        self._plugged.shown(news.get(Nic, ()))
        self._report(self._idl.monitoring)
        arrived = self._idl.monitoring
        if self._interest is not None:
            changed |= self._follow(self._interest, decisive)
            arrived = self._settled
        with self._lock:
            insync = arrived and (self._interest is None or self._interest.watched is self._followed)
            self._turn_insync(insync)
        self.replica.announce(changed)

    def _report(self, reached: bool) -> None:
        if reached != self._reached:
            self._reached = reached
            LOG.info("database %s: %s", "connected" if reached else "connection lost", self._idl.session_name())

    def _follow(self, interest: Interest, decisive: bool) -> Changes:
        """Move the conditions towards the interest; `_settled` is whether they have arrived.

        The rows that go then are those of an earlier connection that this server does not have any more.
        """
        if not self._idl.monitoring:
            self._plugged.expire()
            self._question = None
        if not self._idl.agreed:
            self._settled = False
            return frozenset()
        expired = self._plugged.expired(monotonic())
        if not (expired or decisive or not self._settled or interest.watched is not self._followed):
            return frozenset()
        self._idl.doubt(Nic, (id for id in expired if self.replica.get(Nic, id) is not None))
        self._followed = interest.watched
        changed = self.replica.absorb({Nic: self._plugged.unplugged(self._followed, self.replica)})
        if self._followed is not None:
            changed |= self._look_up(self._followed)
        if self._question is not None:
            self._settled = False
            return changed
        self._demand()
        if self._settled and self._plugged.departed():
            self._demand()
        if self._settled and (gone := self._idl.take_unconfirmed()):
            changed |= self.replica.absorb(gone)
            self._demand()
        return changed

    def _look_up(self, watch: Watch) -> Changes:
        """Ask for NICs that local ports name and nobody has told of, or take the answer; `_question` what is open."""
        changed: Changes = frozenset()
        if self._question is not None and self._question[1].over:
            (asked, answer), self._question = self._question, None
            found = self._plugged.take(watch.host, asked, answered(answer.results), monotonic())
            changed = self.replica.absorb({Nic: found})
        if self._question is None and (names := self._plugged.strangers(watch, self.replica)):
            self._question = names, self._idl.transact(look_up(names))
        return changed

    def _demand(self) -> None:
        self._idl.demand(self._conditions.of(self._followed, self.replica, self._plugged.lent))
        self._settled = self._idl.agreed and self._followed is not None
