# SPDX-License-Identifier: Apache-2.0
"""The HTTP server: eventlet's, with limits on what a client can take of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import eventlet
import eventlet.wsgi

from sgctl.errors import SgctlError
from sgctl.listener import Listener

LOG = logging.getLogger(__name__)

#: Fewer than the 1024 open files that a process usually may have.
MAX_CONNECTIONS = 500
#: Seconds: without a byte from a client; between two requests of a connection; for a whole request, however slow.
SILENCE, IDLE, REQUEST = 20, 10, 60
MAX_LINE = 1 << 17
_BACKLOG = 128


def listen(host: str, port: int, *, cert: str = "", key: str = "") -> Any:
    """A listening socket, with TLS if there is a certificate; SgctlError if the address or the files cannot be had."""
    try:
        family = eventlet.green.socket.AF_INET6 if ":" in host else eventlet.green.socket.AF_INET
        sock = eventlet.listen((host, port), family=family, backlog=_BACKLOG, reuse_port=False)
    except OSError as error:
        raise SgctlError(f"the API cannot listen on {host} port {port}: {error.strerror or error}") from error
    if not cert:
        return sock
    try:
        return eventlet.wrap_ssl(sock, certfile=cert, keyfile=key or cert, server_side=True)
    except OSError as error:
        sock.close()
        raise SgctlError(f"--api-cert {cert} with its key cannot be used: {error}") from error


class _Protocol(eventlet.wsgi.HttpProtocol):  # type: ignore[misc]
    """HTTP for clients that may be slow, hang up, or not even speak it."""

    def handle_one_request(self) -> None:
        try:
            with eventlet.Timeout(REQUEST, False):
                super().handle_one_request()
                return
        except OSError as error:
            LOG.debug("%s hung up: %s", self.client_address, error)
        self.close_connection = True


def serve(sock: Any, application: Callable[..., Iterable[bytes]]) -> None:
    """Answer requests until the green thread is killed. The application writes its own access log."""
    eventlet.wsgi.server(
        Listener(sock),
        application,
        protocol=_Protocol,
        custom_pool=eventlet.GreenPool(MAX_CONNECTIONS),
        socket_timeout=SILENCE,
        keepalive=IDLE,
        url_length_limit=MAX_LINE,
        log=logging.getLogger(f"{__name__}.http"),
        log_output=False,
        debug=False,
    )


def endpoint(host: str, port: int, path: str, *, tls: bool) -> str:
    """The URL by which a client on this machine reaches a server that listens there."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    shown = f"[{reachable}]" if ":" in reachable else reachable
    return f"{'https' if tls else 'http'}://{shown}:{port}{path}"
