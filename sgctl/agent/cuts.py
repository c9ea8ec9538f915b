# SPDX-License-Identifier: Apache-2.0
"""Carries out `Cut` rows: the connections that revoked rules had admitted on this hypervisor end (`sgctl.cuts`).

It is done once the rule is no longer in the flows, so nothing is admitted by it meanwhile, and once per row. Whoever
starts anew does it again, which changes nothing. Reading conntrack takes a while, so it is not the writer who does it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from time import monotonic

from flows.inputs import Bridge
from sgctl.agent.applied import Applied
from sgctl.cuts import cuts
from sgctl.model import Cut
from sgctl.numbers import number
from sgctl.openflow.conntrack import ConntrackReader
from sgctl.openflow.errors import SwitchError
from sgctl.openflow.switch import Switch
from sgctl.store import Replica
from sgctl.world import Decision

LOG = logging.getLogger(__name__)


REST = 3
"""How many times as long as it took, nothing is read again: whoever revokes rules on and on costs an agent so much."""


class Cuts:
    """Knows which rows are done."""

    def __init__(self, replica: Replica, reader: ConntrackReader) -> None:
        self._replica, self._reader = replica, reader
        self._done: frozenset[str] = frozenset()
        self._decisions: tuple[Decision, ...] = ()
        self._trouble = ""
        self._rested = 0.0

    def carry_out(self, applied: Applied | None, switch: Switch | None) -> bool:
        """Do what is due; true if nothing is left to do, as far as is known."""
        if applied is None:
            return True
        if not self._decisions or self._decisions[-1] is not applied.decision:
            self._decisions = (*self._decisions[-1:], applied.decision)
        rows = {row.id: row for row in self._replica.all(Cut)}
        due = {id: row for id, row in rows.items() if id not in self._done}
        if not due:
            self._done &= rows.keys()
            return True
        in_force = set(applied.decision.rules.values())
        if switch is None or any(row.rule in in_force for row in due.values()):
            return False
        started = monotonic()
        if started < self._rested or not self._cut(switch, applied.decision, due.values()):
            return False
        self._rested = monotonic() + REST * (monotonic() - started)
        self._done = frozenset(rows)
        return True

    def _cut(self, switch: Switch, decision: Decision, rows: Iterable[Cut]) -> bool:
        bridge = decision.units.get("bridge")
        assert isinstance(bridge, Bridge), "it is in force"
        numbers = self._numbers(decision, rows)
        try:
            found = list(cuts(self._reader.labelled(bridge.zone, numbers), numbers, bridge.zone))
            for action, frame in found:
                switch.run_actions([action], frame)
            # The switch confirms no packet; its answer to this comes after them.
            switch.flush_connections(bridge.zone, ())
        except SwitchError as error:
            self._complain(str(error))
            return False
        self._trouble = ""
        LOG.info("ended %d connections of revoked rules", len(found))
        return True

    def _numbers(self, decision: Decision, rows: Iterable[Cut]) -> frozenset[int]:
        """The numbers of the rules, as long as no other rule has got them."""
        known = {id: n for earlier in self._decisions for n, id in earlier.rules.items()}
        found = {known.get(row.rule) or number([row.rule]) for row in rows}
        return frozenset(found - decision.rules.keys() - {0})

    def _complain(self, text: str) -> None:
        if text != self._trouble:
            self._trouble = text
            LOG.warning("cannot end connections of revoked rules yet: %s", text)
