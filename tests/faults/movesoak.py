# SPDX-License-Identifier: Apache-2.0
"""VMs move while things go wrong: ``python -m tests.faults.movesoak [--seed N] [--moves M]``.

The seed is printed first, then one line per move; the exit status is 0 only if every promise was kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from time import monotonic, time

from devstack.lab import Hypervisor, Lab
from devstack.lab.agent import Report
from tests.faults.changes import Changes
from tests.faults.fleet import MOVERS, Fleet, fleet
from tests.faults.harness import TCP_BACKOFF
from tests.faults.intruders import FORMER, Intruders
from tests.faults.journeys import Journey
from tests.faults.scene import dice
from tests.faults.strain import Strain
from tests.faults.troubles import Trouble, drawn
from tests.faults.watch import Watch
from tests.faults.ways import IDLE, STILL, Way, Ways
from tests.functional.promised import check_recompute

GAP = 0.3
"""Seconds without traffic in a move, beyond those that this machine and its switches cost where nothing moves; as many
times longer as whatever works takes longer on this machine than its own work (`strain`)."""
TCP_TWICE = 2
"""TCP tries again after 0.2 s, then after another 0.4 s: what lasts for 0.21 s costs it 0.6 s."""
RETURN_KIND = "back and forth"
KINDS = {"live": 10, "two at once": 3, "given up": 3, RETURN_KIND: 3, "lost": 2}
"""How often each kind of move is chosen."""
LOG_LINES = 200
"""Lines of each manager's log that are shown when a promise was broken."""
PLAIN, DOUBLE = 0.3, 0.2
"""What part of the moves nothing goes wrong in, and more than one thing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a move has cost: the longest gaps (s) of TCP, of the others, and of those who did not move."""

    number: int
    what: str
    trouble: str
    tcp_gap: float
    gap: float
    still: float
    overlap: float
    settled: float
    strain: float
    probes: int
    writes: int

    HEAD = (
        "number | move | trouble | TCP gap | gap | of others | both places | well after (s) | strain | probes | writes"
    )

    def __str__(self) -> str:
        times = (self.tcp_gap, self.gap, self.still, self.overlap, self.settled, self.strain)
        numbers = " | ".join(f"{value:.2f}" for value in times)
        return f"{self.number} | {self.what} | {self.trouble} | {numbers} | {self.probes} | {self.writes}"


@dataclass(slots=True)
class Soak:
    """A fleet whose VMs talk and are being tried."""

    fleet: Fleet
    ways: Ways
    intruders: Intruders
    watches: dict[str, Watch]
    changes: Changes
    strain: Strain
    outcomes: list[Outcome] = field(default_factory=list)

    def move(self, kind: str, chance: Random, troubles: list[Trouble]) -> Outcome:
        """One move of a kind to places of chance's choice; AssertionError if a promise was broken."""
        journey = Journey(self.fleet, self.watches, self._goals(kind, chance), troubles)
        journey.hurry = bool(troubles) and chance.random() < 0.25
        journey.look()
        assert not self._forbidden(journey), self._forbidden(journey)
        journey.seen.clear()
        self.ways.report(clear=True)
        self.strain.ratio()
        sent, writes = self.intruders.sent(), self.changes.answered
        self.changes.start()
        print(f"{_words(self.fleet, journey, kind)}: {_names(troubles)}", file=sys.stderr, flush=True)
        try:
            _travel(journey, kind, chance)
        finally:
            journey.underway.wait()
            self.changes.pause()
        ended = monotonic()
        self.fleet.settle()
        settled = monotonic() - ended
        forgets = kind == "lost" or any(one.forgets for one in troubles)
        remembered = [way for way in self.ways if not (forgets and way.kept)]
        if kind != "lost":
            self.ways.go_on(remembered)
        reports = {way: one for way, one in self.ways.report().items() if way in remembered}
        journey.look()
        strain = self.strain.ratio()
        allowed = (GAP + sum(one.gap for one in troubles)) * strain
        outcome = Outcome(
            len(self.outcomes) + 1, _words(self.fleet, journey, kind), _names(troubles),
            *_gaps(reports), max(journey.overlaps, default=0.0), settled, strain, self.intruders.sent() - sent,
            self.changes.answered - writes,
        )  # fmt: skip
        self.outcomes.append(outcome)
        print(outcome, flush=True)
        self._hold(journey, outcome, {} if kind == "lost" else reports, allowed)
        if kind != "lost":
            self.ways.catch_up(remembered)
        if forgets:
            with self.intruders.paused(*FORMER):
                self.ways.renew([way for way in self.ways if way.kept or kind == "lost"])
        return outcome

    def _goals(self, kind: str, chance: Random) -> dict[str, Hypervisor]:
        movers = MOVERS if kind == "two at once" else (chance.choice(MOVERS),)
        return {name: chance.choice(self.fleet.elsewhere(name)) for name in movers}

    def _forbidden(self, journey: Journey) -> list[str]:
        found = [text for seen in journey.seen.values() for text in self.intruders.delivered(seen)]
        return found + [f"twice: {text}" for seen in journey.seen.values() for text in seen.twice]

    def _hold(self, journey: Journey, outcome: Outcome, reports: dict[Way, Report], allowed: float) -> None:
        assert not (forbidden := self._forbidden(journey)), forbidden
        excused = bool(journey.troubles) or RETURN_KIND in outcome.what
        for way, report in reports.items():
            assert not report.error, f"{way}: {report}"
            limit = (outcome.still + allowed) * (1 if not way.tcp else TCP_BACKOFF if excused else TCP_TWICE)
            pause = IDLE * (1 if way.tcp else 2) if way.idle else 0.0  # a datagram may be lost, the next comes late
            assert way in STILL or report.gap <= limit + pause, f"{way}: {report}, allowed {limit:.2f}"
        assert journey.troubles or outcome.overlap <= allowed + outcome.still, outcome
        assert not (missing := self.changes.lost()), missing

    def finish(self) -> None:
        """Idle conversations live; then, without the VMs that move, restarted agents find nothing to change."""
        self.ways.go_on(self.ways, idle=True)
        self.ways.stop()
        self.intruders.stop()
        self.strain.stop()
        for name, watch in self.watches.items():
            seen = watch.seen()
            assert not self.intruders.delivered(seen) and not seen.twice, seen
            watch.stop()
            mobile = self.fleet.mobiles[name]
            for hypervisor, _ in list(mobile.ports.values()):
                mobile.unplug(hypervisor)
        self.fleet.settle()
        check_recompute(self.fleet)


def _travel(journey: Journey, kind: str, chance: Random) -> None:
    if kind == "lost":
        journey.lose(dies=chance.random() < 0.5)
    elif kind == "given up":
        journey.give_up()
    elif kind == RETURN_KIND:
        journey.back_and_forth([chance.uniform(0, 0.8) for _ in range(chance.randint(2, 4))])
    else:
        journey.live()


def _words(fleet: Fleet, journey: Journey, kind: str) -> str:
    ways = ", ".join(f"{name} to {goal.name}" for name, goal in journey.goals.items())
    return f"{kind}: {ways}" + " in a hurry" * journey.hurry


def _names(troubles: list[Trouble]) -> str:
    return " and ".join(map(str, troubles)) or "none"


def _gaps(reports: dict[Way, Report]) -> tuple[float, float, float]:
    """The longest of TCP, of UDP and ping, and of those who stay where they are; idle ones left out."""
    busy = {way: report.gap for way, report in reports.items() if not way.idle}
    moved = {way: gap for way, gap in busy.items() if way not in STILL}
    tcp = max(gap for way, gap in moved.items() if way.tcp)
    return tcp, max(gap for way, gap in moved.items() if not way.tcp), max(busy[way] for way in STILL)


def plan(chance: Random) -> tuple[str, list[Trouble]]:
    """A kind of move, and what goes wrong in it."""
    kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
    if kind == "lost" or chance.random() < PLAIN:
        return kind, []
    return kind, [drawn(chance) for _ in range(2 if chance.random() < DOUBLE else 1)]


@contextmanager
def soak(lab: Lab) -> Iterator[Soak]:
    """A fleet that talks; in the end all must be in order."""
    with fleet(lab) as made:
        watches = {name: Watch(made.mobiles[name]) for name in MOVERS}
        found = Soak(made, Ways(made), Intruders(made), watches, Changes(made), Strain())
        try:
            yield found
            found.finish()
        except (AssertionError, TimeoutError):
            _print_logs(made)
            raise
        finally:
            print(Outcome.HEAD, *found.outcomes, sep="\n")


def _print_logs(fleet: Fleet) -> None:
    """What all managers have said lately: what chance brings once in hundreds of moves does not come again."""
    for manager in (fleet.control, fleet.relay, *fleet.managers.values()):
        lines = manager.log.read_text().splitlines()[-LOG_LINES:]
        print(f"--- {manager.log}", *lines, sep="\n", file=sys.stderr, flush=True)


def main() -> int:
    """The whole run."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.movesoak", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=int(time()), help="what chance begins with (default: the time)")
    parser.add_argument("--moves", type=int, default=50, help="how many (default: %(default)s)")
    options = parser.parse_args()
    chance = dice(options.seed)
    with Lab() as lab, soak(lab) as found:
        for _ in range(options.moves):
            kind, troubles = plan(chance)
            found.move(kind, chance, troubles)
    return 0


if __name__ == "__main__":
    sys.exit(main())
