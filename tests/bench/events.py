# SPDX-License-Identifier: Apache-2.0
"""What is done to a cloud and measured: one method per event.

wall: from the call (of the API, or of the switch's database) until the switch itself announces the last changed flow,
which it does when it commits the bundle.  cpu: seconds of all processes from the call until everything is quiet, less
what they use when idle.  Both in milliseconds here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.bench import usage
from tests.bench.cloud import CIDR_PORT, GROUP_PORT, Machine, Size, cidr, rule_rows
from tests.bench.floor import floor
from tests.bench.frames import Datagrams, Guest
from tests.bench.system import System

QUIET = 0.15
IDLE_SECONDS = 5.0
SPEAKERS = (0, 1)
"""The ports between which datagrams are sent."""


@dataclass(slots=True)
class Sample:
    """One measurement; `parts` are times (ms) of something within or beside `wall`."""

    wall: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    mods: dict[str, int] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)


class Course:
    """One cloud of a size, from nothing to its last event."""

    def __init__(self, system: System, size: Size, repeat: int, say: Callable[[str, list[Sample]], None]) -> None:
        self.system, self.size, self.repeat = system, size, repeat
        self.facts: dict[str, float] = {}
        self._say = say
        self._idle: dict[str, float] = {}

    def run(self) -> None:
        """Everything, in an order in which each leaves the cloud as it was."""
        self.prepare()
        self.cold()
        self.facts |= floor(self.system)
        self.measure_idle()
        for event in (self.rules, self.members, self.ports, self.addresses, self.groups):
            event()
        self.facts["agent peak MiB"] = usage.peak_mib(self.system.agent.pid)
        self.restart_agent()
        self.restart_switch()

    # What is there before the clock starts: members elsewhere, ports whose NICs nobody knows yet.

    def prepare(self) -> None:
        """Write the far members, add the ports, start the agent."""
        system = self.system
        far = [Machine("far", number) for number in range(self.size.members)]
        system.write([row for machine in far for row in machine.rows(system.place, "sources")])
        spare = [Machine("far", self.size.members + number) for number in range(self.repeat)]
        system.write([row for machine in spare for row in machine.rows(system.place, "others")])
        near = [Machine("near", number) for number in range(self.size.ports)]
        for number in SPEAKERS:
            system.ports.plug({near[number].name: near[number].external_ids}, pstream=f"punix:{self._wire(number)}")
        system.ports.plug({machine.name: machine.external_ids for machine in near[len(SPEAKERS) :]})
        system.ports.wait_numbered([machine.name for machine in near])
        system.start_agent()
        self.watch = system.watch()

    def _wire(self, number: int) -> Any:
        return self.system.directory / f"wire{number}"

    @contextmanager
    def timed(self, samples: list[Sample], *, quiet: float = QUIET) -> Iterator[Sample]:
        """What happens within, until the switch is quiet."""
        sample, watch = Sample(), self.watch
        watch.reset()
        before, started = self.system.cpu(), time.perf_counter()
        yield sample
        sample.parts["call"] = 1000 * (time.perf_counter() - started)
        watch.settle(quiet, timeout=60)
        span, after = time.perf_counter() - started, self.system.cpu()
        sample.wall = 1000 * (watch.last - started)
        sample.mods = dict(watch.counts)
        sample.cpu = {
            name: 1000 * (used - before[name] - span * self._idle.get(name, 0.0)) for name, used in after.items()
        }
        samples.append(sample)

    def cold(self) -> None:
        """From one transaction with all NICs and rules to their flows, everything else being up."""
        system, samples = self.system, list[Sample]()
        rows = [row for number in range(self.size.ports) for row in Machine("near", number).rows(system.place, "web")]
        rows += rule_rows(system.place, self.size)
        with self.timed(samples, quiet=1.0):
            system.write(rows)
        self.facts["flows"] = system.flows()
        self._say("cold", samples)

    def measure_idle(self) -> None:
        """What the processes use when nothing happens."""
        before = self.system.cpu()
        time.sleep(IDLE_SECONDS)
        self._idle = {name: (used - before[name]) / IDLE_SECONDS for name, used in self.system.cpu().items()}
        self.facts["agent idle % of a core"] = 100 * self._idle["agent"]
        self.facts["api idle % of a core"] = 100 * self._idle["api"]

    def rules(self) -> None:
        """Rules about a CIDR come and go."""
        added, removed = list[Sample](), list[Sample]()
        for number in range(self.repeat):
            port, source = str(CIDR_PORT + self.size.rules + number), cidr(self.size.rules + number)
            with self.timed(added):
                answer = self.system.ask(
                    "authorizeSecurityGroupIngress", securitygroupname="web", protocol="tcp", startport=port,
                    endport=port, cidrlist=source,
                )  # fmt: skip
            rule = self.system.result(answer)["securitygroup"]["ingressrule"][0]["ruleid"]
            with self.timed(removed):
                answer = self.system.ask("revokeSecurityGroupIngress", id=rule)
            self.system.result(answer)
        self._say("rule added", added)
        self._say("rule removed", removed)

    def members(self) -> None:
        """NICs elsewhere come into the group that rules name, and leave it."""
        spare = [Machine("far", self.size.members + number) for number in range(self.repeat)]
        self._regroup("member joins", spare, "sources")
        self._regroup("member leaves", spare, "others")

    def _regroup(self, event: str, machines: list[Machine], *groups: str) -> None:
        samples: list[Sample] = []
        ids = ",".join(self.system.place.groups[group] for group in groups)
        for machine in machines:
            with self.timed(samples):
                answer = self.system.ask("updateVirtualMachine", id=machine.vm, securitygroupids=ids)
            self.system.result(answer)
        self._say(event, samples)

    def groups(self) -> None:
        """A running VM gets another group, and loses it."""
        machines = [Machine("near", number) for number in range(min(self.repeat, self.size.ports))]
        self._regroup("group added", machines, "web", "more")
        self._regroup("group removed", machines, "web")

    def ports(self) -> None:
        """VMs are deployed, and their ports plugged in; ports are pulled out."""
        plugged, unplugged = list[Sample](), list[Sample]()
        machines = [Machine("near", self.size.ports + number) for number in range(self.repeat)]
        for machine in machines:
            self.system.write(machine.rows(self.system.place, "web"))
            time.sleep(QUIET)
            with self.timed(plugged) as sample:
                started = time.perf_counter()
                self.system.ports.plug({machine.name: machine.external_ids})
            numbered = 1000 * (self.system.ports.numbered[machine.name] - started)
            sample.parts["from port event"] = sample.wall - numbered
        for machine in machines:
            with self.timed(unplugged):
                self.system.ports.unplug(machine.name)
        self._say("port added", plugged)
        self._say("port removed", unplugged)
        self.facts["switch's pause for a port ms"] = 1000 * median(self._pause() for _ in range(self.repeat))

    def _pause(self) -> float:
        """The longest time that the switch answers nobody after a port that is no VM's has gone."""
        self.system.ports.plug({"unused": {}})
        self.system.ports.wait_numbered(["unused"])
        time.sleep(QUIET)
        self.system.ports.unplug("unused")
        until, longest = time.perf_counter() + QUIET, 0.0
        while time.perf_counter() < until:
            longest = max(longest, self.watch.ask())
        return longest

    def addresses(self) -> None:
        """Secondary addresses of running VMs."""
        added, removed = list[Sample](), list[Sample]()
        for number in range(self.repeat):
            with self.timed(added):
                answer = self.system.ask("addIpToNic", nicid=Machine("near", number % self.size.ports).nic)
            address = self.system.result(answer)["nicsecondaryip"]["id"]
            with self.timed(removed):
                answer = self.system.ask("removeIpFromNic", id=str(address))
            self.system.result(answer)
        self._say("address added", added)
        self._say("address removed", removed)

    def restart_agent(self) -> None:
        """The world is unchanged: no flow mods, no lost packets."""
        system, samples = self.system, list[Sample]()
        self._allow_datagrams()
        for _ in range(self.repeat):
            system.agent.stop()
            sample = Sample()
            self.watch.reset()
            traffic = self._datagrams()
            system.agent.start()
            sample.wall = 1000 * (system.agent.wait_ready() - system.agent.started)
            time.sleep(1.0)
            sent, lost, gap = traffic.stop()
            sample.cpu = {"agent": 1000 * system.cpu()["agent"]}
            sample.mods = {**self.watch.counts, "sent": system.agent.flow_mods()}
            sample.parts = {"datagrams": sent, "lost": lost, "gap": 1000 * gap}
            samples.append(sample)
        self._say("agent restart", samples)

    def _allow_datagrams(self) -> None:
        with self.timed([]):
            self.system.call(
                "authorizeSecurityGroupIngress", securitygroupname="web", protocol="udp", startport=str(GROUP_PORT),
                endport=str(GROUP_PORT), cidrlist="10.10.0.0/16",
            )  # fmt: skip

    def _datagrams(self) -> Datagrams:
        ends = [Machine("near", number) for number in SPEAKERS]
        sender, receiver = (Guest(self._wire(one.number), one.mac, one.address) for one in ends)
        return Datagrams(sender, receiver, GROUP_PORT)

    def restart_switch(self) -> None:
        """From the moment the bridge can be spoken to until it has all its flows."""
        samples: list[Sample] = []
        expected = self.system.flows()
        for _ in range(self.repeat):
            self.watch.close()
            up = self.system.restart_switch()
            self.watch = self.system.watch()
            while self.system.flows() < expected:
                time.sleep(0.01)
            self.watch.settle(QUIET, timeout=60, expected=False)
            samples.append(Sample(wall=1000 * (max(self.watch.last, up) - up)))
        self._say("switch restart", samples)
