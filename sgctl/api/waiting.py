# SPDX-License-Identifier: Apache-2.0
"""What clients meet while the API does not serve yet, because its database has not been reached since it started."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from eventlet import Timeout
from eventlet.event import Event

from sgctl.api import envelope
from sgctl.api.errors import Code, EarlyError

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Front:
    """A WSGI application in front of one that comes later: clients wait for it, but only for so many seconds."""

    def __init__(self, patience: float) -> None:
        self._patience, self._opened = patience, Event()

    def open(self, application: Wsgi) -> None:
        """From now on this one answers, also those who wait."""
        self._opened.send(application)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
        application: Wsgi | None = None
        with Timeout(self._patience, False):
            application = self._opened.wait()
        if application is None:
            application = envelope.failure(EarlyError(Code.UNAVAILABLE, "the database is not available"), None)
        return application(environ, start_response)
