# SPDX-License-Identifier: Apache-2.0
"""Heartbeats are bounded in any cloud, quick in a small one, and their pace is kept by whoever serves the API."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgctl.agent.pulse import Pulse
from sgctl.api.pace import set_pace
from sgctl.heartbeat import PER_SECOND, SHORTEST, suited, wanted
from sgctl.model import Cloud, Host
from sgctl.store import Insert, Update
from tests.unit.api_memory import Memory

SMALL = SHORTEST * PER_SECOND // 1000
CLOUD = Cloud(id="cloud")


@given(st.integers(0, 1_000_000), st.integers(SHORTEST, 10_000_000))
def test_all_together_are_bounded_whatever_the_size(hosts: int, now: int) -> None:
    interval = suited(hosts, now)
    assert hosts * 1000 <= PER_SECOND * interval
    assert interval <= max(SHORTEST, hosts * 1000 / PER_SECOND * 1.26)
    assert suited(hosts, interval) == interval


@given(st.integers(0, SMALL), st.integers(SHORTEST, 10_000_000))
def test_a_small_cloud_is_quick(hosts: int, now: int) -> None:
    assert suited(hosts, now) == SHORTEST


def test_an_interval_is_kept_while_a_cloud_grows_a_little() -> None:
    intervals, now = set(), SHORTEST
    for hosts in range(10_000, 11_000):
        now = suited(hosts, now)
        intervals.add(now)
    assert len(intervals) == 1
    assert suited(20_000, now) > now > suited(5000, now)


class Counted(Memory):
    """A database with so many hosts."""

    def __init__(self, hosts: int) -> None:
        super().__init__()
        self.write([Insert(CLOUD), *(Insert(Host(id=f"h{n}", name=f"h{n}")) for n in range(hosts))])


def test_the_api_servers_keep_the_pace() -> None:
    memory = Counted(2 * SMALL)
    set_pace(memory)  # type: ignore[arg-type]
    (cloud,) = memory.replica.all(Cloud)
    assert cloud.heartbeat == wanted([cloud]) >= 2 * SHORTEST
    writes = memory.writes
    set_pace(memory)  # type: ignore[arg-type]
    assert memory.writes == writes, "nothing is to be changed"
    memory.write([Update(Cloud, cloud.id, {"heartbeat": 100 * SHORTEST})])
    set_pace(memory)  # type: ignore[arg-type]
    assert memory.replica.all(Cloud) == [cloud]


def test_nothing_is_written_about_a_small_cloud() -> None:
    memory = Counted(3)
    writes = memory.writes
    set_pace(memory)  # type: ignore[arg-type]
    assert memory.writes == writes
    assert wanted([]) == wanted([CLOUD]) == SHORTEST
    assert wanted([replace(CLOUD, heartbeat=30_000)]) == 30_000


def test_agents_that_start_together_do_not_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgctl.agent.pulse.monotonic", lambda: 0.0)
    pulses = [Pulse() for _ in range(1000)]
    assert all(pulse.left == 0 for pulse in pulses)
    for pulse in pulses:
        pulse.beaten(10_000)
    tenths = [sum(n <= pulse.left < n + 1 for pulse in pulses) for n in range(10)]
    assert all(30 < count < 200 for count in tenths), tenths


def test_an_answer_in_between_does_not_move_the_next_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("sgctl.agent.pulse.monotonic", lambda: now)
    pulse = Pulse()
    pulse.beaten(10_000)
    due = pulse.left
    pulse.beaten(10_000)
    assert pulse.left == due
    now = due
    pulse.beaten(10_000)
    assert 9 <= pulse.left <= 11
