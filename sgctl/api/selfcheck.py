# SPDX-License-Identifier: Apache-2.0
"""An API server's look, now and then, at whether the rows of the database agree with each other."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge

from sgctl.api.listing import breathing
from sgctl.contradictions import Contradiction, contradictions
from sgctl.store import Replica

LOG = logging.getLogger(__name__)

_EVERY = 600.0
_PAUSE = 10.0
_NAMED = 20


class SelfCheck:
    """What contradicts others in a replica; `sgctl_contradictions` in the metrics, and a warning for each.

    pause: waits before rows that seem to contradict are looked at again. Others write while rows are looked at, so that
    only what is still the same then counts.
    """

    def __init__(
        self, reads: Replica, registry: CollectorRegistry, *, pause: Callable[[], None] = lambda: time.sleep(_PAUSE)
    ) -> None:
        self._reads, self._pause = reads, pause
        self._known: frozenset[Contradiction] = frozenset()
        self._gauge = Gauge(
            "sgctl_contradictions",
            "Rows of the SG database that contradict others, named by `sgctl-db check`.",
            registry=registry,
        )

    def look(self) -> frozenset[Contradiction]:
        """What contradicts; of nothing, if the replica is not in sync, what did the last time."""
        if not self._reads.insync:
            return self._known
        found = self._seen()
        if found:
            self._pause()
            found &= self._seen()
        self._tell(found)
        return found

    def _seen(self) -> frozenset[Contradiction]:
        return frozenset(contradictions(self._reads, breathing))

    def _tell(self, found: frozenset[Contradiction]) -> None:
        new = sorted(found - self._known)
        for one in new[:_NAMED]:
            LOG.warning("contradiction in the database: %s", one)
        if len(new) > _NAMED:
            LOG.warning("and %d more contradictions; `sgctl-db check` names all", len(new) - _NAMED)
        if self._known and not found:
            LOG.info("no contradiction in the database any more")
        self._known = found
        self._gauge.set(len(found))


def check_forever(check: SelfCheck) -> None:
    """Look every ten minutes or so, at a time of its own for each server."""
    while True:
        time.sleep(random.uniform(0.5, 1.5) * _EVERY)
        check.look()
