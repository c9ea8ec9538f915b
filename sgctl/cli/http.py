# SPDX-License-Identifier: Apache-2.0
"""One HTTP request, its failures told as sentences; used for the API and for the admin endpoints."""

import http.client
import json
import socket
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from sgctl.cli.errors import CliError, Unreachable


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body of any answer, also of an error."""

    url: str
    status: int
    body: bytes

    def object(self) -> dict[str, Any]:
        """The body as a JSON object; CliError if it is anything else."""
        try:
            value = json.loads(self.body)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise CliError(f"{shown(self.url)} answered {self.status} with something that is not a JSON object")
        return value


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without its parameters: better to say so."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """Never."""


def shown(url: str) -> str:
    """`url` for messages: no query, no password."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def tls_context(verify: str) -> ssl.SSLContext:
    """TLS as `verify` wants it: "true", "false" or a file of trusted certificates."""
    if verify.lower() in ("false", "no", "0"):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        return ssl.create_default_context(cafile=None if verify.lower() in ("true", "yes", "1") else verify)
    except (OSError, ssl.SSLError) as error:
        raise CliError(f"verify = {verify}: cannot read trusted certificates from it") from error


def request(url: str, body: bytes | None = None, *, timeout: float, verify: str = "true") -> Answer:
    """GET `url`, or POST `body` (a form) to it. Any HTTP status is an answer; Unreachable if there is none."""
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if (urlsplit(url).hostname or "").startswith(("127.", "localhost", "::1")):
        handlers.append(urllib.request.ProxyHandler({}))  # a proxy has another loopback
    if url.startswith("https:"):
        handlers.append(urllib.request.HTTPSHandler(context=tls_context(verify)))
    opener = urllib.request.build_opener(*handlers)
    message = urllib.request.Request(url, data=body, headers={"User-Agent": "sgctl", "Accept": "application/json"})
    try:
        try:
            response = opener.open(message, timeout=timeout)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            return Answer(url, response.status, response.read())
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"cannot reach {shown(url)}: {_reason(error, timeout)}") from error


def _reason(error: Exception, timeout: float) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused: is sgctl-manager running there?"
    if isinstance(cause, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(cause, socket.gaierror):
        return "its name is not known"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed ({cause.reason or cause}); `verify` in the configuration names trusted certificates"
    if isinstance(cause, http.client.RemoteDisconnected | http.client.IncompleteRead | ConnectionResetError):
        return "the connection was closed before the answer was complete"
    if isinstance(cause, http.client.HTTPException):
        return "what answers there does not speak HTTP"
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
