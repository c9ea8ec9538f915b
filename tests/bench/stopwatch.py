# SPDX-License-Identifier: Apache-2.0
"""How an event is measured, whoever's it is.

wall: from the call until the switch itself announces the last changed flow, which it does when it commits them.
cpu: of all processes from the call until everything is quiet, less what they use when idle.  Both in milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.bench.hypervisor import PATIENCE, Hypervisor

IDLE_SECONDS = 5.0


@dataclass(slots=True)
class Sample:
    """One measurement; `parts` are times (ms) or numbers of something within or beside `wall`."""

    wall: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    mods: dict[str, int] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)


class Stopwatch:
    """Of one hypervisor. quiet: seconds without a change of flows after which an event is over."""

    def __init__(self, hypervisor: Hypervisor, quiet: float) -> None:
        self.quiet = quiet
        self._hypervisor = hypervisor
        self.idle: dict[str, float] = {}
        self.watch = hypervisor.watch()

    @contextmanager
    def timed(self, samples: list[Sample], *, quiet: float | None = None) -> Iterator[Sample]:
        """What happens within, until the switch is quiet."""
        sample, watch = Sample(), self.watch
        watch.reset()
        before, started = self._hypervisor.cpu(), time.perf_counter()
        yield sample
        sample.parts["call"] = 1000 * (time.perf_counter() - started)
        watch.settle(quiet or self.quiet, timeout=2 * PATIENCE)
        span, after = time.perf_counter() - started, self._hypervisor.cpu()
        sample.wall = 1000 * (watch.last - started)
        sample.mods = dict(watch.counts)
        sample.cpu = {
            name: 1000 * (used - before[name] - span * self.idle.get(name, 0.0)) for name, used in after.items()
        }
        samples.append(sample)

    def settle(self) -> None:
        """Wait until no flows change any more, if they do at all."""
        time.sleep(self.quiet)
        self.watch.settle(self.quiet, timeout=2 * PATIENCE, expected=False)

    def measure_idle(self) -> None:
        """Learn what the processes use when nothing happens."""
        before = self._hypervisor.cpu()
        time.sleep(IDLE_SECONDS)
        self.idle = {name: (used - before[name]) / IDLE_SECONDS for name, used in self._hypervisor.cpu().items()}

    def anew(self) -> None:
        """The switch has been restarted."""
        self.watch.close()
        self.watch = self._hypervisor.watch()
