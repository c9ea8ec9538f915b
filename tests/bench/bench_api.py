# SPDX-License-Identifier: Apache-2.0
"""Speed of the API, beside what the bare database does in the same run: ``python -m tests.bench.bench_api``.

One server with its embedded database and 1000 groups in one account. Clients keep their connections; each request is
signed. "ms" is the median seen by one client alone; "/s" is what four clients get together.
"""

import http.client
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode
from uuid import uuid4

from cs import CloudStack

from sgctl.dbserver import DatabaseServer
from sgctl.model import Job
from sgctl.signing import signature
from sgctl.store import Database, Insert
from tests.functional.api_servers import Server, account

GROUPS = 1000
CLIENTS = 4
SECONDS = 3.0


class Caller:
    """A client that costs little."""

    def __init__(self, port: int, user: CloudStack) -> None:
        self._user = user
        self._connection = http.client.HTTPConnection("127.0.0.1", port)

    def call(self, command: str, **params: str) -> None:
        signed = {"command": command, "response": "json", "apiKey": self._user.key, **params}
        signed["signature"] = signature(signed, self._user.secret)
        self._connection.request("GET", f"/client/api?{urlencode(signed)}")
        response = self._connection.getresponse()
        body = response.read()
        assert response.status == 200, json.loads(body)


def alone(action: Callable[[], None]) -> float:
    """The median time of an action, in milliseconds."""
    times = []
    end = time.perf_counter() + SECONDS
    while (start := time.perf_counter()) < end:
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def together(actions: list[Callable[[], None]]) -> float:
    """How many actions per second several threads get done."""
    counts = [0] * len(actions)
    end = time.perf_counter() + SECONDS

    def work(number: int) -> None:
        while time.perf_counter() < end:
            actions[number]()
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / SECONDS


def show(name: str, actions: list[Callable[[], None]]) -> None:
    print(f"{name:<44} {alone(actions[0]):8.2f} ms {together(actions):8.0f} /s", flush=True)


def bench_database(directory: Path) -> None:
    """One durable transaction with one row, as small as the API's smallest."""
    directory.mkdir()
    with DatabaseServer(directory) as server, Database(server.remote) as database:
        assert database.wait_insync(5)

        def write() -> None:
            database.write([Insert(Job(id=str(uuid4()), account="a", user="u", command="c"))])

        show("bare database: durable transaction", [write] * CLIENTS)


def bench_api(directory: Path) -> None:
    with Server(directory) as server:
        user = account(server.admin(), server.endpoint)
        callers = [Caller(server.port, user) for _ in range(CLIENTS)]
        for number in range(GROUPS):
            callers[0].call("createSecurityGroup", name=f"g{number}")

        def each(command: str, params: Callable[[], dict[str, str]]) -> list[Callable[[], None]]:
            return [lambda caller=caller: caller.call(command, **params()) for caller in callers]  # type: ignore[misc]

        show("listSecurityGroups of one name", each("listSecurityGroups", lambda: {"securitygroupname": "g500"}))
        show("listSecurityGroups, page of 20", each("listSecurityGroups", lambda: {"page": "2", "pagesize": "20"}))
        show("listSecurityGroups, 500 of 1000", each("listSecurityGroups", dict))
        show("createSecurityGroup", each("createSecurityGroup", lambda: {"name": str(uuid4())}))
        numbers = iter(range(10**6))
        show("authorizeSecurityGroupIngress", each("authorizeSecurityGroupIngress", lambda: _rule(next(numbers))))


def _rule(number: int) -> dict[str, str]:
    port = str(number // GROUPS + 1)
    group = f"g{number % GROUPS}"
    return {
        "securitygroupname": group,
        "protocol": "tcp",
        "startport": port,
        "endport": port,
        "cidrlist": "0.0.0.0/0",
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="sgctl-bench-") as temporary:
        bench_database(Path(temporary) / "database")
        bench_api(Path(temporary) / "api")
