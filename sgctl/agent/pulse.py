# SPDX-License-Identifier: Apache-2.0
"""When the agent's next heartbeat is due."""

from __future__ import annotations

from random import uniform
from time import monotonic

_JITTER = 0.1
"""By which part of the interval two heartbeats may be nearer or farther."""
_FIRST = 0.05
"""The least part of the interval that may pass before the second heartbeat."""


class Pulse:
    """At once, then at intervals that vary, so that agents that have started together do not stay together."""

    def __init__(self) -> None:
        self._due: float | None = None

    @property
    def left(self) -> float:
        """Seconds until the next one; none or fewer if it is due."""
        return 0.0 if self._due is None else self._due - monotonic()

    def beaten(self, interval: int) -> None:
        """There has been one; the next is due in about `interval` milliseconds, the second at any time until then.

        One that came early, for another reason, counts for nothing: all who answer a barrier would be together then.
        """
        if self.left > 0:
            return
        least, most = (_FIRST, 1.0) if self._due is None else (1 - _JITTER, 1 + _JITTER)
        self._due = monotonic() + interval / 1000 * uniform(least, most)
