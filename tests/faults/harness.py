# SPDX-License-Identifier: Apache-2.0
"""Let a fault happen under traffic, measure what it cost, and hold it to what was promised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from time import monotonic, sleep
from typing import TypeAlias

from devstack.lab.agent import Report
from devstack.lab.hypervisor import BRIDGE
from devstack.lab.namespace import wait_for
from tests.faults.changes import Changes
from tests.faults.prober import Prober
from tests.faults.scene import Scene
from tests.faults.standstill import Standstill
from tests.faults.traffic import INTERVAL, Traffic, Way
from tests.functional.promised import check_recompute

JITTER = 0.8
"""Seconds without an answer that this machine may cost a 10 ms conversation though nothing is lost."""
IN_FLIGHT = 4
"""How many answers a conversation may still wait for at the moment when it is asked."""
TCP_BACKOFF = 3
"""TCP doubles its time between attempts, so that it notices late, and later with each attempt, that all is well."""
QUIET = 0.3

Inject: TypeAlias = Callable[[Scene, Random], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong; `inject` returns when its cause is gone.

    gap: seconds without traffic that are allowed beyond the machine's own jitter: the switch's own floor, and our
    target beyond it; 0 means that nothing may be lost.  forgets: the switch loses its connections.  rewrites: the
    database has other content afterwards, so that answered writes may be missing.  hinders: seconds for which it keeps
    a switch that has just lost its flows, too, from asking for them.
    """

    name: str
    inject: Inject
    gap: float = 0.0
    forgets: bool = False
    rewrites: bool = False
    hinders: float = 0.0

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a fault has cost: packets of UDP and ping, the longest gap of those and of TCP, and until all was well."""

    fault: str
    lasted: float
    lost: int
    gap: float
    tcp_gap: float
    converged: float
    leaks: int
    probes: int
    writes: int
    refused: int

    HEAD = "fault | lasted s | lost | gap s | TCP gap s | converged s | leaks | probes | writes | refused"

    def __str__(self) -> str:
        return (
            f"{self.fault} | {self.lasted:.1f} | {self.lost} | {self.gap:.2f} | {self.tcp_gap:.2f} | "
            f"{self.converged:.2f} | {self.leaks} | {self.probes} | {self.writes} | {self.refused}"
        )


@dataclass(slots=True)
class Harness:
    """A scene under traffic."""

    scene: Scene
    traffic: Traffic
    prober: Prober
    changes: Changes
    standstill: Standstill
    outcomes: list[Outcome] = field(default_factory=list)

    def run(self, fault: Fault, chance: Random) -> Outcome:
        """Let it happen; AssertionError if a promise was broken."""
        self.prober.arrived()
        before, sent = self.traffic.report(clear=True), self.prober.sent()
        self.standstill.begin()
        writes, refused = self.changes.answered, self.changes.failed
        self.changes.start()
        started = monotonic()
        try:
            sleep(QUIET)
            fault.inject(self.scene, chance)
            over = monotonic()
            sleep(QUIET)
        finally:
            self.changes.pause()
        self.scene.settle()
        converged = monotonic() - over
        for hypervisor in self.scene.hypervisors:
            assert "nx-match" in hypervisor.ofctl("get-frags", BRIDGE)
        self.traffic.resume(kept=not fault.forgets)
        leaks = self.prober.arrived()
        after = self.traffic.report(clear=True)
        outcome = Outcome(
            fault.name, over - started, *_cost(before, after), converged, leaks.total(), self.prober.sent() - sent,
            self.changes.answered - writes, self.changes.failed - refused,
        )  # fmt: skip
        self.outcomes.append(outcome)
        print(outcome)
        assert not leaks, f"{fault}: delivered: {leaks}"
        self._hold(fault, before, after)
        return outcome

    def _hold(self, fault: Fault, before: dict[Way, Report], after: dict[Way, Report]) -> None:
        jitter = JITTER + self.standstill.seconds()
        for way, report in after.items():
            if fault.forgets and way.kept:
                continue
            assert not report.error, (way, report)
            assert report.gap < fault.gap * (TCP_BACKOFF if way.proto == "tcp" else 1) + jitter, (way, report)
            if way.proto != "tcp":
                most = fault.gap / INTERVAL + IN_FLIGHT + before[way].sent - before[way].received
                wait_for(f"all answers of {way} but {most:.0f}", partial(self._answered, way, most))
        if fault.forgets:
            self.traffic.renew()
        if fault.rewrites:
            self.changes.forget()
        assert not (missing := self.changes.lost()), missing

    def _answered(self, way: Way, most: float) -> bool:
        """Whether no more than so many answers are on their way, or lost."""
        report = self.traffic.report()[way]
        return report.sent - report.received <= most

    def finish(self) -> None:
        """Restarted agents find nothing to change."""
        check_recompute(self.scene.cloud)
        self.traffic.resume()
        assert not (leaks := self.prober.arrived()), leaks


def _cost(before: dict[Way, Report], after: dict[Way, Report]) -> tuple[int, float, float]:
    """Lost packets, the longest gap, and that of TCP."""
    packets = [way for way in after if way.proto != "tcp"]
    lost = sum(after[way].sent - after[way].received - before[way].sent + before[way].received for way in packets)
    tcp = max(after[way].gap for way in after if way.proto == "tcp" and not way.kept)
    return max(0, lost), max(after[way].gap for way in packets), tcp


@contextmanager
def harness(scene: Scene) -> Iterator[Harness]:
    """Traffic; afterwards a recompute from nothing must find nothing to change."""
    traffic, prober = Traffic(scene), Prober(scene)
    found = Harness(scene, traffic, prober, Changes(scene), Standstill(scene.cloud))
    try:
        yield found
        found.finish()
    finally:
        print(Outcome.HEAD, *found.outcomes, sep="\n")
    traffic.stop()
    prober.stop()
    found.standstill.close()
