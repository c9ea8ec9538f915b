# SPDX-License-Identifier: Apache-2.0
"""The processes that stand for hypervisors, and the measuring of what a change costs the servers and them."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeAlias

from sgctl.tls import Tls
from tests.bench.usage import cpu

PAUSE, PATIENCE = 0.3, 120.0
_QUIET = 0.05
"""A share of a processor that is next to none."""
News: TypeAlias = "SimpleQueue[tuple[str, float]]"
Figures: TypeAlias = dict[str, Any]


class Fleet:
    """The processes that hold agents and monitors; `news` gets (host, time) for each plan and each update of theirs."""

    def __init__(self, stack: ExitStack, relays: Sequence[str], tls: Tls | None = None) -> None:
        self._stack, self._relays, self._tls = stack, relays, tls
        self.pids: dict[str, int] = {}
        self.news: News = SimpleQueue()
        self.ready: list[float] = []

    def start(self, module: str, number: int, *arguments: str) -> None:
        """Start one process, on the relays in turn, and wait until it is ready."""
        remote = self._relays[number % len(self._relays)]
        command = [sys.executable, "-W", "ignore", "-m", f"tests.bench.{module}", remote, *arguments]
        command += [self._tls.key, self._tls.cert, self._tls.ca] if self._tls else []
        process = self._stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        self._stack.callback(process.kill)
        assert process.stdout is not None
        word = figure = ""
        while word != "ready":
            word, figure, *_ = process.stdout.readline().split()
        self.pids[f"{module} {number}"] = process.pid
        self.ready.append(float(figure))
        Thread(target=self._follow, args=(process.stdout,), daemon=True).start()

    def _follow(self, lines: Any) -> None:
        for line in lines:
            host, at, *_ = line.split()
            self.news.put((host, float(at)))

    def wait(self, hosts: Iterable[str], since: float) -> float:
        """Until each of these has told of something; seconds that the last took."""
        return max(self.each(hosts, since).values())

    def each(self, hosts: Iterable[str], since: float) -> dict[str, float]:
        """Until each of these has told of something; seconds that it took them."""
        missing, found = set(hosts), dict[str, float]()
        while missing:
            try:
                host, at = self.news.get(timeout=PATIENCE)
            except Empty:
                raise TimeoutError(f"nothing from {sorted(missing)[:5]}, {len(missing)} in all") from None
            if at >= since and host in missing:
                missing.discard(host)
                found[host] = at - since
        return found


class Meter:
    """What changes cost the `servers` (their processes by name) and the agents of a fleet."""

    def __init__(self, fleet: Fleet, servers: Mapping[str, int], repeat: int) -> None:
        self._fleet, self._servers, self._repeat = fleet, servers, repeat

    def measure(self, change: Callable[[], object], hosts: set[str], *, pause: float = PAUSE) -> Figures:
        """Make a change again and again: seconds until the last of `hosts` has it, processor time per change."""
        idle, before = self._idle(), self.used()
        started, took = time.monotonic(), []
        for _ in range(self._repeat):
            since = time.monotonic()
            change()
            took.append(self._fleet.wait(hosts, since) if hosts else time.monotonic() - since)
            time.sleep(pause)
        passed, after = time.monotonic() - started, self.used()
        each = {name: (after[name] - before[name] - idle[name] * passed) / self._repeat for name in before}
        found: Figures = {"interested": len(hosts)} if hosts else {}
        found |= {"ms_median": ms(statistics.median(took)), "ms_worst": ms(max(took))}
        return found | {"cpu_ms_per_change": {name: round(value * 1000, 3) for name, value in each.items()}}

    def settle(self) -> None:
        """Wait until the servers have nothing left to do."""
        while max(self._idle().values()) > _QUIET:
            pass

    def used(self) -> dict[str, float]:
        """Seconds of processor time so far, by server, and of all agents together."""
        agents = {name: pid for name, pid in self._fleet.pids.items() if name.startswith("scale_agents")}
        return {**cpu(self._servers), **({"agents": sum(cpu(agents).values())} if agents else {})}

    def _idle(self) -> dict[str, float]:
        """Shares of a processor while nothing happens."""
        before, started = self.used(), time.monotonic()
        time.sleep(2.0)
        passed = time.monotonic() - started
        return {name: (value - before[name]) / passed for name, value in self.used().items()}


def ratios(ours: Figures, theirs: Figures) -> Figures:
    """By what factor the other one takes longer, and costs its servers more."""
    found: Figures = {}
    for name, mine in ours.items():
        if "cpu_ms_per_change" not in mine:
            continue
        its, cost, its_cost = theirs[name], mine["cpu_ms_per_change"], theirs[name]["cpu_ms_per_change"]
        found[name] = {"time": round(its["ms_median"] / mine["ms_median"], 2)}
        found[name] |= {f"cpu of {one}": round(its_cost[one] / max(cost[one], 0.01), 1) for one in cost}
    return found


def ms(seconds: float) -> float:
    """Milliseconds, to the tenth."""
    return round(seconds * 1000, 1)
