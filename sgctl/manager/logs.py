# SPDX-License-Identifier: Apache-2.0
"""Logs: one line per event, on standard error."""

from __future__ import annotations

import logging
import sys

FORMAT = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"
TIME = "%Y-%m-%dT%H:%M:%S"
#: Libraries whose information is of no use to operators.
QUIET = ("os_ken", "ovsdbapp", "ovs", "eventlet")


class OneLine(logging.Formatter):
    """Keeps a message on one line, whatever text from outside is in it; tracebacks follow as they are."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, with other line breaks shown as spaces."""
        return " ".join(super().formatMessage(record).splitlines())


def start_logging(*, verbose: bool) -> None:
    """Log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(FORMAT, TIME))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.WARNING)
