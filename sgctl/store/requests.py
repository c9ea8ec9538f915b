# SPDX-License-Identifier: Apache-2.0
"""What passes between the threads that write and the one that holds the connection."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from threading import Event, Lock

from ovs.poller import POLLIN, Poller

from sgctl.errors import Unavailable
from sgctl.store.changes import Operation, check
from sgctl.store.link import Answered, SgIdl


class Request:
    """A transaction that somebody waits for; `done` is set once there is no more to wait for."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.done = Event()
        self._operations = operations
        self._answer: Answered | None = None
        self._lock = Lock()
        self._withdrawn = False

    def send(self, idl: SgIdl) -> bool:
        """Hand it to the connection, unless nobody waits for it any more."""
        with self._lock:
            if not self._withdrawn:
                self._answer = idl.transact(self._operations)
            return not self._withdrawn

    def withdraw(self) -> bool:
        """Do not send it any more; says whether that was in time."""
        with self._lock:
            self._withdrawn = self._answer is None
            return self._withdrawn

    @property
    def over(self) -> bool:
        """Whether it was sent and there is nothing more to come."""
        return self._answer is not None and self._answer.over

    def check(self) -> None:
        """Raise what went wrong."""
        if self._answer is None:
            raise Unavailable("the connection to the database was closed")
        if self._answer.results is None:
            raise Unavailable("the connection to the database was lost before it answered", uncertain=True)
        check(self._operations, self._answer.results)


class Alarm:
    """Wakes a thread that sleeps in a poller."""

    def __init__(self) -> None:
        self._ear, self._bell = socket.socketpair()
        self._ear.setblocking(False)
        self._bell.setblocking(False)

    def ring(self) -> None:
        """Wake it, from any thread; if its buffer is full it is awake already, if it is closed nobody sleeps."""
        with suppress(OSError):
            self._bell.send(b"!")

    def watch(self, poller: Poller) -> None:
        """Have the poller wake up when it rings."""
        poller.fd_wait(self._ear.fileno(), POLLIN)

    def silence(self) -> None:
        """Forget that it has rung."""
        with suppress(BlockingIOError):
            self._ear.recv(4096)

    def close(self) -> None:
        """Give the sockets back."""
        self._ear.close()
        self._bell.close()
