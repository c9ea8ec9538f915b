# SPDX-License-Identifier: Apache-2.0
"""What clients meet while the API does not serve yet, because its database has not been reached since it started."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from eventlet import Timeout
from eventlet.event import Event

from sgctl.api import envelope
from sgctl.api.errors import Code, EarlyError

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Front:
    """A WSGI application in front of one that comes later: clients wait for it in the first seconds, then no longer."""

    def __init__(self, patience: float) -> None:
        self._until, self._opened = monotonic() + patience, Event()

    def open(self, application: Wsgi) -> None:
        """From now on this one answers, also those who wait."""
        self._opened.send(application)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
        if not self._opened.ready():
            with Timeout(max(self._until - monotonic(), 0), False):
                self._opened.wait()
        application: Wsgi = self._opened.wait() if self._opened.ready() else _refusal()
        return application(environ, start_response)


def _refusal() -> Wsgi:
    refusal: Wsgi = envelope.failure(EarlyError(Code.UNAVAILABLE, "the database is not available"), None)
    return refusal
