# SPDX-License-Identifier: Apache-2.0
"""Logs: one line per event, on standard error, and never at the price of waiting for whoever reads them."""

from __future__ import annotations

import logging
import sys
from typing import Any

from eventlet.patcher import original

# Eventlet's own would wait, within the lock that all who log have to take.
_os, _select = original("os"), original("select")
FORMAT = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
TIME = "%Y-%m-%dT%H:%M:%S"
#: Libraries whose information is of no use to operators.
QUIET = ("os_ken", "ovsdbapp", "ovs", "eventlet")
NEWLINE = "\n"
PIECE = 4096
"""Bytes for which a pipe has room when it says that it has any (PIPE_BUF)."""


class OneLine(logging.Formatter):
    """Keeps a message on one line, whatever text from outside is in it, and harmless for terminals.

    Tracebacks keep their lines.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, with line breaks shown as spaces."""
        return printable(" ".join(super().formatMessage(record).splitlines()))

    def formatException(self, ei: Any) -> str:
        """The traceback."""
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def printable(text: str) -> str:
    """Text with a question mark in the place of each control character, direction mark and the like."""
    return text if text.isprintable() else "".join(one if one.isprintable() else "?" for one in text)


class Unhurried(logging.Handler):
    """Writes to a descriptor what its reader takes, and leaves out the rest.

    A log that nobody reads any more, of a journal that hangs, say, would stop the process in the middle of a line, and
    with it everything that it does. `lost` counts the lines that have been left out, wholly or in part; how many, says
    a line of its own as soon as there is somebody again.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.lost = 0
        self._told, self._torn = 0, False
        self._descriptor = descriptor
        self._room = _select.poll()
        self._room.register(descriptor, _select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        text = self.format(record)
        if self.lost > self._told and self._write(f"{self.lost - self._told} lines were lost: nobody read the log"):
            self._told = self.lost
        if not self._write(text):
            self.lost += 1

    def _write(self, text: str) -> bool:
        """Whether all of it was taken; a line of which only a part was is ended before the next."""
        rest = memoryview(f"{self._torn * NEWLINE}{text}{NEWLINE}".encode(errors="backslashreplace"))
        while rest:
            if not self._room.poll(0):
                return False
            try:
                rest = rest[_os.write(self._descriptor, rest[:PIECE]) :]
            except OSError:
                return False
            self._torn = bool(rest)
        return True


def shorten(record: logging.LogRecord) -> bool:
    """Say in a sentence that a switch's TLS handshake has failed, for which os-ken has a traceback; all are kept."""
    if record.name == "os_ken.lib.hub":
        error, _, reason = record.getMessage().rstrip().rpartition("\n")[2].partition(": ")
        if error.startswith("ssl."):
            record.msg, record.args = "a switch is refused by TLS: %s", (reason,)
    return True


def start_logging(*, verbose: bool) -> Unhurried:
    """Log to standard error."""
    handler = Unhurried(sys.stderr.fileno())
    handler.setFormatter(OneLine(FORMAT, TIME))
    handler.addFilter(shorten)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.WARNING)
    return handler
