# SPDX-License-Identifier: Apache-2.0
"""Numbers for registers, derived from content: the same things get the same numbers in any process at any time."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from itertools import count


def number(keys: Iterable[str], salt: int = 0) -> int:
    """32 bits of a digest of the sorted keys; may be 0."""
    data = f"{salt} {' '.join(sorted(keys))}".encode()
    return int.from_bytes(blake2b(data, digest_size=4).digest(), "big")


def assign(sets: Iterable[frozenset[str]]) -> dict[frozenset[str], int]:
    """A number for each of these sets of ids, none 0, no two equal.

    Where digests collide, the set that sorts first keeps its digest and the next is salted.
    """
    taken: dict[int, frozenset[str]] = {}
    for keys in sorted(set(sets), key=sorted):
        free = next(n for salt in count() if (n := number(keys, salt)) and n not in taken)
        taken[free] = keys
    return {keys: n for n, keys in taken.items()}
