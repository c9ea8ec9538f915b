# SPDX-License-Identifier: Apache-2.0
"""Samples as medians, and tables: sgctl with its budgets, flow mods, how many times as much peers need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from tests.bench.stopwatch import Sample

BUDGETS = {
    "cold": 500.0, "rule added": 10.0, "rule removed": 10.0, "member joins": 8.0, "member leaves": 8.0,
    "port added": 15.0, "port removed": 15.0, "agent restart": 1500.0, "agent peak MiB": 100.0,
    "agent idle % of a core": 0.5, "api idle % of a core": 0.5,
}  # fmt: skip
"""Milliseconds (or what the name says) at the largest case."""
NO_API = ", no API"
"""End of the names of events that go past sgctl's API, to be compared with peers' that have none."""
ALL_NEW = ("switch restart",)
"""Events that begin with a switch that has no flows, and nobody who counts them."""
SHOWN = ("flows", "floor ms", "switch alone", "agent idle", "api idle", "agent peak", "switch's pause", "audit")
"""Beginnings of the names of facts that are worth a line."""
ALONE = ("switch alone: port added ms", "switch alone: port removed ms")
Results = dict[str, Any]


def summary(samples: Sequence[Sample]) -> Results:
    """The medians of some samples of one event."""
    walls = [sample.wall for sample in samples]
    keys = samples[0].cpu.keys()
    return {
        "wall": round(median(walls), 2),
        "wall range": [round(min(walls), 2), round(max(walls), 2)],
        "cpu": round(median(sum(sample.cpu.values()) for sample in samples), 2),
        "cpu by process": {key: round(median(sample.cpu[key] for sample in samples), 2) for key in keys},
        "flow mods": round(median(sum(sample.mods.values()) for sample in samples)),
        "flow mods by kind": [dict(text) for text in dict.fromkeys(tuple(sorted(s.mods.items())) for s in samples)],
        "parts": {key: round(median(s.parts[key] for s in samples), 2) for key in samples[0].parts},
        "samples": len(samples),
    }


def line(event: str, found: Results) -> str:
    """One event for people who wait."""
    low, high = found["wall range"]
    return (
        f"{event:16} {found['wall']:8.1f} ms ({low:.1f}-{high:.1f})  cpu {found['cpu']:7.1f} "
        f"{found['cpu by process']} {found['parts']} {found['flow mods by kind'][:2]}"
    )


def tables(results: Results) -> str:
    """All of them, as Markdown."""
    cases = results["cases"]
    peers = list(dict.fromkeys(name for case in cases for name in case["peers"]))
    parts = ["### sgctl", own(cases), f"### Flow mods: {' / '.join(['sgctl', *peers])}", mods(cases, peers)]
    for peer in peers:
        parts += [f"### {peer} ÷ sgctl", against(peer, [case for case in cases if peer in case["peers"]])]
    return "\n\n".join(parts)


def own(cases: Sequence[Results]) -> str:
    """Median milliseconds (processor time of all), and what is not time; flatness is of cases with one group rule."""
    plain = [case for case in cases if case["case"].count(",") == 2] or cases
    rows = []
    for event in cases[0]["events"]:
        rows.append([event, *(_timed(case["events"][event]) for case in cases), _flat(plain, event), _budget(event)])
        for name, part in _parts(event).items():
            rows.append([f"… {name}", *(f"{part(case):.1f}" for case in cases), "", ""])
    for fact in cases[0]["facts"]:
        if fact.startswith(SHOWN):
            rows.append([fact, *(f"{case['facts'][fact]:g}" for case in cases), "", _budget(fact)])
    return _table(["", *(case["case"] for case in cases), f"{plain[-1]['case']} / {plain[0]['case']}", "budget"], rows)


def _timed(found: Results) -> str:
    return f"{found['wall']:.1f}" + (f" ({found['cpu']:.0f})" if found["cpu"] else "")


def _flat(cases: Sequence[Results], event: str) -> str:
    first, last = (case["events"][event]["wall"] for case in (cases[0], cases[-1]))
    return f"{last / first:.1f}" if first else ""


def _parts(event: str) -> dict[str, Callable[[Results], float]]:
    """Lines below an event: name, and the figure of a case."""

    def part(name: str) -> Callable[[Results], float]:
        return lambda case: float(case["events"][event]["parts"][name])

    def beyond(fact: str) -> Callable[[Results], float]:
        return lambda case: float(case["events"][event]["wall"] - case["facts"][fact])

    return {
        "port added": {"from the port's event": part("from port event"), "beyond the switch alone": beyond(ALONE[0])},
        "port removed": {"beyond the switch alone": beyond(ALONE[1])},
        "agent restart": {
            "answering": part("answering"),
            "connected": part("connected"),
            "datagrams lost": part("lost"),
        },
    }.get(event, {})


def mods(cases: Sequence[Results], peers: Sequence[str]) -> str:
    """How many flows the switch says have changed, by event; peers' after strokes."""

    def cell(case: Results, event: str) -> str:
        everybody = (case, *(case["peers"].get(peer, {"events": {}}) for peer in peers))
        return " / ".join(str(one["events"].get(event, {}).get("flow mods", "-")) for one in everybody)

    counted = [event for event in cases[0]["events"] if event not in ALL_NEW and not event.endswith(NO_API)]
    return _events(cases, counted, cell)


def against(peer: str, cases: Sequence[Results]) -> str:
    """The peer's milliseconds, and how many times as long, and as much processor time, that is as sgctl's."""

    def cell(case: Results, event: str) -> str:
        ours, theirs = case["events"][event], case["peers"][peer]["events"].get(event.removesuffix(NO_API))
        if theirs is None:
            return "-"
        ratio = f"{theirs['wall']:.0f} = {theirs['wall'] / ours['wall']:.1f}x"
        return f"{ratio} (cpu {theirs['cpu'] / ours['cpu']:.1f}x)" if ours["cpu"] > 0 else ratio

    return _events(cases, list(cases[0]["events"]), cell) + "\n" + _compared(peer, cases)


def _compared(peer: str, cases: Sequence[Results]) -> str:
    rows = [["flows", *(_ratio(case, peer, lambda facts: facts["flows"]) for case in cases)]]
    rows.append(["memory of all, MiB", *(_ratio(case, peer, _peaks) for case in cases)])
    lost = [case["peers"][peer]["events"].get("agent restart", {}).get("parts", {}).get("lost") for case in cases]
    rows.append(["datagrams lost in a restart", *("-" if one is None else f"{one:g}" for one in lost)])
    return "\n".join(_row(row) for row in rows)


def _peaks(facts: Results) -> float:
    return sum(value for name, value in facts.items() if name.endswith("peak MiB"))


def _ratio(case: Results, peer: str, of: Callable[[Results], float]) -> str:
    ours, theirs = of(case["facts"]), of(case["peers"][peer]["facts"])
    return f"{theirs:.0f} = {theirs / ours:.1f}x"


def _events(cases: Sequence[Results], events: Sequence[str], cell: Callable[[Results, str], str]) -> str:
    rows = [[event, *(cell(case, event) for case in cases)] for event in events]
    return _table(["", *(case["case"] for case in cases)], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(_row(row) for row in (head, ["---"] * len(head), *rows))


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _budget(name: str) -> str:
    return f"{BUDGETS[name]:g}" if name in BUDGETS else ""
