# SPDX-License-Identifier: Apache-2.0
"""A small HTTP server that answers like CloudStack's API and like an agent's admin endpoint, and runs of `sgctl`."""

import base64
import hashlib
import hmac
import io
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from sgctl.cli.main import run

KEY, SECRET = "APIKEY", "S3cret"
SGCTL = str(Path(sys.executable).with_name("sgctl"))

Params = dict[str, str]
Answer = tuple[int, dict[str, Any]]


def param(name: str, kind: str = "string", *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "type": kind, "description": f"the {name}", "length": 255, "required": required}


def api(name: str, *params: dict[str, Any], isasync: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "description": f"What {name} does. More of it.",
        "isasync": isasync,
        "related": "",
        "params": list(params),
        "response": [],
    }


AUTHORIZE_PARAMS = [
    param(name)
    for name in ("securitygroupname", "account", "protocol", "startport", "endport", "cidrlist", "icmptype", "icmpcode")
]
APIS = [
    api("listApis", param("name")),
    api("listZones", param("id", "uuid"), param("available", "boolean"), param("name")),
    api("listSecurityGroups", param("securitygroupname"), param("page"), param("pagesize")),
    api("listVirtualMachines", param("id", "uuid")),
    api("createSecurityGroup", param("name", required=True), param("description")),
    api("deleteSecurityGroup", param("id", "uuid")),
    api("authorizeSecurityGroupIngress", *AUTHORIZE_PARAMS, param("usersecuritygrouplist", "map"), isasync=True),
    api("queryAsyncJobResult", param("jobid", "uuid", required=True)),
]


@dataclass
class Api:
    """What the server answers, by command or admin path, and what it was asked."""

    answers: dict[str, Callable[[Params], Answer]] = field(default_factory=dict)
    calls: list[tuple[str, Params]] = field(default_factory=list)
    url: str = ""
    cache: str = ""

    def answer(self, name: str, content: dict[str, Any], *, status: int = 200) -> None:
        self.answers[name] = lambda _: (status, content)

    def job(self, command: str, *results: dict[str, Any]) -> None:
        """`command` answers with a job, of which each question gets the next of `results`, the last for ever."""
        left = list(results)
        self.answer(command, {"jobid": "job-1"})
        self.answers["queryAsyncJobResult"] = lambda _: (200, left.pop(0) if len(left) > 1 else left[0])

    def asked(self, command: str) -> list[Params]:
        return [params for name, params in self.calls if name == command]

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a run against this server."""
        return {
            "CLOUDSTACK_ENDPOINT": f"{self.url}/client/api",
            "CLOUDSTACK_KEY": KEY,
            "CLOUDSTACK_SECRET": SECRET,
            "SGCTL_ADMIN": self.url,
            "XDG_CACHE_HOME": self.cache,
            "HOME": self.cache,
            "PATH": os.environ["PATH"],
        }

    def run(self, *argv: str, **environ: str) -> "Run":
        """One run of `sgctl` with this API, not on a terminal."""
        return run_sgctl(list(argv), {**self.environ, **environ})


@dataclass(frozen=True)
class Run:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


def run_sgctl(argv: list[str], environ: dict[str, str]) -> Run:
    out, err = io.StringIO(), io.StringIO()
    status = run(argv, environ, out, err)
    return Run(status, out.getvalue(), err.getvalue())


def _signature(params: Params) -> str:
    """Written out here once more: the client must not be judged by its own code."""
    pairs = sorted((name, value) for name, value in params.items() if name != "signature")
    text = "&".join(f"{name}={quote(value, safe='*').replace('~', '%7E')}" for name, value in pairs).lower()
    return base64.b64encode(hmac.digest(SECRET.encode(), text.encode(), hashlib.sha1)).decode()


class _Handler(BaseHTTPRequestHandler):
    api: Api

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path != "/client/api":
            self.send_error(404)
            return
        params = dict(parse_qsl(body, keep_blank_values=True, strict_parsing=True))
        command = params["command"]
        signed = {"command", "apiKey", "response", "signatureVersion", "expires", "signature"}
        self.api.calls.append((command, {name: value for name, value in params.items() if name not in signed}))
        status, content = self._answer(command, params)
        failure = {"uuidList": [], "errorcode": status, "cserrorcode": 9999, **content}
        self._send(status, {f"{command.lower()}response": content if status == 200 else failure})

    def _answer(self, command: str, params: Params) -> Answer:
        if params.get("apiKey") != KEY or params.get("signature") != _signature(params):
            return 401, {"errortext": "unable to verify user credentials and/or request signature"}
        if command not in self.api.answers:
            return 401, {"errortext": f"The given command {command} does not exist"}
        return self.api.answers[command](params)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        params = dict(parse_qsl(url.query, keep_blank_values=True))
        self.api.calls.append((url.path, params))
        known = self.api.answers.get(url.path)
        self._send(*(known(params) if known else (404, {"error": f"nothing at {url.path}"})))

    def _send(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@contextmanager
def serving(directory: Path) -> Iterator[Api]:
    """An API with the commands of APIS, of which only listApis answers yet; `directory` for its clients' caches."""
    served = Api(cache=str(directory))
    served.answer("listApis", {"count": len(APIS), "api": APIS})
    handler = type("Handler", (_Handler,), {"api": served})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
