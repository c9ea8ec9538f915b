# SPDX-License-Identifier: Apache-2.0
"""How the control plane grows with the number of hypervisors: see tests/bench/SCALE.md.

    .venv/bin/python -m tests.bench.scale [--nics 100000] [--agents 200] [--monitors 1000] [--relays 2] [--repeat 10]
    .venv/bin/python -m tests.bench.scale --peer ovn --nics 50000 --monitors 300
    .venv/bin/python -m tests.bench.scale --peer ovn-flat --nics 10000 --monitors 100

Real ovsdb-servers, one of them the database, the others relays of it; behind the relays real agents without switches
(`scale_agents`), many to a process, and light monitors with the same conditions (`scale_monitors`). With --peer, light
monitors only, behind one relay, first of sgctl's database and then of OVN's, and the ratios of what changes cost.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from sgctl.dbserver import DatabaseServer
from sgctl.model import Address, Cloud, Host, Member, Nic, Row, Rule, Vm, member_id
from sgctl.store import Database, Insert, Interest, Update
from tests.bench import scale_ovn
from tests.bench.scale_cloud import SPREAD, WATCHED, write_file
from tests.bench.scale_fleet import PATIENCE, Figures, Fleet, Meter, ms
from tests.bench.usage import peak_mib
from tests.functional import big_cloud
from tests.unit.store_rows import uid

PER_PROCESS = 50
VISITED = "visited"
"""A hypervisor that VMs come to, of which the bench itself is the agent."""


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
        self._visited = Interest()
        self._visited.watch(host=VISITED, nics=frozenset())
        self._agents = [stack.enter_context(Database(one.remote, interest=self._visited)) for one in relays[:1]]
        for relay in relays:
            _await(relay)
        self.relays_up = round(time.monotonic() - started, 1)
        self.fleet = Fleet(stack, [relay.remote for relay in relays])
        self.meter = Meter(self.fleet, self.servers, options.repeat)
        self._serial = iter(range(1 << 30))
        self._plugged: list[str] = []

    def populate(self) -> Figures:
        """Bring up everybody; seconds and memory."""
        started, used = time.monotonic(), self.meter.used()
        agents = [f"h{n}" for n in range(self._options.agents)]
        for number, start in enumerate(range(0, len(agents), PER_PROCESS)):
            self.fleet.start("scale_agents", number, ",".join(agents[start : start + PER_PROCESS]))
        done, joined = time.monotonic(), self.meter.used()
        relays = sum(joined[name] - used[name] for name in used if name.startswith("relay"))
        each = statistics.mean(self.fleet.ready) if self.fleet.ready else 0.0
        for number in range(self._options.relays if self._options.monitors else 0):
            count = self._options.monitors // self._options.relays
            first = self._options.agents + number * count
            self.fleet.start("scale_monitors", number, "sgctl", str(first), str(count))
        return {
            "relays_up_s": self.relays_up,
            "agents_up_s": round(done - started, 1),
            "relay_cpu_ms_per_agent": ms(relays / len(agents)) if agents else None,
            "mib_per_agent": round(each, 2),
            "monitors_up_s": round(time.monotonic() - done, 1),
            "first_kb_per_monitor": round(self.fleet.ready[-1] / 1000, 1),
            "server_mib": {name: peak_mib(pid) for name, pid in self.servers.items()},
        }

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
        self._plugged.append(nic)
        (agent,) = self._agents
        self._visited.watch(host=VISITED, nics=frozenset(self._plugged))
        assert agent.wait_insync(PATIENCE) and agent.replica.get(Nic, nic)
        agent.write([Update(Nic, nic, {"host": VISITED, "state": "up"})])

    def comeback(self) -> None:
        """The connection of an agent is lost, and made again."""
        (agent,) = self._agents
        agent._idl.force_reconnect()
        agent._alarm.ring()
        while agent.replica.insync:
            time.sleep(0.001)
        assert agent.wait_insync(PATIENCE)


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


def _await(relay: DatabaseServer) -> None:
    """Until a relay has the whole database."""
    interest = Interest()
    interest.watch(host="bench", nics=frozenset())
    with Database(relay.remote, interest=interest) as database:
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
            ("barrier for all, without answers", bench.barrier, set[str]()),
            ("barrier for one group, with answers", bench.barrier_for_one, set[str]()),
            ("a VM comes to a hypervisor", bench.arrival, set[str]()),
            ("an agent comes back", bench.comeback, set[str]()),
        ):
            found[name] = measure(change, hosts)
        found["population"]["server_mib"] = {name: peak_mib(pid) for name, pid in bench.servers.items()}
        return found


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
    return found | {"ovn over sgctl": scale_ovn.ratios(found["sgctl"], found["ovn"])}


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scale", description=__doc__)
    numbers = {"nics": 100_000, "agents": 200, "monitors": 1000, "relays": 2, "repeat": 10, "beats": 50}
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument(
        "--peer", choices=["ovn", "ovn-flat"], help="measure beside OVN, at its best or in one flat cloud"
    )
    options = parser.parse_args()
    print(json.dumps(beside(options) if options.peer else run(options), indent=1))


if __name__ == "__main__":
    main()
