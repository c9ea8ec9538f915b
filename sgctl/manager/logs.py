# SPDX-License-Identifier: Apache-2.0
"""Logs: one line per event, on standard error."""

from __future__ import annotations

import logging
import sys
from typing import Any

FORMAT = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
TIME = "%Y-%m-%dT%H:%M:%S"
#: Libraries whose information is of no use to operators.
QUIET = ("os_ken", "ovsdbapp", "ovs", "eventlet")


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


def start_logging(*, verbose: bool) -> None:
    """Log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(FORMAT, TIME))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.WARNING)
