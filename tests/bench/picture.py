# SPDX-License-Identifier: Apache-2.0
"""Two pictures as SVG: how flat sgctl's events are in the size of the cloud, and how far ahead of its peers it is."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log10
from typing import Any

from tests.bench import report

Results = dict[str, Any]
FLAT = ("rule added", "member joins", "address added", "group added", "port removed", "port added")
ALONE = "port added, switch alone"
COLOURS = ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#a6761d", "#666666", "#1f78b4")
WIDTH, HEIGHT, LEFT, RIGHT, TOP = 720, 380, 60, 210, 36


def pictures(results: Results) -> dict[str, str]:
    """By the end of the file's name."""
    cases = [case for case in results["cases"] if case["case"].count(",") == 2] or results["cases"]
    drawn = {"": flatness(cases)}
    if any(case["peers"] for case in cases):
        drawn["-peers"] = peers([case for case in cases if case["peers"]][-1])
    return drawn


def _page(height: int, title: str, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
    head += 'font-size="12"><rect width="100%" height="100%" fill="white"/>'
    return "\n".join([head, _text(LEFT, 20, title), *parts, "</svg>"]) + "\n"


def _text(x: float, y: float, said: str, *, anchor: str = "start", colour: str = "black") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{colour}">{said}</text>'


def flatness(cases: Sequence[Results]) -> str:
    """Lines of events over the cases."""
    lines = {event: [case["events"][event]["wall"] for case in cases] for event in FLAT}
    lines["port added, from event"] = [case["events"]["port added"]["parts"]["from port event"] for case in cases]
    lines[ALONE] = [case["facts"][report.ALONE[0]] for case in cases]
    top = max(max(walls) for walls in lines.values())
    step = (WIDTH - LEFT - RIGHT) / max(1, len(cases) - 1)

    def height(wall: float) -> float:
        return TOP + (HEIGHT - 2 * TOP) * (1 - wall / top)

    parts = []
    for fraction in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = height(fraction * top)
        parts.append(_text(LEFT - 8, y + 4, f"{fraction * top:.0f}", anchor="end"))
        parts.append(f'<path d="M{LEFT} {y:.0f} H{WIDTH - RIGHT}" stroke="#ddd"/>')
    parts += [_text(LEFT + n * step, HEIGHT - 12, case["case"], anchor="middle") for n, case in enumerate(cases)]
    ends = sorted((walls[-1], event) for event, walls in lines.items())
    for number, (last, event) in enumerate(ends):
        points = " ".join(f"{LEFT + n * step:.0f},{height(wall):.0f}" for n, wall in enumerate(lines[event]))
        look = f'stroke="{COLOURS[number]}" stroke-width="2"' + (' stroke-dasharray="5 4"' if event == ALONE else "")
        parts.append(f'<polyline points="{points}" fill="none" {look}/>')
        y = HEIGHT - TOP - 20 * number
        parts.append(_text(WIDTH - RIGHT + 10, y, f"{event}: {last:.1f}", colour=COLOURS[number]))
    return _page(HEIGHT, "sgctl: milliseconds from call to flows in the switch, by ports,rules,members", parts)


def peers(case: Results) -> str:
    """Bars of each event, sgctl's and its peers', on a logarithmic scale."""
    everybody = {"sgctl": case, **case["peers"]}
    walls = [event["wall"] for one in everybody.values() for event in one["events"].values()]
    decades = max(1, ceil(log10(max(walls))))
    left, bar = 130, 12
    scale = (WIDTH - left - 70) / decades
    parts, y = [], TOP
    for event in (event for event in case["events"] if not event.endswith(report.NO_API)):
        found = [(name, one["events"][event]["wall"]) for name, one in everybody.items() if event in one["events"]]
        parts.append(_text(left - 8, y + bar, event, anchor="end"))
        for name, wall in found:
            length, colour = max(1.0, scale * log10(max(1.0, wall))), COLOURS[list(everybody).index(name)]
            parts.append(f'<rect x="{left}" y="{y}" width="{length:.0f}" height="{bar - 2}" fill="{colour}"/>')
            parts.append(_text(left + length + 4, y + bar - 2, f"{wall:.0f}" if wall >= 100 else f"{wall:.1f}"))
            y += bar
        y += 8
    for decade in range(decades + 1):
        x = left + decade * scale
        parts.insert(0, f'<path d="M{x:.0f} {TOP - 6} V{y}" stroke="#ddd"/>')
        parts.append(_text(x, y + 14, f"{10**decade}", anchor="middle"))
    for number, name in enumerate(everybody):
        parts.append(_text(left + 90 * number, y + 34, name, colour=COLOURS[number]))
    return _page(y + 46, f"Milliseconds (logarithmic) at {case['case']}: the same events, the same switch", parts)
