# SPDX-License-Identifier: Apache-2.0
"""Who is alive, and which NICs are asked for."""

from __future__ import annotations

import pytest

from sgctl.agent.gather import STALE_AFTER, Heartbeats, named_nics
from sgctl.localport import LocalPort
from sgctl.model import Host


class Clock:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        patch.setattr("sgctl.agent.gather.monotonic", lambda: self.now)
        patch.setattr("sgctl.agent.gather.time", lambda: self.now + 1_700_000_000)

    def host(self, *, skew: float = 0.0) -> Host:
        return Host(id="x", name="hv2", seen=round((self.now + 1_700_000_000 + skew) * 1000))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_host_is_alive_as_long_as_its_heartbeat_moves(clock: Clock) -> None:
    beats = Heartbeats()
    assert beats.live() == frozenset()
    for _ in range(3):
        beats.observe([clock.host()])
        clock.now += STALE_AFTER - 1
        assert beats.live() == {"hv2"}
    clock.now += 2
    assert beats.live() == frozenset()


def test_an_unchanged_heartbeat_is_no_sign_of_life(clock: Clock) -> None:
    beats, host = Heartbeats(), clock.host()
    beats.observe([host])
    clock.now += STALE_AFTER + 1
    beats.observe([host])
    assert beats.live() == frozenset()


def test_an_old_heartbeat_at_first_sight_is_dead(clock: Clock) -> None:
    beats = Heartbeats()
    beats.observe([clock.host(skew=-STALE_AFTER - 1)])
    assert beats.live() == frozenset()


@pytest.mark.parametrize("skew", [3600.0, -3600.0])
def test_a_wrong_clock_elsewhere_does_not_matter_once_the_heartbeat_moves(clock: Clock, skew: float) -> None:
    beats = Heartbeats()
    beats.observe([clock.host(skew=skew)])
    clock.now += 10
    beats.observe([clock.host(skew=skew)])
    assert beats.live() == {"hv2"}


def test_only_uuids_are_asked_for_in_their_canonical_form() -> None:
    texts = ["F8D7A32A-BEB9-54DF-9610-1447C535FCCD", "", None, "x", "f8d7a32abeb954df96101447c535fccd"]
    ports = [LocalPort(uuid=str(i), name=f"tap{i}", iface_id=text) for i, text in enumerate(texts)]
    assert named_nics(ports) == {"f8d7a32a-beb9-54df-9610-1447c535fccd"}
