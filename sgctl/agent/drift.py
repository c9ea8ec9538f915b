# SPDX-License-Identifier: Apache-2.0
"""Noticing soon that somebody else has added or deleted flows: the switch counts them by table at hardly any cost.

Whoever exchanges flows for as many others is found by their cookies, which are read again part by part, all of them
within about a minute, so that nobody waits for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import cycle
from time import monotonic

from flows.tables import BY_ID, DHCP_WAITING, HOLDER, RESUMED, RESUMED_RECEIVER, RESUMED_SENDER
from sgctl.openflow.compare import Part, parts
from sgctl.openflow.replies import Installed

EVERY = 2.0
"""Seconds between two looks."""
PARTS = parts(32)
"""One of them is read at each look."""
EXPIRING = frozenset({HOLDER.id, DHCP_WAITING.id, RESUMED.id, RESUMED_RECEIVER.id, RESUMED_SENDER.id})
"""Tables whose flows come or go by themselves."""


class Census:
    """How many flows there are in each table, as they were last read; cookies alone cannot tell foreign ones apart."""

    def __init__(self) -> None:
        self._more: Counter[int] = Counter()
        self._looked = 0.0
        self._parts = cycle(PARTS)

    @property
    def left(self) -> float:
        """Seconds until it is time for another look."""
        return self._looked + EVERY - monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time for another look."""
        return self.left <= 0

    @property
    def overdue(self) -> bool:
        """Whether it has been for as long again."""
        return self.left <= -EVERY

    def next(self) -> Part:
        """The part of all flows whose cookies are to be read now."""
        return next(self._parts)

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


def exchanged(part: Part, found: Iterable[Installed], cookies: Mapping[int, int]) -> str:
    """How many of a part's flows have gone, and come, in words."""
    seen = {flow.cookie for flow in found if flow.table not in EXPIRING}
    mask, value = part
    known = {cookie for cookie, table in cookies.items() if cookie & mask == value and table not in EXPIRING}
    return f"{len(known - seen)} have gone, {len(seen - known)} have come" if seen != known else ""
