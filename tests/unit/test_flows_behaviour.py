# SPDX-License-Identifier: Apache-2.0
"""Every packet of `flow_cases` leaves the pipeline by the ports that it must, and by no other."""

from __future__ import annotations

import pytest

from flows.trace import Switch
from tests.unit.flow_cases import CASES, fragments
from tests.unit.flow_cast import Case
from tests.unit.flow_world import flows_of

FLOWS = flows_of()
ALL_CASES = CASES | {f"fragments: {name}": case for name, case in fragments(1).items()}


@pytest.mark.parametrize("case", ALL_CASES.values(), ids=ALL_CASES)
def test_packets(case: Case) -> None:
    switch = Switch(FLOWS)
    for hop in case:
        walks = switch.walk_pieces(hop.pieces, hop.port)
        told = "\n".join(f"{switch.names[step.table]}: {step.flow}" for walk in walks for step in walk.steps)
        assert [walk.outputs for walk in walks] == [hop.out] * len(walks), f"{hop.pieces[0]} by {hop.port}:\n{told}"
        assert all(walk.sent or walk.reason for walk in walks)
