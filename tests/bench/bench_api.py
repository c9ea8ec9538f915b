# SPDX-License-Identifier: Apache-2.0
"""Speed of the API, beside what the bare database does in the same run: ``python -m tests.bench.bench_api``.

One server with its embedded database and 1000 groups in one account. Clients keep their connections; each request is
signed. "ms" is the median seen by one client alone; "/s" is what four clients get together, also as a ratio to the
database's. The load average of the machine is said before and after: other work takes its share of both.
"""

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from sgctl.dbserver import DatabaseServer
from sgctl.model import Job
from sgctl.store import Database, Insert
from tests.functional.api_servers import Caller, Server, account

GROUPS = 1000
CLIENTS = 4
SECONDS = 3.0


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


def show(name: str, actions: list[Callable[[], None]], *, beside: float | None = None) -> float:
    """Measure and print; the actions per second."""
    median, rate = alone(actions[0]), together(actions)
    print(f"{name:<44} {median:8.2f} ms {rate:8.0f} /s {rate / (beside or rate):8.2f}", flush=True)
    return rate


def bench_database(directory: Path) -> float:
    """One durable transaction with one row, as small as the API's smallest."""
    directory.mkdir()
    with DatabaseServer(directory) as server, Database(server.remote) as database:
        assert database.wait_insync(30)

        def write() -> None:
            database.write([Insert(Job(id=str(uuid4()), account="a", user="u", command="c"))])

        return show("bare database: durable transaction", [write] * CLIENTS)


def bench_api(directory: Path, database: float) -> None:
    with Server(directory) as server:
        user = account(server.admin(), server.endpoint)
        callers = [Caller(server.port, user) for _ in range(CLIENTS)]
        for number in range(GROUPS):
            callers[0].ok("createSecurityGroup", name=f"g{number}")

        def each(command: str, params: Callable[[], dict[str, str]]) -> list[Callable[[], None]]:
            return [lambda caller=caller: caller.ok(command, **params()) for caller in callers]  # type: ignore[misc]

        def measure(name: str, command: str, params: Callable[[], dict[str, str]]) -> None:
            show(name, each(command, params), beside=database)

        measure("listSecurityGroups of one name", "listSecurityGroups", lambda: {"securitygroupname": "g500"})
        measure("listSecurityGroups, page of 20", "listSecurityGroups", lambda: {"page": "2", "pagesize": "20"})
        measure("listSecurityGroups, 500 of 1000", "listSecurityGroups", dict)
        measure("createSecurityGroup", "createSecurityGroup", lambda: {"name": str(uuid4())})
        numbers = iter(range(10**6))
        measure("authorizeSecurityGroupIngress", "authorizeSecurityGroupIngress", lambda: _rule(next(numbers)))


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
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        bench_api(Path(temporary) / "api", bench_database(Path(temporary) / "database"))
        print(f"load average {os.getloadavg()[0]:.1f}")
