# SPDX-License-Identifier: Apache-2.0
"""Pure functions that remember their last results, so that an unchanged input costs a comparison.

Rows that have not changed are the same objects from one world to the next, and Python compares an object with itself
at once. So a whole table is compared in microseconds, and nothing needs to be told what has changed: results are those
of a computation from nothing (tests/unit/test_policy_worlds.py), only sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_NEVER = (object(),)


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
