# SPDX-License-Identifier: Apache-2.0
"""The HTTP server: eventlet's, with limits on what a client can take of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import eventlet
import eventlet.wsgi

from sgctl.errors import SgctlError

LOG = logging.getLogger(__name__)

MAX_CONNECTIONS = 500
IDLE_SECONDS = 60
MAX_LINE = 1 << 17
_BACKLOG = 128


def listen(host: str, port: int) -> Any:
    """A listening socket; SgctlError if the address cannot be had."""
    try:
        family = eventlet.green.socket.AF_INET6 if ":" in host else eventlet.green.socket.AF_INET
        return eventlet.listen((host, port), family=family, backlog=_BACKLOG, reuse_port=False)
    except OSError as error:
        raise SgctlError(f"the API cannot listen on {host} port {port}: {error.strerror or error}") from error


def serve(sock: Any, application: Callable[..., Iterable[bytes]]) -> None:
    """Answer requests until the green thread is killed. The application writes its own access log."""
    eventlet.wsgi.server(
        sock,
        application,
        custom_pool=eventlet.GreenPool(MAX_CONNECTIONS),
        socket_timeout=IDLE_SECONDS,
        url_length_limit=MAX_LINE,
        log=logging.getLogger(f"{__name__}.http"),
        log_output=False,
        debug=False,
    )


def endpoint(host: str, port: int, path: str) -> str:
    """The URL by which a client on this machine reaches a server that listens there."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}{path}" if ":" in reachable else f"http://{reachable}:{port}{path}"
