# SPDX-License-Identifier: Apache-2.0
"""What the switch has learned of virtual MACs that nobody here may hold any more.

It deletes that by itself with the last flow by which it learns it. But what its cached flows have been used for it
accounts for when these go (`sgctl.agent.renewals`), and with that learns once more what is then nobody's.
"""

from __future__ import annotations

from collections.abc import Iterable

from flows.inputs import Virtual
from flows.learned import DHCP, learned
from flows.stages.virtual import holders
from flows.tables import HOLDER, VIRTUAL_GUARD
from sgctl.reconcile import Plan
from sgctl.world import Decision


def left(
    before: Decision | None, after: Decision, todo: Plan, installed: Iterable[int]
) -> tuple[tuple[int, int], ...]:
    """(cookie, table) of what may have been learned and is nobody's after a change; `before`: None at the start."""
    if before is None:
        known = {cookie for cookie in installed if learned(cookie)} - {DHCP}
    elif any(table == VIRTUAL_GUARD.id for _, table in todo.deletes):
        known = _cookies(before)
    else:
        return ()
    return tuple((cookie, HOLDER.id) for cookie in sorted(known - _cookies(after)))


def _cookies(decision: Decision) -> set[int]:
    units = (unit for unit in decision.units.values() if isinstance(unit, Virtual))
    return {flow.cookie for unit in units for flow in holders(unit)}
