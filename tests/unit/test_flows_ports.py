# SPDX-License-Identifier: Apache-2.0
"""Ranges of ports as masks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.ports import PORT_MAX, masks

PORT = st.integers(0, PORT_MAX)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (80, 80, ((80, 0xFFFF),)),
        (0, 0, ((0, 0xFFFF),)),
        (0, PORT_MAX, ((0, 0),)),
        (80, 83, ((80, 0xFFFC),)),
        (1, 4, ((1, 0xFFFF), (2, 0xFFFE), (4, 0xFFFF))),
        (32768, PORT_MAX, ((32768, 0x8000),)),
    ],
)
def test_examples(first: int, last: int, expected: tuple[tuple[int, int], ...]) -> None:
    assert masks(first, last) == expected


def test_worst_range() -> None:
    assert len(masks(1, PORT_MAX - 1)) == 30


@given(PORT, PORT)
def test_blocks_are_the_range(one: int, other: int) -> None:
    first, last = sorted((one, other))
    at = first
    for value, mask in masks(first, last):
        assert value == at and not value & ~mask
        at += PORT_MAX + 1 - mask
    assert at == last + 1


@given(PORT, PORT, PORT)
def test_matches_what_is_in_the_range(one: int, other: int, port: int) -> None:
    first, last = sorted((one, other))
    assert any(port & mask == value for value, mask in masks(first, last)) == (first <= port <= last)


@pytest.mark.parametrize(("first", "last"), [(2, 1), (-1, 5), (0, PORT_MAX + 1)])
def test_impossible_ranges(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="no port range"):
        masks(first, last)
