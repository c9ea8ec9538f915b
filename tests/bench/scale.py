# SPDX-License-Identifier: Apache-2.0
"""How the control plane grows with the number of hypervisors: see tests/bench/SCALE.md.

    .venv/bin/python -m tests.bench.scale [--nics 100000] [--agents 200] [--monitors 1000] [--relays 2] [--repeat 10]

Real ovsdb-servers, one of them the database, the others relays of it; behind the relays real agents without switches
(`scale_agents`), many to a process, and light monitors with the same conditions (`scale_monitors`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeAlias

from sgctl.dbserver import DatabaseServer
from sgctl.model import Account, Cloud, Group, Host, Member, Rule, member_id
from sgctl.store import Database, Insert, Interest, Update
from tests.bench.usage import cpu, peak_mib
from tests.functional import big_cloud
from tests.unit.store_rows import uid

PER_PROCESS = 50
SPREAD = big_cloud.PER_ACCOUNT // big_cloud.PER_HOST
PAUSE, PATIENCE = 0.3, 60.0
WATCHED = uid("watched")
News: TypeAlias = "SimpleQueue[tuple[str, float]]"
Figures: TypeAlias = dict[str, Any]


def write_file(path: Path, nics: int) -> None:
    """The cloud, its hosts, and a group that one rule of every account names."""
    big_cloud.write(path, nics)
    hosts = (Host(id=uid(f"host {n}"), name=f"h{n}", version="bench") for n in range(nics // big_cloud.PER_HOST))
    owner = Account(id=uid("operator"), name="operator", name_key="operator")
    shared = Group(id=WATCHED, account=owner.id, name="nagios", name_key="nagios")
    rules = (
        Rule(
            id=uid(f"watched {start}"), group=uid(f"group {start}"), direction="ingress", protocol="tcp", proto=6,
            first=12489, last=12489, peer=WATCHED, digest="y",
        )
        for start in range(0, nics, big_cloud.PER_ACCOUNT)
    )  # fmt: skip
    with path.open("ab") as file:
        file.write(big_cloud.record((Cloud(id=uid("cloud")), owner, shared, *hosts, *rules)))


class Fleet:
    """The processes that hold agents and monitors; `news` gets (host, time) for each plan of an agent."""

    def __init__(self, stack: ExitStack, relays: Sequence[DatabaseServer]) -> None:
        self._stack, self._relays = stack, relays
        self.pids: dict[str, int] = {}
        self.news: News = SimpleQueue()
        self.ready: list[float] = []

    def start(self, module: str, number: int, *arguments: str) -> None:
        """Start one process, on the relays in turn, and wait until it is ready."""
        remote = self._relays[number % len(self._relays)].remote
        command = [sys.executable, "-W", "ignore", "-m", f"tests.bench.{module}", remote, *arguments]
        process = self._stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        self._stack.callback(process.kill)
        assert process.stdout is not None
        word, figure = process.stdout.readline().split()
        assert word == "ready"
        self.pids[f"{module} {number}"] = process.pid
        self.ready.append(float(figure))
        Thread(target=self._follow, args=(process.stdout,), daemon=True).start()

    def _follow(self, lines: Any) -> None:
        for line in lines:
            host, at, *_ = line.split()
            self.news.put((host, float(at)))

    def wait(self, hosts: set[str], since: float) -> float:
        """Until each of these has made a plan; seconds that the last took."""
        last, missing = since, set(hosts)
        while missing:
            try:
                host, at = self.news.get(timeout=PATIENCE)
            except Empty:
                raise TimeoutError(f"no plan from {sorted(missing)[:5]}, {len(missing)} in all") from None
            if at >= since:
                missing.discard(host)
                last = max(last, at)
        return last - since


class Bench:
    """One cloud that runs."""

    def __init__(self, stack: ExitStack, options: argparse.Namespace) -> None:
        self._options = options
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sgscale")))
        (directory / "main").mkdir()
        write_file(directory / "main" / "sg.db", options.nics)
        main = stack.enter_context(DatabaseServer(directory / "main"))
        relays = [
            stack.enter_context(DatabaseServer(directory / f"relay{n}", relay_of=main.remote))
            for n in range(options.relays)
        ]
        self.servers = {"main": main.pid or 0, **{f"relay{n}": one.pid or 0 for n, one in enumerate(relays)}}
        interest = Interest()
        interest.watch(host="api", nics=frozenset())
        self._writer = stack.enter_context(Database(main.remote, interest=interest))
        assert self._writer.wait_insync(PATIENCE)
        started = time.monotonic()
        for relay in relays:
            _await(relay)
        self.relays_up = round(time.monotonic() - started, 1)
        self.fleet = Fleet(stack, relays)
        self._serial = iter(range(1 << 30))

    def populate(self) -> Figures:
        """Bring up everybody; seconds and memory."""
        started, used = time.monotonic(), self._used()
        agents = [f"h{n}" for n in range(self._options.agents)]
        for number, start in enumerate(range(0, len(agents), PER_PROCESS)):
            self.fleet.start("scale_agents", number, ",".join(agents[start : start + PER_PROCESS]))
        done, joined = time.monotonic(), self._used()
        relays = sum(joined[name] - used[name] for name in used if name.startswith("relay"))
        each = statistics.mean(self.fleet.ready) if self.fleet.ready else 0.0
        for number in range(self._options.relays if self._options.monitors else 0):
            count = self._options.monitors // self._options.relays
            first = self._options.agents + number * count
            self.fleet.start("scale_monitors", number, str(first), str(count), WATCHED)
        return {
            "relays_up_s": self.relays_up,
            "agents_up_s": round(done - started, 1),
            "relay_cpu_ms_per_agent": _ms(relays / len(agents)),
            "mib_per_agent": round(each, 2),
            "monitors_up_s": round(time.monotonic() - done, 1),
            "first_kb_per_monitor": round(self.fleet.ready[-1] / 1000, 1),
            "server_mib": {name: peak_mib(pid) for name, pid in self.servers.items()},
        }

    def measure(self, change: Callable[[], None], hosts: set[str], *, pause: float = PAUSE) -> Figures:
        """Make a change again and again: seconds until the last of `hosts` has its plan, processor time per change."""
        idle, before = self._idle(), self._used()
        started, took = time.monotonic(), []
        for _ in range(self._options.repeat):
            since = time.monotonic()
            change()
            took.append(self.fleet.wait(hosts, since))
            time.sleep(pause)
        passed, after = time.monotonic() - started, self._used()
        each = {name: (after[name] - before[name] - idle[name] * passed) / self._options.repeat for name in before}
        found: Figures = {"interested_agents": len(hosts)} if hosts else {}
        if hosts:
            found |= {"ms_median": _ms(statistics.median(took)), "ms_worst": _ms(max(took))}
        return found | {"cpu_ms_per_change": {name: round(value * 1000, 3) for name, value in each.items()}}

    def _used(self) -> dict[str, float]:
        """Seconds of processor time so far, by server, and of all agents together."""
        agents = {name: pid for name, pid in self.fleet.pids.items() if name.startswith("scale_agents")}
        return {**cpu(self.servers), "agents": sum(cpu(agents).values())}

    def _idle(self) -> dict[str, float]:
        """Shares of a processor while nothing happens."""
        before, started = self._used(), time.monotonic()
        time.sleep(2.0)
        passed = time.monotonic() - started
        return {name: (value - before[name]) / passed for name, value in self._used().items()}

    def local_rule(self) -> None:
        """A rule of one account's group, which concerns the hypervisors of that account."""
        port = 20000 + next(self._serial)
        rule = Rule(
            id=uid(f"port {port}"), group=uid("group 0"), direction="ingress", protocol="tcp", proto=6, first=port,
            last=port, cidr="10.0.0.0/8", digest=str(port),
        )  # fmt: skip
        self._writer.write([Insert(rule)])

    def wide_member(self) -> None:
        """A member of the group that everybody's rules name, which concerns every hypervisor."""
        address = f"10.255.0.{next(self._serial) % 250 + 1}"
        member = Member(id=member_id(WATCHED, address), group=WATCHED, nic=big_cloud.nic_id(0), address=address)
        self._writer.write([Insert(member)])

    def heartbeat(self) -> None:
        """Some hypervisors say that they are alive, one after the other."""
        for number in range(self._options.beats):
            self._writer.write([Update(Host, uid(f"host {number}"), {"seen": time.time_ns() // 1_000_000})])

    def barrier(self) -> None:
        """What `sgctl wait` begins with; agents have nothing to plan then."""
        self._writer.write([Update(Cloud, uid("cloud"), {"sequence": next(self._serial) + 1})])


def _await(relay: DatabaseServer) -> None:
    """Until a relay has the whole database."""
    interest = Interest()
    interest.watch(host="bench", nics=frozenset())
    with Database(relay.remote, interest=interest) as database:
        assert database.wait_insync(PATIENCE)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def run(options: argparse.Namespace) -> Figures:
    """All measurements."""
    with ExitStack() as stack:
        bench = Bench(stack, options)
        found: Figures = {"options": vars(options), "population": bench.populate()}
        everybody = {f"h{n}" for n in range(options.agents)}
        account = {f"h{n}" for n in range(SPREAD)}
        found["rule of one account"] = bench.measure(bench.local_rule, account)
        found["member of a group that all name"] = bench.measure(bench.wide_member, everybody)
        found[f"{options.beats} heartbeats"] = bench.measure(bench.heartbeat, set())
        found["barrier"] = bench.measure(bench.barrier, set())
        found["population"]["server_mib"] = {name: peak_mib(pid) for name, pid in bench.servers.items()}
        return found


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scale", description=__doc__)
    for name, value in {
        "nics": 100_000,
        "agents": 200,
        "monitors": 1000,
        "relays": 2,
        "repeat": 10,
        "beats": 50,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    print(json.dumps(run(parser.parse_args()), indent=1))


if __name__ == "__main__":
    main()
