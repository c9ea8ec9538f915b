# SPDX-License-Identifier: Apache-2.0
"""Python's cyclic garbage collector, kept out of the way of work that makes a hundred thousand values and no cycles.

It would look at all of them again and again: half of the time of a large load, and pauses of 40 ms afterwards.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector meanwhile."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def keep() -> None:
    """What is there now is going to stay: the collector need not look at it any more."""
    gc.freeze()
