# SPDX-License-Identifier: Apache-2.0
"""The benchmark's tables and pictures say what was measured."""

from typing import Any
from xml.etree import ElementTree

import pytest

from tests.bench import picture, report
from tests.bench.stopwatch import Sample

CPU = {"agent": 2.0, "api": 1.0}


def events(walls: dict[str, float]) -> dict[str, Any]:
    parts = {"from port event": 1.0}
    return {name: report.summary([Sample(wall, CPU, {"added": 2}, parts)]) for name, wall in walls.items()}


def results() -> dict[str, Any]:
    ours = dict.fromkeys(picture.FLAT, 5.0) | {"rule added, no API": 4.0}
    theirs = dict.fromkeys(picture.FLAT, 50.0)
    facts = {"flows": 100.0, "agent peak MiB": 50.0, "api peak MiB": 50.0} | dict.fromkeys(report.ALONE, 2.0)
    peer = {"events": events(theirs), "facts": facts | {"flows": 420.0}}
    sizes = ("10,10,100", "500,20,2000")
    return {"cases": [{"case": one, "events": events(ours), "facts": facts, "peers": {"ovn": peer}} for one in sizes]}


def row(table: str, name: str) -> list[str]:
    lines = (line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith(f"| {name} |"))
    return next(lines)[1:]


def test_summary_is_the_median() -> None:
    found = report.summary([Sample(wall, {"agent": wall}) for wall in (1.0, 9.0, 2.0)])
    assert (found["wall"], found["wall range"], found["cpu"]) == (2.0, [1.0, 9.0], 2.0)


def test_own_figures_have_their_budgets() -> None:
    table = report.own(results()["cases"])
    assert row(table, "rule added") == ["5.0 (3)", "5.0 (3)", "1.0", "10"]
    assert row(table, "agent peak MiB") == ["50", "50", "", "100"]


def test_a_port_is_shown_beside_what_the_switch_takes_alone() -> None:
    assert row(report.own(results()["cases"]), "… beyond the switch alone")[:2] == ["3.0", "3.0"]


def test_flow_mods_of_peers_stand_beside() -> None:
    found = results()
    found["cases"][0]["peers"] = {}
    assert row(report.mods(found["cases"], ["ovn"]), "rule added") == ["2 / -", "2 / 2"]


@pytest.mark.parametrize(
    ("event", "said"),
    [("rule added", "50 = 10.0x (cpu 1.0x)"), ("rule added, no API", "50 = 12.5x (cpu 1.0x)"), ("flows", "420 = 4.2x")],
)
def test_ratios(event: str, said: str) -> None:
    assert row(report.against("ovn", results()["cases"]), event) == [said, said]


def test_a_peer_without_an_event_has_no_ratio() -> None:
    found = results()
    del found["cases"][0]["peers"]["ovn"]["events"]["port added"]
    assert row(report.against("ovn", found["cases"]), "port added")[0] == "-"


def test_pictures_are_drawn_of_every_event() -> None:
    drawn = picture.pictures(results())
    assert drawn.keys() == {"", "-peers"}
    for text in drawn.values():
        said = " ".join(ElementTree.fromstring(text).itertext())
        assert all(event in said for event in picture.FLAT)


def test_without_peers_there_is_no_picture_of_them() -> None:
    found = results()
    for case in found["cases"]:
        case["peers"] = {}
    assert picture.pictures(found).keys() == {""}
    assert "÷" not in report.tables(found)


def test_a_single_case_with_more_group_rules_will_do() -> None:
    found = {"cases": [results()["cases"][0] | {"case": "100,10,1000,20"}]}
    assert "100,10,1000,20 / 100,10,1000,20" in report.tables(found)
    assert "100,10,1000,20" in picture.pictures(found)[""]
