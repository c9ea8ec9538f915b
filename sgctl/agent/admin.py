# SPDX-License-Identifier: Apache-2.0
"""The agent's HTTP endpoint on loopback: /admin/*, health and metrics. Answers are JSON, errors too."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

import eventlet
from eventlet import wsgi

from flows.learned import LEARNED, learned
from flows.meters import Bound
from flows.tables import BY_NAME, TABLES
from sgctl.agent.applied import Applied
from sgctl.agent.costs import costs, largest
from sgctl.agent.gather import Gatherer
from sgctl.agent.metrics import Metrics
from sgctl.agent.tracing import QueryError, trace
from sgctl.agent.views import FlowViews, Json, drops, drops_by_bounds, metered, port_view
from sgctl.agent.writer import Writer
from sgctl.errors import SgctlError
from sgctl.listener import Listener
from sgctl.openflow.errors import SwitchError
from sgctl.openflow.replies import Installed
from sgctl.openflow.switch import Switch
from sgctl.services import Services

LOG = logging.getLogger(__name__)
ADDRESS = "127.0.0.1"
REQUEST_TIMEOUT = 10.0
"""Seconds that a client has for its request."""
MOST_CLIENTS = 32
"""Connections that are served at once."""
JSON, TEXT = "application/json", "text/plain; version=0.0.4; charset=utf-8"
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}

Query: TypeAlias = Mapping[str, str]


class HttpError(SgctlError):
    """An answer other than 200."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class AdminServer:
    """Serves what the writer has in force."""

    def __init__(self, services: Services, writer: Writer, gatherer: Gatherer, metrics: Metrics) -> None:
        self._settings, self._health = services.settings, services.health
        self._writer, self._gatherer, self._metrics = writer, gatherer, metrics
        self._socket: Any = None
        self._routes: dict[str, Callable[[Query], Json]] = {
            "/admin/ports": self._ports,
            "/admin/flows": self._flows,
            "/admin/trace": self._trace,
            "/admin/drops": self._drops,
            "/admin/costs": lambda query: self._named(**costs(self._applied())),
            "/healthz": lambda query: {"alive": True},
        }

    def listen(self) -> None:
        """Take the port; raises SgctlError."""
        port = self._settings.admin_port
        try:
            self._socket = Listener(eventlet.listen((ADDRESS, port), reuse_port=False))
        except OSError as error:
            raise SgctlError(f"cannot listen on {ADDRESS} port {port} (--admin-port): {error.strerror}") from error

    def serve(self) -> None:
        """Answer requests until the process ends."""
        wsgi.server(
            self._socket, self._answer, log=LOG, log_output=False, debug=False, max_size=MOST_CLIENTS,
            socket_timeout=REQUEST_TIMEOUT, keepalive=False,
        )  # fmt: skip

    def _answer(self, environ: Mapping[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        status, kind, body = self._respond(environ)
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        start_response(f"{status} {REASONS[status]}", headers)
        return [body]

    def _respond(self, environ: Mapping[str, Any]) -> tuple[int, str, bytes]:
        path = environ.get("PATH_INFO", "/")
        try:
            if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
                raise HttpError(405, "only GET is possible")
            if path == "/metrics":
                self._observe()
                return 200, TEXT, self._metrics.text() + self._health.text()
            query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
            status, found = self._find(path, query)
        except QueryError as error:
            status, found = 400, {"error": str(error)}
        except HttpError as error:
            status, found = error.status, {"error": str(error)}
        except SwitchError as error:
            status, found = 503, {"error": str(error)}
        return status, JSON, json.dumps(found).encode()

    def _find(self, path: str, query: Query) -> tuple[int, Json]:
        if path == "/readyz":
            ready = self._readiness()
            return (200 if ready["ready"] else 503), ready
        if path.startswith("/admin/explain/"):
            return 200, self._explain(path.rpartition("/")[2])
        if path in self._routes:
            return 200, self._routes[path](query)
        raise HttpError(404, f"there is nothing at {path}")

    def _readiness(self) -> Json:
        parts = {
            "switch": self._writer.switch is not None,
            "database": self._gatherer.insync,
            "insync": self._writer.settled,
            **self._health.parts(),
        }
        return {"ready": all(parts.values()), **parts}

    def _observe(self) -> None:
        """Bring up to date what is measured only when somebody asks."""
        self._metrics.measure_lag(insync=self._gatherer.insync)
        for part, value in self._readiness().items():
            self._metrics.insync.labels(part).set(value)
        applied, switch = self._writer.applied, self._writer.switch
        if applied is not None and switch is not None:
            self._metrics.count_costs(largest(applied))
            self._metrics.count_drops(drops(applied.desired, switch.flows()))
            names = {f"{kind}/{port.nic}": port.name for port in applied.decision.ports for kind in ("port", "standby")}
            self._metrics.count_metered((names.get(one[0], one[0]), *one[1:]) for one in self._metered(switch))

    def _applied(self) -> Applied:
        if self._writer.applied is None:
            raise HttpError(503, "the agent has not been in sync yet; see /readyz")
        return self._writer.applied

    def _switch(self) -> Switch:
        if self._writer.switch is None:
            raise HttpError(503, "the switch is not connected")
        return self._writer.switch

    def _named(self, **more: Any) -> Json:
        return {"host": self._settings.host, "bridge": self._settings.bridge, **more}

    def _ports(self, query: Query) -> Json:
        return self._named(ports=[port_view(port) for port in self._applied().decision.ports])

    def _flows(self, query: Query) -> Json:
        table = _table(query.get("table", ""))
        applied, switch = self._applied(), self._switch()
        views = FlowViews(applied)
        seen = [one for one in switch.flows() if table in (None, one.table)]
        found = views.ours(seen)
        if len(found) < len(seen):
            found += views.others(switch.dump_text(table))
        found.sort(key=lambda view: (view["table_id"], -view["priority"], view["match"]))
        desired = sum(table in (None, flow.table) for flow in applied.desired.values())
        return self._named(desired=desired, flows=found)

    def _explain(self, text: str) -> Json:
        applied = self._applied()
        try:
            cookie = int(text, 16)
        except ValueError:
            raise HttpError(400, f"{text!r} is not a cookie such as 0x5c00…") from None
        if cookie not in applied.desired:
            whose = "is learned from a packet" if learned(cookie) else "is somebody else's, or about to go"
            raise HttpError(404, f"no desired flow has the cookie {cookie:#x}: a flow with it {whose}")
        seen: Installed | None = self._switch().installed().get(cookie)
        return FlowViews(applied).explain(applied.desired[cookie], seen)

    def _trace(self, query: Query) -> Json:
        learned = self._switch().entries(cookie=LEARNED, mask=LEARNED)
        return {"host": self._settings.host, **trace(self._applied(), query, learned)}

    def _drops(self, query: Query) -> Json:
        switch = self._switch()
        found = [*drops(self._applied().desired, switch.flows()), *drops_by_bounds(self._metered(switch))]
        return self._named(drops=found)

    def _metered(self, switch: Switch) -> list[tuple[str, Bound, int]]:
        """What the bounds of ports have dropped."""
        meters = self._writer.meters
        return list(metered(meters, switch.metered())) if meters else []


def _table(name: str) -> int | None:
    """A table by name or number; None for all."""
    if not name:
        return None
    known = BY_NAME.get(name.upper())
    if known is not None:
        return known.id
    if name.isascii() and name.isdigit() and int(name) < 255:
        return int(name)
    raise HttpError(404, f"no table {name}; tables: {', '.join(table.name for table in TABLES)}")
