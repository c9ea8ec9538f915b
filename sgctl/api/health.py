# SPDX-License-Identifier: Apache-2.0
"""How an API server is: metrics, and `/healthz`, `/readyz` and `/metrics` on loopback where no agent serves them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import eventlet
import eventlet.wsgi
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sgctl.health import Health

LOG = logging.getLogger(__name__)
ADDRESS = "127.0.0.1"
_TIMEOUT, _CLIENTS = 10.0, 32
_REASONS = {200: "200 OK", 404: "404 Not Found", 405: "405 Method Not Allowed", 503: "503 Service Unavailable"}
_JSON, _TEXT = "application/json", "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class ApiMetrics:
    """What the API has answered, and whether its database is there."""

    def __init__(self, registry: CollectorRegistry, insync: Callable[[], bool]) -> None:
        self._requests = Counter("sgctl_api_requests", "Answers of the API.", ["command", "status"], registry=registry)
        self._seconds = Histogram(
            "sgctl_api_request_seconds", "Time of the API's answers.", registry=registry, buckets=_BUCKETS
        )
        database = Gauge("sgctl_api_database_insync", "1 if the API's database is in sync.", registry=registry)
        database.set_function(lambda: float(insync()))

    def answered(self, command: str, status: int, seconds: float) -> None:
        """One answer; `command` is empty if there is no such command."""
        self._requests.labels(command, status).inc()
        self._seconds.observe(seconds)


def listen_health(port: int) -> Any:
    """The socket for `serve_health`; None if the port is 0, or another process of this machine has it."""
    if not port:
        return None
    try:
        return eventlet.listen((ADDRESS, port), reuse_port=False)
    except OSError as error:
        LOG.warning("no /readyz and no /metrics: %s port %d (--admin-port): %s", ADDRESS, port, error.strerror)
        return None


def serve_health(sock: Any, health: Health) -> None:
    """Answer until the green thread is killed."""

    def answer(environ: Mapping[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        status, kind, body = _respond(environ["REQUEST_METHOD"], environ.get("PATH_INFO", "/"), health)
        start_response(_REASONS[status], [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    eventlet.wsgi.server(
        sock, answer, log=LOG, log_output=False, debug=False, max_size=_CLIENTS, socket_timeout=_TIMEOUT,
        keepalive=False,
    )  # fmt: skip


def _respond(method: str, path: str, health: Health) -> tuple[int, str, bytes]:
    if method not in ("GET", "HEAD"):
        return 405, _JSON, _json(error="only GET is possible")
    if path == "/metrics":
        return 200, _TEXT, health.text()
    if path == "/healthz":
        return 200, _JSON, _json(alive=True)
    if path == "/readyz":
        parts = health.parts()
        ready = all(parts.values())
        return 200 if ready else 503, _JSON, _json(ready=ready, **parts)
    if path.startswith("/admin/"):
        return 404, _JSON, _json(error="no agent runs in this sgctl-manager; run sgctl on a hypervisor, where one does")
    return 404, _JSON, _json(error=f"there is nothing at {path}")


def _json(**content: object) -> bytes:
    return json.dumps(content).encode()
