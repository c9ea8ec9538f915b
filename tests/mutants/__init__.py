# SPDX-License-Identifier: Apache-2.0
"""Deliberate bugs, each of which the unit tests must catch: ``python -m tests.mutants``, or ``make mutants``.

The bugs are data, `mutants.toml`: in one file a text that occurs there once is replaced by another. Golden files do
not count as tests here: they notice every change, right or wrong.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug: what it does wrong, the file (relative to the project), its text, and what stands there instead.

    by: the test that must catch it, where unit tests cannot; it may need root.
    """

    name: str
    file: str
    old: str
    new: str
    by: str = ""

    def applied(self, text: str) -> str:
        """The file's text with the bug; ValueError if the code is not what the bug was made for."""
        if (times := text.count(self.old)) != 1:
            raise ValueError(f"{self.name}: {self.file} has this text {times} times instead of once: {self.old}")
        return text.replace(self.old, self.new)


def mutants() -> tuple[Mutant, ...]:
    """All of them."""
    rows = tomllib.loads((Path(__file__).parent / "mutants.toml").read_text())["mutant"]
    return tuple(Mutant(**row) for row in rows)
