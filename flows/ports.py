# SPDX-License-Identifier: Apache-2.0
"""Ranges of 16-bit ports as the fewest pairs of value and mask that match exactly them."""

from __future__ import annotations

PORT_MAX = 0xFFFF


def masks(first: int, last: int) -> tuple[tuple[int, int], ...]:
    """The aligned blocks, in ascending order, that the range `first` to `last` (both included) consists of.

    At most 30 of them; the whole range is ``((0, 0),)``.  Raises ValueError for an empty or impossible range.
    """
    if not 0 <= first <= last <= PORT_MAX:
        raise ValueError(f"no port range: {first}-{last}")
    blocks = []
    while first <= last:
        size = first & -first or PORT_MAX + 1
        while size > last - first + 1:
            size >>= 1
        blocks.append((first, PORT_MAX + 1 - size))
        first += size
    return tuple(blocks)
