# SPDX-License-Identifier: Apache-2.0
"""After each change a userspace datapath is made to forget what it has cached, however often that takes; where that is
much, changes that come in floods share one renewal."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import pytest

from sgctl.agent import pace
from sgctl.agent import renewals as renewals_module
from sgctl.agent.metrics import Metrics
from sgctl.agent.pace import AT_ONCE, LONGEST, SHARE, urgent
from sgctl.agent.renewals import AGAIN, Renewals
from sgctl.model import Handover, Member, Nic, Row, Rule
from sgctl.openflow.control import CACHED, PURGE
from sgctl.openflow.errors import SwitchError, SwitchGone


@dataclass
class Clock:
    """Time that passes when a test, or the daemon, says so."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Daemon:
    """ovs-vswitchd's control socket, with what it answers next to a purge; it is asked for nothing else but how much it
    has cached. takes: seconds that a purge takes."""

    clock: Clock
    answers: list[SwitchError | None] = field(default_factory=list)
    asked: int = 0
    cached: tuple[int, ...] = (0,)
    takes: float = 0.0

    def ask(self, command: str) -> str:
        if command == CACHED:
            return "".join(
                f"netdev@dp{number}:\n  flows         : (current {count}) (avg 7) (max 8) (limit 200000)\n"
                for number, count in enumerate(self.cached)
            )
        assert command == PURGE
        self.asked += 1
        self.clock.now += self.takes
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        return ""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (pace, renewals_module):
        monkeypatch.setattr(module, "monotonic", clock)
    return clock


@pytest.fixture
def daemon(clock: Clock) -> Daemon:
    return Daemon(clock)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def renewals(daemon: Daemon, metrics: Metrics) -> Renewals:
    renewals = Renewals(daemon, metrics)  # type: ignore[arg-type]
    renewals.userspace = True
    return renewals


def test_at_the_start_nobody_knows_what_is_cached(daemon: Daemon, renewals: Renewals) -> None:
    renewals.renew()
    assert daemon.asked == 1


def test_each_change_is_followed_by_one(daemon: Daemon, renewals: Renewals, metrics: Metrics) -> None:
    renewals.renew()
    renewals.renew()
    assert daemon.asked == 1
    renewals.note()
    renewals.note()
    renewals.renew()
    renewals.renew()
    assert daemon.asked == 2
    assert metrics.registry.get_sample_value("sgctl_renewals_total") == 2


def test_the_kernel_needs_none(daemon: Daemon, renewals: Renewals) -> None:
    renewals.userspace = False
    assert renewals.done
    renewals.renew()
    assert daemon.asked == 0
    renewals.userspace = True
    renewals.renew()
    assert daemon.asked == 1


def test_what_fails_is_said_once_and_tried_again(
    daemon: Daemon, renewals: Renewals, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    daemon.answers = [SwitchGone("no control socket"), SwitchGone("no control socket"), SwitchError("no such command")]
    for _ in range(6):
        renewals.renew()
    assert daemon.asked == 4
    reasons = [record.getMessage().rpartition(": ")[2] for record in caplog.records if record.levelno == logging.ERROR]
    assert reasons == ["no control socket", "no such command"]
    assert [record.getMessage() for record in caplog.records][-1] == "the switch forgets cached decisions again"
    assert metrics.registry.get_sample_value("sgctl_renewal_errors_total") == 3


def change(renewals: Renewals) -> None:
    renewals.note()
    renewals.renew()


def flood(renewals: Renewals, clock: Clock, seconds: float) -> int:
    """How often the switch is made to forget while changes never end."""
    until, times = clock.now + seconds, 0
    while clock.now < until:
        change(renewals)
        times += 1
        clock.now += max(renewals.pause, 0.001)
    return times


def test_a_few_changes_and_small_caches_know_no_pause(daemon: Daemon, renewals: Renewals, clock: Clock) -> None:
    assert renewals.pause == 0
    daemon.cached = (100,)
    for _ in range(20):
        change(renewals)
        assert renewals.pause == 0
    clock.now += 1
    daemon.cached = (round(AT_ONCE / AGAIN),)
    change(renewals)
    assert renewals.pause == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("cached", [(2000,), (1500, 0, 500)])
def test_floods_take_a_share_of_the_time(
    daemon: Daemon, renewals: Renewals, clock: Clock, cached: tuple[int, ...]
) -> None:
    """However many datapaths there are."""
    daemon.cached = cached
    expected = SHARE * 100 / (sum(cached) * AGAIN)
    assert flood(renewals, clock, 100) == pytest.approx(expected, rel=0.05)


def test_what_it_takes_to_forget_counts(daemon: Daemon, renewals: Renewals, clock: Clock) -> None:
    daemon.takes = 0.02
    assert flood(renewals, clock, 100) == pytest.approx(SHARE * 100 / daemon.takes, rel=0.05)


def test_no_pause_is_longer_than_promised_however_much_there_is(
    daemon: Daemon, renewals: Renewals, clock: Clock
) -> None:
    daemon.cached = (1_000_000,)
    for _ in range(5):
        change(renewals)
        assert renewals.pause == pytest.approx(LONGEST)
    clock.now += LONGEST
    assert renewals.pause == pytest.approx(0, abs=1e-6)


def test_what_fails_costs_nothing(daemon: Daemon, renewals: Renewals) -> None:
    daemon.cached, daemon.answers = (1_000_000,), [SwitchGone("no control socket")]
    renewals.renew()
    assert renewals.pause == 0


@pytest.mark.parametrize(
    ("kinds", "expected"), [((Rule, Member), False), ((Rule, Nic), True), ((Handover,), True), ((), False)]
)
def test_who_moves_waits_for_no_flood(kinds: tuple[type[Row], ...], expected: bool) -> None:
    assert urgent(frozenset((kind, "id") for kind in kinds)) is expected
