# SPDX-License-Identifier: Apache-2.0
"""Pure functions that remember their last results, so that an unchanged input costs a comparison.

Rows that have not changed are the same objects from one world to the next, and Python compares an object with itself
at once. So a whole table is compared in microseconds, and nothing needs to be told what has changed: results are those
of a computation from nothing (tests/unit/test_policy_worlds.py), only sooner. Where only some values of a large table
differ, `difference` and `changes` find them without a step of the interpreter for each of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from itertools import compress, count
from operator import is_not
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_NEVER = (object(),)


def difference(old: Collection[T], new: Collection[T]) -> tuple[list[T], list[T]]:
    """The old values and the new ones without those that both have, as the same objects, at their beginnings and ends.

    What is left of both may still have values in common.
    """
    was, now = list(old), list(new)
    shorter = min(len(was), len(now))
    start = _same(was, now, shorter)
    end = min(_same(reversed(was), reversed(now), shorter), shorter - start)
    return was[start : len(was) - end], now[start : len(now) - end]


def _same(one: Iterable[T], other: Iterable[T], most: int) -> int:
    return next(compress(count(), map(is_not, one, other)), most)


def changes(old: Mapping[str, T], new: Mapping[str, T]) -> tuple[list[T], list[T]]:
    """The values that have gone, and those that have come; of a changed one the old and the new object."""
    was, now = difference(old.values(), new.values())
    before, after = set(map(id, was)), set(map(id, now))
    return [one for one in was if id(one) not in after], [one for one in now if id(one) not in before]


class Last(Generic[T]):
    """A function that keeps its last result until its arguments differ."""

    __slots__ = ("_arguments", "_function", "_result")

    def __init__(self, function: Callable[..., T]) -> None:
        self._function = function
        self._arguments: tuple[Any, ...] = _NEVER
        self._result: T | None = None

    def __call__(self, *arguments: Any) -> T:
        """The function's result; the same object as before if the arguments are equal to the former ones."""
        if arguments != self._arguments:
            self._result = self._function(*arguments)
            self._arguments = arguments
        return self._result  # type: ignore[return-value]


class Each(Generic[T]):
    """A function that is called for a set of keys, and keeps the result of each until its arguments differ."""

    __slots__ = ("_function", "_kept")

    def __init__(self, function: Callable[..., T]) -> None:
        self._function = function
        self._kept: dict[Hashable, tuple[tuple[Any, ...], T]] = {}

    def __call__(self, calls: Iterable[tuple[Hashable, tuple[Any, ...]]]) -> list[T]:
        """The results of all these (key, arguments), in their order; what other keys had is forgotten."""
        old, kept = self._kept, dict[Hashable, tuple[tuple[Any, ...], T]]()
        results = []
        for key, arguments in calls:
            entry = old.get(key)
            if entry is None or entry[0] != arguments:
                entry = (arguments, self._function(*arguments))
            kept[key] = entry
            results.append(entry[1])
        self._kept = kept
        return results
