# SPDX-License-Identifier: Apache-2.0
"""How long a conversation of a VM that moves may stand still in the tests."""

from __future__ import annotations

import pytest

from tests.functional.moving import GAP, Still, bearable


def test_an_idle_machine_excuses_nothing() -> None:
    assert bearable("near-tcp4", still=0.0, strain=1.0) == bearable("near-udp4", still=0.0, strain=1.0) == GAP


def test_a_slow_one_excuses_what_it_costs_those_who_stay() -> None:
    assert bearable("near-udp4", still=0.4, strain=3.0) == pytest.approx(GAP * 3 + 0.4)
    assert bearable("near-tcp4", still=0.4, strain=3.0) == pytest.approx(GAP + 2 * (GAP * 2 + 0.4))


class _Said:
    """A stream, or the strain, with one figure."""

    def __init__(self, value: float) -> None:
        self.gap = value

    def report(self) -> _Said:
        return self

    def ratio(self) -> float:
        return self.gap


def test_what_stands_still_for_longer_is_named() -> None:
    still = Still({"udp4": _Said(0.05)}, _Said(1.2))  # type: ignore[dict-item, arg-type]
    still.judge({"near-udp4": 0.4, "near-tcp4": 0.5})
    with pytest.raises(AssertionError, match="far-udp6"):
        still.judge({"near-udp4": 0.1, "far-udp6": 0.5})
