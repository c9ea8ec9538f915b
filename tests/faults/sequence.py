# SPDX-License-Identifier: Apache-2.0
"""Faults in a random order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

from tests.faults.catalogue import AGENT, PEOPLE, PORTS, SWITCH
from tests.faults.database import DATABASE
from tests.faults.harness import Fault
from tests.faults.scene import Scene

FAULTS = (*AGENT, *SWITCH, *PORTS, *PEOPLE, *DATABASE)
HARMLESS = tuple(fault for fault in FAULTS if fault.name.startswith(("agent", "database SIGKILL", "OpenFlow")))
"""Those that cost nothing and leave nothing to be asked while another one is under way."""
BESIDE = tuple(fault for fault in HARMLESS if not fault.name.startswith("agent"))
"""Those of them that do not keep the agent from filling the switch again."""


def shuffled(faults: Sequence[Fault], chance: Random) -> Iterator[Fault]:
    """All of them in a random order, again and again; now and then one right after another."""
    while True:
        for fault in chance.sample(faults, len(faults)):
            second = chance.choice(BESIDE if fault.gap else HARMLESS)
            yield in_a_row(fault, second) if chance.random() < 0.3 else fault


def in_a_row(first: Fault, second: Fault) -> Fault:
    """The second happens as soon as the first has, before things have settled."""

    def inject(scene: Scene, chance: Random) -> None:
        first.inject(scene, chance)
        second.inject(scene, chance)

    gap = first.gap + (second.hinders if first.forgets else 0.0)
    return replace(first, name=f"{first.name}, then {second.name}", inject=inject, gap=gap)
