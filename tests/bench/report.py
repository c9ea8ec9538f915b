# SPDX-License-Identifier: Apache-2.0
"""Samples as medians, tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from tests.bench.events import Sample


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
    """All cases as a Markdown table: milliseconds, and what is not time."""
    cases = results["cases"]
    rows = [["", *(case["case"] for case in cases)]]
    rows.append(["---"] * len(rows[0]))
    for event in cases[0]["events"]:
        rows.append([event, *(f"{case['events'][event]['wall']:.1f}" for case in cases)])
    for fact in cases[0]["facts"]:
        rows.append([fact, *(f"{case['facts'][fact]:g}" for case in cases)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
