# SPDX-License-Identifier: Apache-2.0
"""What is done to a cloud and measured: one method per event, the same for whoever enforces its security groups."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from statistics import median
from typing import TypeVar

from tests.bench import packets
from tests.bench.cloud import Machine, Size
from tests.bench.fabric import Fabric
from tests.bench.floor import floor
from tests.bench.frames import Datagrams
from tests.bench.hypervisor import UPLINK
from tests.bench.stopwatch import Sample, Stopwatch

T = TypeVar("T")
SPEAKERS = (Machine("near", 0), Machine("near", 1))
"""The VMs between which datagrams are sent."""
COLD_QUIET = 1.0
LAST_LOOK = 1.0
"""Seconds after an agent's restart in which flow mods and lost datagrams still count."""


class Course:
    """One cloud of a size, from nothing to its last event."""

    def __init__(self, fabric: Fabric, size: Size, repeat: int, say: Callable[[str, list[Sample]], None]) -> None:
        self.fabric, self.size, self.repeat = fabric, size, repeat
        self.facts: dict[str, float] = {}
        self._show = say

    def run(self) -> None:
        """Everything, in an order in which each event leaves the cloud as it was."""
        self.prepare()
        self.cold()
        self.measure_idle()
        for event in self.fabric.events:
            getattr(self, event)()

    # What is there before the clock starts: members elsewhere, ports whose NICs nobody knows yet.

    def prepare(self) -> None:
        """Write the far members, add the ports, see how long the switch alone takes for one more, start the agent."""
        fabric = self.fabric
        fabric.prepare(self.size, self.repeat)
        fabric.ports.plug({UPLINK: {"sgctl-role": "uplink"}}, pstream=f"punix:{fabric.wire(UPLINK)}")
        near = [Machine("near", number) for number in range(self.size.ports)]
        fabric.plug(*SPEAKERS, wired=True)
        fabric.plug(*near[len(SPEAKERS) :])
        fabric.ports.wait_numbered([machine.name for machine in near])
        added, removed = zip(*(fabric.ports.change("nobody") for _ in range(self.repeat)), strict=True)
        self.facts["switch alone: port added ms"] = 1000 * median(added)
        self.facts["switch alone: port removed ms"] = 1000 * median(removed)
        fabric.start_agent()
        self.clock = Stopwatch(fabric, fabric.quiet)
        self.clock.settle()

    def cold(self) -> None:
        """From one transaction with all NICs and rules to their flows, everything else being up."""
        samples, send = list[Sample](), self.fabric.cold(self.size)
        with self.clock.timed(samples, quiet=max(COLD_QUIET, 2 * self.fabric.quiet)):
            send()
        self.fabric.finish()
        self.facts["flows"] = self.fabric.flows()
        self._say("cold", samples)

    def measure_idle(self) -> None:
        """What the processes use when nothing happens."""
        self.clock.measure_idle()
        self.facts |= {f"{name} idle % of a core": 100 * share for name, share in self.clock.idle.items()}

    def floor(self) -> None:
        """How long the switch's own tool takes for the same flows."""
        self.facts |= floor(self.fabric)

    def _say(self, event: str, samples: list[Sample]) -> None:
        """Show what was measured, once it is sure that the switch holds what it should."""
        self.fabric.verify()
        self._show(event, samples)

    def memory(self) -> None:
        """The most that each process has had so far."""
        self.facts |= {f"{name} peak MiB": peak for name, peak in self.fabric.peaks().items()}

    def _do(self, samples: list[Sample], action: Callable[[], None]) -> Sample:
        with self.clock.timed(samples) as sample:
            action()
        self.fabric.finish()
        return sample

    def rules(self) -> None:
        """Rules about a CIDR come and go."""
        numbers = range(self.size.rules, self.size.rules + self.repeat)
        self._each("rule added", numbers, self.fabric.add_rule)
        self._each("rule removed", numbers, self.fabric.remove_rule)

    def members(self) -> None:
        """VMs elsewhere come into the group that rules name, and leave it."""
        spare = [Machine("far", self.size.members + number) for number in range(self.repeat)]
        self._each("member joins", spare, self.fabric.join)
        self._each("member leaves", spare, self.fabric.leave)

    def rows(self) -> None:
        """Rules and members as rows of the database, without the API: what peers without an API do."""
        numbers = range(self.size.rules, self.size.rules + self.repeat)
        spare = [Machine("far", self.size.members + number) for number in range(self.repeat)]
        self._each("rule added, no API", numbers, self.fabric.add_rule_row)
        self._each("rule removed, no API", numbers, self.fabric.remove_rule_row)
        self._each("member joins, no API", spare, self.fabric.join_row)
        self._each("member leaves, no API", spare, self.fabric.leave_row)

    def _each(self, event: str, things: Iterable[T], action: Callable[[T], None]) -> None:
        samples = list[Sample]()
        for thing in things:
            self._do(samples, partial(action, thing))
        self._say(event, samples)

    def ports(self) -> None:
        """VMs are deployed, and their ports plugged in; ports are pulled out."""
        fabric, plugged = self.fabric, list[Sample]()
        machines = [Machine("near", self.size.ports + number) for number in range(self.repeat)]
        for machine in machines:
            fabric.deploy(machine)
            fabric.finish()
            self.clock.settle()
            started = time.perf_counter()
            sample = self._do(plugged, partial(fabric.plug_one, machine))
            sample.parts["from port event"] = sample.wall - 1000 * (fabric.ports.numbered[machine.name] - started)
        self._say("port added", plugged)
        self._each("port removed", machines, fabric.unplug_one)
        self.facts["switch's pause for a port ms"] = 1000 * median(self._pause() for _ in range(self.repeat))

    def _pause(self) -> float:
        """The longest time that the switch answers nobody after a port that is no VM's has gone."""
        self.fabric.ports.plug({"unused": {}})
        self.fabric.ports.wait_numbered(["unused"])
        self.clock.settle()
        self.fabric.ports.unplug("unused")
        until, longest = time.perf_counter() + self.clock.quiet, 0.0
        while time.perf_counter() < until:
            longest = max(longest, self.clock.watch.ask())
        return longest

    def addresses(self) -> None:
        """Secondary addresses of running VMs."""
        machines = [Machine("near", number) for number in range(min(self.repeat, self.size.ports))]
        self._each("address added", machines, self.fabric.add_address)
        self._each("address removed", machines, self.fabric.remove_address)

    def groups(self) -> None:
        """A running VM gets another group, and loses it."""
        machines = [Machine("near", number) for number in range(min(self.repeat, self.size.ports))]
        self._each("group added", machines, lambda machine: self.fabric.regroup(machine, more=True))
        self._each("group removed", machines, lambda machine: self.fabric.regroup(machine, more=False))

    def datagrams(self) -> None:
        """Let datagrams through between the first VMs, for what follows."""
        self._do([], self.fabric.allow_datagrams)

    def restart_agent(self) -> None:
        """The world is unchanged: flow mods and lost packets are counted."""
        samples = list[Sample]()
        for _ in range(self.repeat):
            self.clock.watch.reset()
            sender, receiver = (self.fabric.wire(machine.name) for machine in SPEAKERS)
            traffic = Datagrams(sender, receiver, packets.datagram(*SPEAKERS))
            restart = self.fabric.restart_agent()
            time.sleep(LAST_LOOK)
            self.clock.settle()
            sent, lost, gap = traffic.stop()
            end = max(restart.insync, self.clock.watch.last)
            sample = Sample(1000 * (end - restart.started), mods=dict(self.clock.watch.counts), parts=restart.parts)
            sample.cpu = {self.fabric.agent: 1000 * self.fabric.cpu()[self.fabric.agent]}
            sample.parts |= {"datagrams": sent, "lost": lost, "gap": 1000 * gap}
            samples.append(sample)
        self._say("agent restart", samples)

    def restart_switch(self) -> None:
        """From the moment the bridge can be spoken to until it has all its flows."""
        samples = list[Sample]()
        expected = self.fabric.flows()
        for _ in range(self.repeat):
            up = self.fabric.restart_switch()
            self.clock.anew()
            while self.fabric.flows() < expected:
                time.sleep(0.01)
            self.clock.settle()
            samples.append(Sample(wall=1000 * (max(self.clock.watch.last, up) - up)))
        self._say("switch restart", samples)

    def audit(self) -> None:
        """Nothing was skipped: real packets pass or not as the rules say, and what else the fabric can show."""
        self.facts |= packets.check(self.fabric, self.size)
        self.facts |= self.fabric.audit(self.size)
