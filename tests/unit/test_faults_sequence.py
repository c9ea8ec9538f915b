# SPDX-License-Identifier: Apache-2.0
"""What two faults in a row may cost."""

from __future__ import annotations

from random import Random

import pytest

from tests.faults.catalogue import AGENT, PEOPLE, RESETS, SWITCH
from tests.faults.harness import Fault
from tests.faults.scene import Scene
from tests.faults.sequence import in_a_row

RESET = next(fault for fault in SWITCH if fault.name == "OpenFlow connections reset")
EMPTIED = next(fault for fault in SWITCH if fault.forgets)
DELETED = next(fault for fault in PEOPLE if fault.name == "all flows deleted by hand")
AGENT_AWAY = AGENT[0]


@pytest.mark.parametrize(
    ("first", "second", "more"),
    [
        pytest.param(EMPTIED, RESET, RESETS, id="an empty switch has to pause before it connects"),
        pytest.param(EMPTIED, AGENT_AWAY, 0.0, id="nothing else adds to that"),
        pytest.param(DELETED, RESET, 0.0, id="a switch that has its flows again loses nothing"),
        pytest.param(AGENT_AWAY, RESET, 0.0, id="nor does one that never lost them"),
    ],
)
def test_only_resets_of_an_empty_switch_add_to_its_floor(first: Fault, second: Fault, more: float) -> None:
    assert in_a_row(first, second).gap == first.gap + more


def test_the_second_happens_after_the_first() -> None:
    happened: list[str] = []

    def fault(name: str) -> Fault:
        return Fault(name=name, inject=lambda scene, chance: happened.append(name))

    both = in_a_row(fault("one"), fault("two"))
    both.inject(Scene.__new__(Scene), Random(0))
    assert (both.name, happened) == ("one, then two", ["one", "two"])
