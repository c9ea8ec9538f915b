# SPDX-License-Identifier: Apache-2.0
"""What the applications of one process tell of how they are: whether they are ready, and metrics.

Whoever owns the admin port serves it: the agent, or the API where there is no agent.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest


class Health:
    """Filled by the applications while they start; the registry has memory, processor time and open files already."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._ready: dict[str, Callable[[], bool]] = {}

    def add(self, part: str, ready: Callable[[], bool]) -> None:
        """A part of the process that has to be ready."""
        self._ready[part] = ready

    def parts(self) -> dict[str, bool]:
        """Which parts are ready."""
        return {part: ready() for part, ready in self._ready.items()}

    def text(self) -> bytes:
        """The metrics in Prometheus' exposition format."""
        return generate_latest(self.registry)
