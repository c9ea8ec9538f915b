# SPDX-License-Identifier: Apache-2.0
"""Making a userspace datapath decide anew about what changes concern (`flows.renewals`)."""

from __future__ import annotations

from collections.abc import Iterable

from flows.inputs import Bridge
from flows.pipeline import build
from flows.renewals import PARTS, TURNS, Part, Renewal
from sgctl.reconcile import Plan, scope, scope_of
from sgctl.world import Decision

_OWNERS = {Renewal(part, 0).owner for part in PARTS}
_SCOPES = set(map(scope, _OWNERS))


class Renewals:
    """At which turn each part of one bridge's pipeline is.

    userspace: whether the bridge forwards in user space; the kernel's datapath knows its cached flows by identity.
    """

    def __init__(self) -> None:
        self.userspace = False
        self._turns = dict.fromkeys(PARTS, 0)
        self._taken = True
        self._suspects = False

    def adopt(self, installed: Iterable[int]) -> None:
        """At the start: go on where the switch is."""
        for part in PARTS:
            turns = (turn for turn in range(TURNS) if not _cookies(Renewal(part, turn)).isdisjoint(installed))
            self._turns[part] = next(turns, 0)

    def join(self, decision: Decision) -> Decision:
        """The decision with the gates of all parts, if the datapath needs them."""
        if not self.userspace or not self._taken:
            return decision
        return decision.plus([Renewal(part, turn) for part, turn in self._turns.items()], {})

    def advance(self, todo: Plan) -> bool:
        """Have each part that a plan changes take its next turn; false if there is none.

        Gates that the plan brings, to a switch that has none, are new by themselves.
        """
        if not self.userspace:
            return False
        new = {flow.owner for flow in todo.adds}
        touched = PARTS if self._suspects else [one for one in _touched(todo) if Renewal(one, 0).owner not in new]
        for part in touched:
            self._turns[part] = (self._turns[part] + 1) % TURNS
        self._suspects = False
        return bool(touched)

    def suspect(self) -> None:
        """Somebody else has changed flows, whichever: all parts take their next turn."""
        self._suspects = True

    def refuse(self, owner: str) -> bool:
        """The switch does not take these flows. If they are gates, it has to do without any."""
        self._taken &= owner not in _OWNERS
        return owner in _OWNERS


def _touched(todo: Plan) -> Iterable[Part]:
    tables = {flow.table for flow in todo.adds if scope_of(flow.cookie) not in _SCOPES}
    tables |= {table for cookie, table in todo.deletes if scope_of(cookie) not in _SCOPES}
    return (part for part in PARTS if any(map(part.holds, tables)))


def _cookies(renewal: Renewal) -> set[int]:
    return {flow.cookie for flow in build(renewal, Bridge(()), scope(renewal.owner))}
