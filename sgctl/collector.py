# SPDX-License-Identifier: Apache-2.0
"""Python's cyclic garbage collector, kept out of the way of work that makes a hundred thousand values and no cycles.

It would look at all of them again and again: half of the time of a large load, and pauses of 40 to 70 ms afterwards.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

BULK = 2000
"""Values that are made at once by a load, and not by an event."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector meanwhile; what has been made is going to stay, if it is much."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] > BULK:
            keep()
        if enabled:
            gc.enable()


def keep() -> None:
    """What is there now is going to stay: the collector need not look at it any more."""
    gc.freeze()
