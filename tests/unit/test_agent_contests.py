# SPDX-License-Identifier: Apache-2.0
"""A guest is asked whether it lives as long as its port is open, and no longer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from sgctl.agent.contests import ATTEMPTS, lives
from sgctl.world import PortState, State

PORT = PortState(
    name="tap1", ofport=7, state=State.ACTIVE, reason="", mac="02:00:00:00:00:01", addresses=("10.1.0.11", "fd00:1::11")
)


@dataclass
class Guest:
    """A switch whose port's guest answers after so many questions (None: never)."""

    answers_after: int | None = None
    asked: list[int] = field(default_factory=list)

    def packet_out(self, port: int, _: bytes) -> None:
        self.asked.append(port)

    def received(self, _: int) -> int:
        return int(self.answers_after is not None and len(self.asked) >= self.answers_after)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgctl.agent.contests.sleep", lambda _: None)


def asked(guest: Guest, is_open: Callable[[], bool] = lambda: True) -> bool:
    switch: Any = guest
    return lives(switch, PORT, is_open)


def test_whoever_answers_lives() -> None:
    guest = Guest(answers_after=3)
    assert asked(guest)
    assert guest.asked == [7] * 4, "by ARP and by neighbour solicitation, twice"


def test_whoever_says_nothing_does_not() -> None:
    guest = Guest()
    assert not asked(guest)
    assert len(guest.asked) == 2 * ATTEMPTS


def test_a_port_that_has_closed_meanwhile_is_told_nothing() -> None:
    guest = Guest()
    assert not asked(guest, is_open=lambda: len(guest.asked) < 4)
    assert len(guest.asked) == 4
