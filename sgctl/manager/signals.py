# SPDX-License-Identifier: Apache-2.0
"""Waiting for the end: a signal, or an error of a green thread."""

from __future__ import annotations

import signal
import socket
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class End:
    """The reason why the process is to end.

    A signal that arrives while the hub sleeps in poll(2) would only be noticed at its next timer; so signals, and
    errors alike, write into a socket that the main green thread reads from.
    """

    def __init__(self) -> None:
        """Take over SIGTERM, SIGINT and SIGHUP."""
        self.error: BaseException | None = None
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, _noted)

    def fail(self, error: BaseException) -> None:
        """End with an error; the first one counts."""
        if self.error is None:
            self.error = error
            self._writer.send(b"!")

    def wait(self) -> BaseException | None:
        """Wait for the end; the error that caused it, None for a signal."""
        self._reader.recv(1)
        return self.error


def _noted(number: int, frame: FrameType | None) -> None:
    """The byte in the socket says it all."""
