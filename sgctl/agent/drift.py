# SPDX-License-Identifier: Apache-2.0
"""Noticing soon that somebody else has added or deleted flows: the switch counts them by table at hardly any cost.

Whoever exchanges flows for as many others is found by the writer's slower reading of all cookies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from time import monotonic

from flows.tables import BY_ID, DHCP_WAITING, RESUMED, RESUMED_RECEIVER, RESUMED_SENDER
from sgctl.openflow.replies import Installed

EVERY = 2.0
"""Seconds between two looks."""
EXPIRING = frozenset({DHCP_WAITING.id, RESUMED.id, RESUMED_RECEIVER.id, RESUMED_SENDER.id})
"""Tables whose flows come or go by themselves."""


class Census:
    """How many flows there are in each table, as they were last read; cookies alone cannot tell foreign ones apart."""

    def __init__(self) -> None:
        self._more: Counter[int] = Counter()
        self._looked = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time for another look."""
        return monotonic() - self._looked >= EVERY

    def take(self, seen: Iterable[Installed], cookies: Mapping[int, int]) -> None:
        """Remember what has been read: all flows, and the table of each cookie."""
        self._more = Counter(flow.table for flow in seen)
        self._more.subtract(cookies.values())
        self._looked = monotonic()

    def compare(self, found: Mapping[int, int], cookies: Mapping[int, int]) -> str:
        """Which tables do not have the flows that they should, in words."""
        self._looked = monotonic()
        expected = Counter(cookies.values())
        expected.update(self._more)
        wrong = [table for table in sorted(expected.keys() | found.keys()) if expected[table] != found.get(table, 0)]
        return ", ".join(
            f"{BY_ID[table].name if table in BY_ID else table} has {found.get(table, 0)}, not {expected[table]}"
            for table in wrong
            if table not in EXPIRING
        )
