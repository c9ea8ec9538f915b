# SPDX-License-Identifier: Apache-2.0
"""Never open, never down: clocks that jump, under traffic."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from devstack.lab import Lab
from tests.faults.clock import CLOCK, own_clocks
from tests.faults.harness import Fault, Harness, harness
from tests.faults.scene import scene


@pytest.fixture(scope="module")
def under_traffic(module_lab: Lab) -> Iterator[Harness]:
    with scene(module_lab) as made, own_clocks(made), harness(made) as found:
        yield found


@pytest.mark.parametrize("fault", CLOCK, ids=str)
def test_a_fault_opens_nothing_stops_nothing_and_loses_no_answered_write(under_traffic: Harness, fault: Fault) -> None:
    under_traffic.run(fault, Random(fault.name))
