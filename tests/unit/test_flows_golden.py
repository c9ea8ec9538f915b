# SPDX-License-Identifier: Apache-2.0
"""The flows of each kind of unit, in the switch's own words: files that people read in reviews.

After a change that is meant: ``python -m tests.unit.test_flows_golden`` writes them anew.
"""

from __future__ import annotations

import subprocess
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import pytest

from flows.flow import Flow
from flows.inputs import Fanout, Standby, Unit
from flows.pipeline import build
from flows.tables import BY_ID
from tests.unit.flow_world import BLANK, BRIDGE, CLIENT, FAR, GREEDY, MOVED, NODE, PEERS, POD, POLICIES, VIRTUAL

GOLDEN = Path(__file__).parents[1] / "golden"
UNITS: dict[str, Unit] = {
    "bridge": BRIDGE,
    "pod": POD,
    "port-dual-stack": CLIENT,
    "port-ipv4": FAR,
    "port-without-address": BLANK,
    "port-of-a-cluster": NODE,
    "virtual-ipv4": VIRTUAL[0],
    "virtual-ipv6": VIRTUAL[1],
    "standby": Standby("nic7", 7),
    "policy-ingress": POLICIES[1],
    "policy-egress": POLICIES[2],
    "peer": PEERS[1],
    "moved": MOVED[0],
    "resumed": MOVED[1],
    "overdrawn": GREEDY,
    "fanout": Fanout(1, (1, 2)),
}


def written(unit: Unit) -> str:
    """A file for ovs-ofctl; comments name tables and say why."""
    flows = sorted(build(unit, BRIDGE), key=attrgetter("table"))
    return "".join(_table(table, list(group)) for table, group in groupby(flows, attrgetter("table")))


def _table(table: int, flows: list[Flow]) -> str:
    return f"# {BY_ID[table].name}\n" + "".join(f"# {flow.note}\n{flow}\n" for flow in flows) + "\n"


@pytest.mark.parametrize("name", UNITS)
def test_golden(name: str) -> None:
    assert written(UNITS[name]) == (GOLDEN / f"{name}.flows").read_text()


@pytest.mark.parametrize("name", UNITS)
def test_ovs_reads_it_as_it_is_written(name: str) -> None:
    path = GOLDEN / f"{name}.flows"
    parse = ["ovs-ofctl", "-O", "OpenFlow14", "parse-flows", str(path)]
    parsed = subprocess.run(parse, capture_output=True, text=True, check=True, timeout=30)
    assert len(parsed.stdout.splitlines()) == len(build(UNITS[name], BRIDGE)) + 2


def test_no_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.flows")} == set(UNITS)


if __name__ == "__main__":
    for name, unit in UNITS.items():
        (GOLDEN / f"{name}.flows").write_text(written(unit))
