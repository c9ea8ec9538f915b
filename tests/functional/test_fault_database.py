# SPDX-License-Identifier: Apache-2.0
"""Never open, never down: whatever fails about the SG database, under traffic; then faults in a random order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from random import Random
from time import time

import pytest

from devstack.lab import Lab
from tests.faults.database import DATABASE, small_disk
from tests.faults.harness import Fault, Harness, harness
from tests.faults.scene import dice, scene
from tests.faults.sequence import FAULTS, shuffled


@pytest.fixture(scope="module")
def under_traffic(module_lab: Lab) -> Iterator[Harness]:
    with scene(module_lab) as made, small_disk(made.keeper), harness(made) as found:
        yield found


@pytest.mark.parametrize("fault", DATABASE, ids=str)
def test_a_fault_opens_nothing_stops_nothing_and_loses_no_answered_write(under_traffic: Harness, fault: Fault) -> None:
    under_traffic.run(fault, Random(fault.name))


def test_faults_in_a_random_order(under_traffic: Harness) -> None:
    """A few; `make soak` goes on for longer, with a seed if one is given."""
    chance = dice(int(time()))
    for fault in islice(shuffled(FAULTS, chance), 4):
        under_traffic.run(fault, chance)
