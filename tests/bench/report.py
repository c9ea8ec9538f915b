# SPDX-License-Identifier: Apache-2.0
"""Samples as medians, a table with the budgets, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from tests.bench.events import Sample

LARGEST = "500,20,2000"
BUDGETS = {
    "cold": 500.0, "rule added": 10.0, "rule removed": 10.0, "member joins": 8.0, "member leaves": 8.0,
    "port added": 15.0, "port removed": 15.0, "agent restart": 1500.0, "agent peak MiB": 100.0,
    "agent idle % of a core": 0.5, "api idle % of a core": 0.5,
}  # fmt: skip
"""Milliseconds (or what the name says) at the largest case."""
FLAT = 1.5
"""How many times as long as at the smallest case an event may take at the largest."""
_LINE = ("rule added", "member joins", "address added", "group added", "port removed", "port added")
_COLOURS = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#a6761d")
_WIDTH, _HEIGHT, _LEFT, _TOP = 640, 360, 60, 30


def summary(samples: Sequence[Sample]) -> dict[str, Any]:
    """The medians of some samples of one event."""
    walls = [sample.wall for sample in samples]
    keys = samples[0].cpu.keys()
    return {
        "wall": round(median(walls), 2),
        "wall range": [round(min(walls), 2), round(max(walls), 2)],
        "cpu": round(median(sum(sample.cpu.values()) for sample in samples), 2),
        "cpu by process": {key: round(median(sample.cpu[key] for sample in samples), 2) for key in keys},
        "flow mods": [dict(text) for text in dict.fromkeys(tuple(sorted(s.mods.items())) for s in samples)],
        "parts": {key: round(median(s.parts[key] for s in samples), 2) for key in samples[0].parts},
        "samples": len(samples),
    }


def line(event: str, found: dict[str, Any]) -> str:
    """One event for people who wait."""
    low, high = found["wall range"]
    return (
        f"{event:16} {found['wall']:8.1f} ms ({low:.1f}-{high:.1f})  cpu {found['cpu']:7.1f} "
        f"{found['cpu by process']} {found['parts']} {found['flow mods'][:2]}"
    )


def table(results: dict[str, Any]) -> str:
    """All cases as a Markdown table: median milliseconds (processor time of all), and what is not time."""
    cases = results["cases"]
    rows = [["", *(case["case"] for case in cases), "largest / smallest", "budget"]]
    rows.append(["---"] * len(rows[0]))
    for event in cases[0]["events"]:
        found = [case["events"][event] for case in cases]
        cells = [f"{one['wall']:.1f}" + (f" ({one['cpu']:.0f})" if one["cpu"] else "") for one in found]
        rows.append([event, *cells, f"{found[-1]['wall'] / (found[0]['wall'] or 1):.1f}", _budget(event)])
        if "from port event" in found[0]["parts"]:
            parts = [f"{one['parts']['from port event']:.1f}" for one in found]
            ratio = found[-1]["parts"]["from port event"] / found[0]["parts"]["from port event"]
            rows.append(["… from the port's event", *parts, f"{ratio:.1f}", _budget(event)])
    for fact in cases[0]["facts"]:
        rows.append([fact, *(f"{case['facts'][fact]:g}" for case in cases), "", _budget(fact)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _budget(name: str) -> str:
    return f"{BUDGETS[name]:g}" if name in BUDGETS else ""


def picture(results: dict[str, Any]) -> str:
    """How flat events are in the size of the case, as SVG."""
    cases = results["cases"]
    lines = {event: [case["events"][event]["wall"] for case in cases] for event in _LINE}
    top = max(max(walls) for walls in lines.values()) or 1
    step = (_WIDTH - _LEFT - 150) / max(1, len(cases) - 1)

    def at(index: int, wall: float) -> tuple[float, float]:
        return _LEFT + index * step, _TOP + (_HEIGHT - 2 * _TOP) * (1 - wall / top)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" '
        'font-size="12"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="18">Milliseconds from call to flows in the switch, by ports,rules,members</text>',
    ]
    for fraction in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = at(0, fraction * top)
        parts.append(f'<text x="{x - 8}" y="{y + 4:.0f}" text-anchor="end">{fraction * top:.0f}</text>')
        parts.append(f'<path d="M{x} {y:.0f} H{_WIDTH - 150}" stroke="#ddd"/>')
    for index, case in enumerate(cases):
        x, _ = at(index, 0)
        parts.append(f'<text x="{x:.0f}" y="{_HEIGHT - 10}" text-anchor="middle">{case["case"]}</text>')
    ends = sorted((walls[-1], event) for event, walls in lines.items())
    for number, (_, event) in enumerate(ends):
        colour = _COLOURS[number]
        points = " ".join("{:.0f},{:.0f}".format(*at(index, wall)) for index, wall in enumerate(lines[event]))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = _HEIGHT - _TOP - 20 * number
        parts.append(f'<text x="{_WIDTH - 140}" y="{y}" fill="{colour}">{event}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
