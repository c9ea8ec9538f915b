# SPDX-License-Identifier: Apache-2.0
"""How the control plane grows with the number of hypervisors: see tests/bench/SCALE.md.

    .venv/bin/python -m tests.bench.scale [--nics 100000] [--agents 200] [--monitors 1000] [--relays 2] [--repeat 10]
    .venv/bin/python -m tests.bench.scale --servers both --nics 50000
    .venv/bin/python -m tests.bench.scale --peer ovn --nics 50000 --monitors 300
    .venv/bin/python -m tests.bench.scale --peer ovn-flat --nics 10000 --monitors 100

Real ovsdb-servers, one of them the database, the others relays of it; behind the relays real agents without switches
(`scale_agents`), many to a process, and light monitors with the same conditions (`scale_monitors`). With --servers
both, the same again with a cluster, TLS and roles, and the ratios. With --relays 0 all connect to the database itself.
With --peer, light monitors only, behind one relay, first of sgctl's database and then of OVN's, and the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from sgctl.db.talk import Talk
from sgctl.errors import Unavailable
from sgctl.model import Address, Cloud, Host, Member, Nic, Row, Rule, Vm, member_id
from sgctl.store import Database, Insert, Interest, Update
from sgctl.store.plugged import look_up
from tests.bench import scale_ovn, scale_servers
from tests.bench.scale_cloud import SPREAD, WATCHED
from tests.bench.scale_fleet import PATIENCE, Figures, Fleet, Meter, ms, ratios
from tests.bench.scale_servers import VISITED
from tests.bench.usage import cpu, peak_mib, resident_mib
from tests.functional import big_cloud
from tests.functional.vswitch_sandbox import eventually
from tests.unit.store_rows import uid

PER_PROCESS = 50


class Bench:
    """One cloud that runs."""

    def __init__(self, stack: ExitStack, options: argparse.Namespace) -> None:
        self._options = options
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sgscale")))
        started = time.monotonic()
        self.servers = scale_servers.start(stack, directory, options)
        interest = Interest()
        interest.watch(host="api", nics=frozenset())
        self._writer = stack.enter_context(Database(self.servers.database, interest=interest, leader_only=True))
        assert self._writer.wait_insync(PATIENCE)
        self._visited = Interest()
        self._visited.watch(host=VISITED, nics=frozenset())
        entrances = list(self.servers.entrances.values())
        self._agent = stack.enter_context(Database(entrances[0], interest=self._visited))
        for remote in entrances:
            _await(remote)
        assert self._agent.wait_insync(PATIENCE)
        self.up = round(time.monotonic() - started, 1)
        self._agent.write([Insert(Host(id=uid(VISITED), name=VISITED, version="bench"))])
        self.fleet = Fleet(stack, entrances, self.servers.tls)
        self.meter = self._meter()
        self._serial = iter(range(1 << 30))
        self._plugged: list[str] = []
        self._monitors = 0

    def _meter(self) -> Meter:
        return Meter(self.fleet, self.servers.pids(), self._options.repeat)

    def populate(self) -> Figures:
        """Bring up everybody; seconds and memory."""
        started, used = time.monotonic(), self.meter.used()
        agents = [f"h{n}" for n in range(self._options.agents)]
        entrances = len(self.servers.entrances)
        for number, start in enumerate(range(0, len(agents), PER_PROCESS)):
            self.fleet.start("scale_agents", number, ",".join(agents[start : start + PER_PROCESS]))
        done, joined, resident = time.monotonic(), self.meter.used(), self.resident()
        cost = sum(joined[name] - used[name] for name in self.servers.entrances)
        each = statistics.mean(self.fleet.ready) if self.fleet.ready else 0.0
        count = self._options.monitors // entrances
        self._monitors = count * entrances
        for number in range(entrances if count else 0):
            first = self._options.agents + number * count
            self.fleet.start("scale_monitors", number, "sgctl", str(first), str(count))
        return {
            "servers_up_s": self.up,
            "agents_up_s": round(done - started, 1),
            "server_cpu_ms_per_agent": ms(cost / len(agents)) if agents else None,
            "mib_per_agent": round(each, 2),
            "monitors_up_s": round(time.monotonic() - done, 1),
            "first_kb_per_monitor": round(self.fleet.ready[-1] / 1000, 1),
            "server_mib": self.resident(),
            "server_kib_per_monitor": {
                name: round((mib - resident[name]) * 1024 / max(count, 1), 1) for name, mib in self.resident().items()
            },
        }

    def resident(self) -> dict[str, float]:
        """MiB of memory of each server."""
        return {name: resident_mib(pid) for name, pid in self.servers.pids().items()}

    def local_rule(self) -> None:
        """A rule of one account's group, which concerns the hypervisors of that account."""
        port = 20000 + next(self._serial)
        rule = Rule(
            id=uid(f"port {port}"), group=uid("group 0"), direction="ingress", protocol="tcp", proto=6, first=port,
            last=port, cidr="10.0.0.0/8", digest=str(port),
        )  # fmt: skip
        self._writer.write([Insert(rule)])

    def local_member(self) -> None:
        """A member of one account's group, which its own rule names."""
        self._add_member(uid("group 0"), f"10.254.0.{next(self._serial) % 250 + 1}")

    def wide_member(self) -> None:
        """A member of the group that everybody's rules name, which concerns every hypervisor."""
        self._add_member(WATCHED, f"10.255.0.{next(self._serial) % 250 + 1}")

    def _add_member(self, group: str, address: str) -> None:
        member = Member(id=member_id(group, address), group=group, nic=big_cloud.nic_id(0), address=address)
        self._writer.write([Insert(member)])

    def binding(self) -> None:
        """What an agent writes when a NIC's port is open, or closed."""
        self._writer.write([Update(Nic, big_cloud.nic_id(0), {"reason": f"turn {next(self._serial)}"})])

    def heartbeat(self) -> None:
        """Some hypervisors say that they are alive, one after the other."""
        for number in range(self._options.beats):
            self._writer.write([Update(Host, uid(f"host {number}"), {"seen": time.time_ns() // 1_000_000})])

    def own_heartbeat(self) -> None:
        """An agent says some times that it is alive, by its own connection."""
        for _ in range(self._options.beats):
            self._agent.write([Update(Host, uid(VISITED), {"seen": time.time_ns() // 1_000_000})])

    def barrier(self) -> None:
        """What `sgctl wait` begins with; agents have nothing to plan then."""
        sequence = next(self._serial) + 1
        self._writer.write([Update(Cloud, uid("cloud"), {"sequence": sequence, "asked": sequence})])

    def barrier_for_one(self) -> None:
        """The same for the hypervisors that one account's group concerns; and their answers."""
        sequence = next(self._serial) + 1
        asked = [Update(Host, uid(f"host {number}"), {"asked": sequence}) for number in range(SPREAD)]
        self._writer.write([Update(Cloud, uid("cloud"), {"sequence": sequence}), *asked])
        for number in range(SPREAD):
            self._writer.write([Update(Host, uid(f"host {number}"), {"applied": sequence})])

    def arrival(self) -> None:
        """A VM of an account that has others there is plugged at a hypervisor, and bound."""
        number = next(self._serial)
        rows = _newcomer(number)
        self._writer.write([Insert(row) for row in rows])
        nic = rows[1].id
        with Talk(self._agent.remotes) as talk:
            eventually(lambda: talk.transact(look_up([nic]))[0]["rows"], PATIENCE)
        self._plugged.append(nic)
        self._visited.watch(host=VISITED, nics=frozenset(self._plugged))
        assert self._agent.wait_insync(PATIENCE) and self._agent.replica.get(Nic, nic)
        self._agent.write([Update(Nic, nic, {"host": VISITED, "state": "up"})])

    def comeback(self) -> None:
        """The connection of an agent is lost, and made again."""
        agent = self._agent
        agent._idl.force_reconnect()
        agent._alarm.ring()
        while agent.replica.insync:
            time.sleep(0.001)
        assert agent.wait_insync(PATIENCE)

    def herd(self) -> Figures:
        """One server is killed, and all of its clients come to its successor.

        Seconds until all agents have what was written meanwhile, the last of all clients is back, and all is quiet.
        """
        name = next(iter(self.servers.entrances))
        killed = time.monotonic()
        os.kill(self.servers.pids()[name], signal.SIGKILL)
        eventually(self._written, PATIENCE)
        written = time.monotonic() - killed
        agents = self._options.agents
        took = self.fleet.each((f"h{n}" for n in range(agents + self._monitors)), killed)
        self._meter().settle()
        return {
            "written_s": round(written, 2),
            "agents_s": round(max(took[f"h{n}"] for n in range(agents)), 2) if agents else None,
            "all_s": round(max(took.values()), 2),
            "quiet_s": round(time.monotonic() - killed, 2),
            "cpu_s": {name: round(used, 2) for name, used in cpu(self.servers.pids()).items()},
        }

    def _written(self) -> bool:
        try:
            self.wide_member()
        except Unavailable:
            return False
        return True


def _newcomer(number: int) -> tuple[Row, ...]:
    """A VM of the first account that is nowhere yet, as the API makes it."""
    vm = Vm(id=uid(f"new vm {number}"), name=f"new{number}", account=uid("account0"), zone=big_cloud.ZONE.id,
            pod=big_cloud.POD.id)  # fmt: skip
    text = f"10.253.{number >> 8 & 255}.{number & 255}"
    nic = Nic(
        id=uid(f"new nic {number}"), vm=vm.id, account=vm.account, pod=vm.pod, groups=frozenset({uid("group 0")}),
        mac=f"06:00:00:00:{number >> 8 & 255:02x}:{number & 255:02x}", copied=1, addresses=frozenset({text}),
        wanted="Running", vm_name=vm.name,
    )  # fmt: skip
    address = Address(id=uid(f"new address {number}"), address=text, nic=nic.id)
    member = Member(id=member_id(uid("group 0"), text), group=uid("group 0"), nic=nic.id, address=text)
    return vm, replace(nic), address, member


def _await(remote: str) -> None:
    """Until a server has the whole database."""
    interest = Interest()
    interest.watch(host="bench", nics=frozenset())
    with Database(remote, interest=interest) as database:
        assert database.wait_insync(PATIENCE)


def run(options: argparse.Namespace) -> Figures:
    """All measurements of sgctl alone."""
    with ExitStack() as stack:
        bench = Bench(stack, options)
        found: Figures = {"options": vars(options), "population": bench.populate()}
        everybody = {f"h{n}" for n in range(options.agents)}
        account = {f"h{n}" for n in range(SPREAD)}
        measure = bench.meter.measure
        bench.arrival()
        bench.meter.settle()
        for name, change, hosts in (
            ("rule of one account", bench.local_rule, account),
            ("member of one account's group", bench.local_member, account),
            ("member of a group that all name", bench.wide_member, everybody),
            (f"{options.beats} heartbeats", bench.heartbeat, set[str]()),
            (f"{options.beats} heartbeats of one agent", bench.own_heartbeat, set[str]()),
            ("barrier for all, without answers", bench.barrier, set[str]()),
            ("barrier for one group, with answers", bench.barrier_for_one, set[str]()),
            ("a VM comes to a hypervisor", bench.arrival, set[str]()),
            ("an agent comes back", bench.comeback, set[str]()),
        ):
            found[name] = measure(change, hosts)
        found["server_peak_mib"] = {name: peak_mib(pid) for name, pid in bench.servers.pids().items()}
        found["leader"] = bench.servers.leader()
        found["a server is killed"] = bench.herd()
        return found


def both(options: argparse.Namespace) -> Figures:
    """Plain servers, then such as an operator has, and the ratios."""
    found: Figures = {}
    for options.servers in ("plain", "deployed"):
        found[options.servers] = run(options)
    return found | {"deployed over plain": ratios(found["plain"], found["deployed"])}


def beside(options: argparse.Namespace) -> Figures:
    """sgctl and OVN with as many light monitors behind one relay, and the ratios."""
    options.agents, options.relays = 0, 1
    everybody, account = {f"h{n}" for n in range(options.monitors)}, {f"h{n}" for n in range(SPREAD)}
    found: Figures = {"options": vars(options)}
    for name, kind in (("sgctl", Bench), ("ovn", scale_ovn.Bench)):
        with ExitStack() as stack:
            bench = kind(stack, options)
            figures: Figures = {"population": bench.populate()}
            bench.meter.settle()
            for what, change, hosts in (
                ("rule of one account", bench.local_rule, account),
                ("member of one account's group", bench.local_member, account),
                ("member of a group that all name", bench.wide_member, everybody),
                ("port of a VM is bound", bench.binding, {"h0"}),
                ("barrier for all, without answers", bench.barrier, everybody),
            ):
                figures[what] = bench.meter.measure(change, hosts)
            found[name] = figures
    return found | {"ovn over sgctl": ratios(found["sgctl"], found["ovn"])}


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scale", description=__doc__)
    numbers = {"nics": 100_000, "agents": 200, "monitors": 1000, "relays": 2, "repeat": 10, "beats": 50}
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument(
        "--peer", choices=["ovn", "ovn-flat"], help="measure beside OVN, at its best or in one flat cloud"
    )
    parser.add_argument(
        "--servers", choices=["plain", "deployed", "both"], default="plain", help="deployed: a cluster, TLS and roles"
    )
    options = parser.parse_args()
    way = beside if options.peer else both if options.servers == "both" else run
    print(json.dumps(way(options), indent=1))


if __name__ == "__main__":
    main()
