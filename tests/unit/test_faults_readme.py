# SPDX-License-Identifier: Apache-2.0
"""tests/faults/README.md names faults and tests that there are, and every fault that `make test` lets happen."""

from __future__ import annotations

import re
from pathlib import Path

from tests.faults.catalogue import AGENT, PEOPLE, PORTS, SWITCH
from tests.faults.clock import CLOCK
from tests.faults.database import DATABASE

TESTS = Path(__file__).parents[1]
README = (TESTS / "faults" / "README.md").read_text()
SECTION = README.split("## Which fault is tried where\n")[1].split("\n## ")[0]
NAMED = [name for row in SECTION.splitlines() if row.startswith("| ") for name in re.findall(r"`([^`]+)`", row)]
FAULTS = {fault.name for fault in (*AGENT, *SWITCH, *PORTS, *PEOPLE, *DATABASE, *CLOCK)}


def test_what_it_names_is_there() -> None:
    for name in NAMED:
        file, _, test = name.partition("::")
        if test:
            (path,) = (one for one in (TESTS / "functional" / file, TESTS / "unit" / file) if one.exists())
            assert f"def {test}(" in path.read_text(), name
        else:
            assert name in FAULTS or name.startswith("SGCTL_"), name


def test_every_fault_is_named() -> None:
    assert set(NAMED) >= FAULTS, FAULTS - set(NAMED)
