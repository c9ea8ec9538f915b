# SPDX-License-Identifier: Apache-2.0
"""How soon what costs packets time may be done again."""

from __future__ import annotations

from time import monotonic

from sgctl.model import Handover, Nic
from sgctl.store import Changes

SHARE = 0.1
"""Part of the time that it may take in the long run."""
AT_ONCE = 0.05
"""Seconds that it may take without a pause, so that a few changes after one another are as fast as one."""
LONGEST = 1.0
"""Seconds that a pause lasts at most, though more than its share is taken then."""

_URGENT = frozenset({Handover, Nic})


def urgent(changes: Changes) -> bool:
    """Whether changes of the database do not wait: a NIC may be active elsewhere now, and must not be here as well.

    Rules and members may come in floods.
    """
    return any(kind in _URGENT for kind, _ in changes)


class Pace:
    """Counts what has been taken, and forgets it as time passes."""

    def __init__(self) -> None:
        self._taken, self._counted = 0.0, monotonic()

    def take(self, seconds: float) -> None:
        """It has been done, and has taken so long."""
        self._taken = min(self._now() + seconds, AT_ONCE + SHARE * LONGEST)
        self._counted = monotonic()

    @property
    def left(self) -> float:
        """Seconds until it may be done again."""
        return max(0.0, self._now() - AT_ONCE) / SHARE

    def _now(self) -> float:
        return max(0.0, self._taken - SHARE * (monotonic() - self._counted))
