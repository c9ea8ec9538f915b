# SPDX-License-Identifier: Apache-2.0
"""The API as a WSGI application: one path, one way of signing, one JSON object back, one line in the access log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import webob

from sgctl.api import envelope
from sgctl.api.auth import authenticate
from sgctl.api.command import Caller, Command, Object
from sgctl.api.errors import ApiError, Code, EarlyError
from sgctl.api.execute import Executor
from sgctl.api.params import printable
from sgctl.api.request import Request, read

LOG = logging.getLogger(__name__)
ACCESS = logging.getLogger("sgctl.api.access")

PATH = "/client/api"
_LOGGED = (
    "id", "name", "account", "jobid", "virtualmachineid", "nicid", "securitygroupid", "securitygroupname", "zoneid",
)  # fmt: skip


class Application:
    """Answers every request, whatever is in it, with the command's result or with one of CloudStack's errors."""

    def __init__(
        self,
        executor: Executor,
        commands: Iterable[Command],
        *,
        answered: Callable[[str, int, float], object] = lambda command, status, seconds: None,
    ) -> None:
        """`answered` hears of each answer: the command, the HTTP status, how long it took."""
        self._executor, self._answered = executor, answered
        self._commands: Mapping[str, Command] = {command.name: command for command in commands}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """WSGI (PEP 3333)."""
        exchange = _Exchange(webob.Request(environ))
        response = self._respond(exchange)
        exchange.log(response)
        name = exchange.command.name if exchange.command else ""
        self._answered(name, response.status_int, exchange.seconds)
        answer: Iterable[bytes] = response(environ, start_response)
        return answer

    def _respond(self, exchange: _Exchange) -> webob.Response:
        try:
            return envelope.success(*self._answer(exchange))
        except ApiError as error:
            return envelope.failure(error, exchange.command)
        except Exception:
            LOG.exception("a request failed by a fault of this program: %s", exchange.what())
            return envelope.failure(ApiError(Code.INTERNAL, "internal error"), exchange.command)

    def _answer(self, exchange: _Exchange) -> tuple[Command, Object]:
        http = exchange.http
        if http.environ.get("PATH_INFO", "").rstrip("/") != PATH:
            raise EarlyError(Code.NOT_FOUND, f"the API is at {PATH}")
        if http.method not in ("GET", "POST"):
            raise EarlyError(Code.METHOD, "use GET or POST")
        request = exchange.request = read(http, max_body=self._executor.settings.max_body)
        reads = self._executor.database.replica
        # The envelope of a refused signature is the command's, as clients expect.
        exchange.command = self._commands.get(request.command)
        caller = exchange.caller = authenticate(
            reads, request, now=self._executor.clock(), sealer=self._executor.settings.sealer
        )
        command = exchange.command
        if command is None or not command.allowed(caller):
            exchange.command = None
            raise EarlyError(Code.UNAUTHORIZED, _not_available(request.command))
        return command, self._executor.run(caller, command, request.given)


def _not_available(name: str) -> str:
    return f"The given command '{printable(name)}' either does not exist, is not available for user"


class _Exchange:
    """A request and what has become known about it, for the log."""

    def __init__(self, http: webob.Request) -> None:
        self.http = http
        self.request: Request | None = None
        self.command: Command | None = None
        self.caller: Caller | None = None
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return time.monotonic() - self._started

    def what(self) -> str:
        """Command and objects, without anything that could be a secret."""
        if self.request is None:
            return "-"
        given = self.request.given
        objects = " ".join(f"{name}={printable(given[name])}" for name in _LOGGED if given.get(name))
        return f"{printable(self.request.command) or '-'} {objects}".rstrip()

    def log(self, response: webob.Response) -> None:
        """Write the line."""
        who = f"{self.caller.account.name}/{self.caller.user.username}" if self.caller else "-"
        ACCESS.info(
            "%s %s %s -> %d in %.1f ms%s",
            printable(self.http.environ.get("REMOTE_ADDR") or "-"),
            printable(who),
            self.what(),
            response.status_int,
            self.seconds * 1000,
            f": {response.headers['X-Description']}" if "X-Description" in response.headers else "",
        )
