# SPDX-License-Identifier: Apache-2.0
"""How stages write flows: one function per outcome."""

from __future__ import annotations

from functools import cache

from flows.flow import Action, Flow, Goto, Match, Terms
from flows.tables import Table


@cache
def _go_on(table: int) -> tuple[Goto]:
    """Kept, for most flows end with one of few."""
    return (Goto(table),)


def drop(table: Table, priority: int, reason: str, *terms: Terms) -> Flow:
    """A packet that matches goes nowhere, silently; it is counted under `reason`."""
    return Flow(table.id, priority, Match.of(*terms), (), note=reason)


def go(table: Table, priority: int, note: str, *terms: Terms, to: Table, do: tuple[Action, ...] = ()) -> Flow:
    """A packet that matches goes on in table `to`, after `do`."""
    return Flow(table.id, priority, Match.of(*terms), (*do, *_go_on(to.id)), note=note)


def act(table: Table, priority: int, note: str, *terms: Terms, do: tuple[Action, ...]) -> Flow:
    """A packet that matches ends here with `do`."""
    return Flow(table.id, priority, Match.of(*terms), do, note=note)
