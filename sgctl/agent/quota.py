# SPDX-License-Identifier: Apache-2.0
"""Keeping a few VMs from filling the table of connections that all of a bridge share.

How full it is, the switch tells at hardly any cost. Whose the connections are takes a look at each of them, which is
taken only when the table is half full, and not more often than it is worth: ovs-vswitchd does nothing else meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from time import monotonic, sleep

from flows.inputs import ZONE, Bridge, Overdrawn, Port, Unit
from flows.pipeline import build
from flows.tables import COMMIT, STATE
from sgctl.agent.applied import Applied
from sgctl.agent.metrics import Metrics
from sgctl.openflow.conntrack import ConntrackReader
from sgctl.openflow.errors import SwitchError
from sgctl.overdraft import Owners, Quota
from sgctl.protection import Protection
from sgctl.reconcile import scope
from sgctl.world import Decision, Overdraft

LOG = logging.getLogger(__name__)
EVERY = 1.0
"""Seconds between two looks at how full the table is."""
RECOUNT = 5.0
COST = 30
"""Connections are counted again after so many seconds, and after so many times as long as it has taken, ..."""
HASTE = 3
"""... or after so many times as long, where a quota's worth of connections has come since."""


class Quotas:
    """Follows one bridge's connections; `overdrafts` are the NICs that have too many."""

    def __init__(self, protection: Protection, reader: ConntrackReader, metrics: Metrics) -> None:
        self._quota = Quota(protection.quota, protection.connections)
        self._reader, self._metrics = reader, metrics
        self._counted, self._took, self._used = float("-inf"), 0.0, 0
        self._trouble = ""
        self.overdrafts: Mapping[str, Overdraft] = {}

    def adopt(self, decision: Decision, installed: Collection[int]) -> Mapping[str, Overdraft]:
        """At the start: those count as over their quota whom the switch holds to it, until they have been counted."""
        bridge = decision.units.get("bridge")
        if self.overdrafts or not self._quota.most or not isinstance(bridge, Bridge):
            return self.overdrafts
        found = {}
        for port in (unit for unit in decision.units.values() if isinstance(unit, Port)):
            unit = Overdrawn(port.nic, port.number, opened=True, accepted=True)
            tables = {flow.table for flow in build(unit, bridge, scope(unit.owner)) if flow.cookie in installed}
            if tables:
                found[port.nic] = Overdraft(opened=STATE.id in tables, accepted=COMMIT.id in tables)
        self.overdrafts = found
        return found

    def run(self, applied: Callable[[], Applied | None], wake: Callable[[], None]) -> None:
        """Work until the process ends."""
        if not self._quota.room:
            return
        while True:
            sleep(EVERY)
            try:
                found = self._look(applied())
                self._trouble = ""
            except SwitchError as error:
                self._complain(str(error))
                continue
            if found != self.overdrafts:
                self._tell(found)
                self.overdrafts = found
                wake()

    def _look(self, applied: Applied | None) -> Mapping[str, Overdraft]:
        used = self._reader.used(ZONE)
        self._metrics.connections.set(used)
        if not self._quota.most or not self._quota.pressing(used, before=bool(self.overdrafts)):
            return {}
        if applied is None or not self._due(used):
            return self.overdrafts
        counts = self._count(applied.decision.units.values())
        self._used = used
        found = self._quota.judge(used, counts, self.overdrafts)
        for nic in found.keys() - self.overdrafts.keys():
            LOG.warning("NIC %s has opened %d connections and accepted %d from outside, with a quota of %d: %d of %d "
                        "are in use", nic, *counts[nic], self._quota.now(used), used, self._quota.room)  # fmt: skip
        return found

    def _count(self, units: Iterable[Unit]) -> dict[str, tuple[int, int]]:
        """What each NIC has opened, and accepted from outside."""
        owners = Owners(unit for unit in units if isinstance(unit, Port))
        started = monotonic()
        opened, accepted = self._reader.tally(ZONE, owners.of)
        self._counted, self._took = monotonic(), monotonic() - started
        return {nic: (opened[nic], accepted[nic]) for nic in opened.keys() | accepted.keys()}

    def _due(self, used: int) -> bool:
        """Whether it is time to count."""
        since = monotonic() - self._counted
        more = used - self._used >= self._quota.now(used)
        return since >= (HASTE * self._took if more else max(RECOUNT, COST * self._took))

    def _tell(self, found: Mapping[str, Overdraft]) -> None:
        self._metrics.overdrawn.set(len(found))
        for nic in self.overdrafts.keys() - found.keys():
            LOG.info("NIC %s is within its quota of connections again", nic)

    def _complain(self, text: str) -> None:
        """Log once; quotas stay as they are."""
        if text != self._trouble:
            self._trouble = text
            LOG.warning("connections are not counted: %s", text)
