# SPDX-License-Identifier: Apache-2.0
"""Pure functions that remember their last results, so that an unchanged input costs a comparison.

Rows that have not changed are the same objects from one world to the next, and Python compares an object with itself
at once. So a whole table is compared in microseconds, and nothing needs to be told what has changed: results are those
of a computation from nothing (tests/unit/test_policy_worlds.py), only sooner. Where only some values of a large table
differ, `difference` and `changes` find them without a step of the interpreter for each of the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, ValuesView
from itertools import chain, compress, count, zip_longest
from operator import is_not
from typing import Any, Generic, TypeVar
from weakref import ref

T = TypeVar("T")
_NEVER = (object(),)
_NOTHING: Mapping[str, Any] = {}


def difference(old: Collection[T], new: Collection[T]) -> tuple[list[T], list[T]]:
    """The old values and the new ones without those that both have, as the same objects, at their beginnings and ends.

    What is left of both may still have values in common.
    """
    if old is new:
        return [], []
    was, now = list(old), list(new)
    shorter = min(len(was), len(now))
    start = _same(was, now, shorter)
    end = min(_same(reversed(was), reversed(now), shorter), shorter - start)
    return was[start : len(was) - end], now[start : len(now) - end]


def _same(one: Iterable[T], other: Iterable[T], most: int) -> int:
    return next(compress(count(), map(is_not, one, other)), most)


def exchange(old: Collection[T], new: Collection[T]) -> tuple[list[T], list[T]]:
    """The values that have gone, and those that have come; of a changed one the old and the new object."""
    was, now = difference(old, new)
    before, after = set(map(id, was)), set(map(id, now))
    return [one for one in was if id(one) not in after], [one for one in now if id(one) not in before]


def changes(old: Mapping[str, T], new: Mapping[str, T]) -> tuple[list[T], list[T]]:
    """The same of tables' values."""
    if isinstance(old, Layers) and isinstance(new, Layers):
        return new.since(old)
    return exchange(old.values(), new.values())


class Layers(Mapping[str, T]):
    """Several tables as one; they have no key in common, and do not change any more.

    Of thousands of entries only those of tables that are not the same objects any more are compared.
    """

    __slots__ = ("__weakref__", "_since", "_tables")

    def __init__(self, *tables: Mapping[str, T]) -> None:
        self._tables = tables
        self._since: tuple[ref[Layers[T]], tuple[list[T], list[T]]] | None = None

    def __getitem__(self, key: str) -> T:
        for table in self._tables:
            if key in table:
                return table[key]
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._tables)

    def __len__(self) -> int:
        return sum(map(len, self._tables))

    def values(self) -> ValuesView[T]:
        """All values, none of them looked up."""
        return _Values(self)

    def plus(self, table: Mapping[str, T]) -> Layers[T]:
        """The same with one more table."""
        return Layers(*self._tables, table)

    def since(self, before: Layers[T]) -> tuple[list[T], list[T]]:
        """What `changes` says of both; known already if the last question was the same."""
        if self._since is None or self._since[0]() is not before:
            pairs = zip_longest(before._tables, self._tables, fillvalue=_NOTHING)
            parts = [changes(old, new) for old, new in pairs if old is not new]
            gone, come = (list(chain.from_iterable(part[side] for part in parts)) for side in (0, 1))
            self._since = ref(before), (gone, come)
        return self._since[1]


class _Values(ValuesView[T]):
    _mapping: Layers[T]

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(table.values() for table in self._mapping._tables)


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


class Along(Generic[T]):
    """A function that is called for each value of a sequence, and keeps the results of those that stay.

    It is also given tables, in which it must find what it looks up: so an entry that is new, or gone, concerns no value
    that has stayed, and only one that differs does.
    """

    __slots__ = ("_function", "_results", "_tables", "_values")

    def __init__(self, function: Callable[..., T]) -> None:
        self._function = function
        self._values: tuple[Any, ...] = ()
        self._results: tuple[T, ...] = ()
        self._tables: tuple[Mapping[Any, Any], ...] = ()

    def __call__(self, values: tuple[Any, ...], *tables: Mapping[Any, Any]) -> tuple[T, ...]:
        """The results in the order of the values; the same objects as before where they are equal."""
        if len(tables) != len(self._tables) or not all(map(_agree, self._tables, tables)):
            self._values, self._results = (), ()
        elif values is self._values:
            return self._results
        shorter = min(len(values), len(self._values))
        start = _same(self._values, values, shorter)
        end = min(_same(reversed(self._values), reversed(values), shorter), shorter - start)
        old = self._results[start : len(self._results) - end]
        made = [self._function(value, *tables) for value in values[start : len(values) - end]]
        if len(made) == len(old):
            made = [before if before == now else now for before, now in zip(old, made, strict=True)]
        self._results = (*self._results[:start], *made, *self._results[len(self._results) - end :])
        self._values, self._tables = values, tables
        return self._results


def _agree(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    """Whether what both tables have is equal."""
    return one is other or all(other.get(key, value) == value for key, value in one.items())


class Distinct(Generic[T]):
    """The distinct results of a function of many values (no object twice), None left out; only values that come or go
    are looked at.
    """

    __slots__ = ("_counts", "_function", "_results", "_values")

    def __init__(self, function: Callable[..., T | None]) -> None:
        self._function = function
        self._values: Collection[Any] = ()
        self._counts: Counter[T] = Counter()
        self._results: frozenset[T] = frozenset()

    def __call__(self, values: Collection[Any]) -> frozenset[T]:
        """The results; the same object as before if they are equal."""
        gone, come = exchange(self._values, values)
        self._values = values
        touched = {result for by, part in ((-1, gone), (1, come)) for result in self._count(part, by)}
        for result in touched:
            if not self._counts[result]:
                del self._counts[result]
        if any((result in self._counts) != (result in self._results) for result in touched):
            self._results = frozenset(self._counts)
        return self._results

    def _count(self, values: Iterable[Any], by: int) -> Iterator[T]:
        for result in map(self._function, values):
            if result is not None:
                self._counts[result] += by
                yield result


class Grouped(Generic[T]):
    """Values (no object twice) by what a function says of each, None left out; only values that come or go are looked
    at. For small groups: with each of these, the others of its group are copied.
    """

    __slots__ = ("_key", "_values", "groups")

    def __init__(self, key: Callable[[T], str | None]) -> None:
        self._key = key
        self._values: Collection[T] = ()
        self.groups: dict[str, tuple[T, ...]] = {}

    def follow(self, values: Collection[T]) -> set[str]:
        """Take over the values that there are now; the keys of those that have come or gone."""
        gone, come = exchange(self._values, values)
        self._values = values
        touched = set()
        for value in gone:
            if (key := self._key(value)) is not None:
                touched.add(key)
                rest = tuple(one for one in self.groups.pop(key) if one is not value)
                if rest:
                    self.groups[key] = rest
        for value in come:
            if (key := self._key(value)) is not None:
                touched.add(key)
                self.groups[key] = (*self.groups.get(key, ()), value)
        return touched


class Each(Generic[T]):
    """A function that is called for a set of keys, and keeps the result of each until its arguments differ."""

    __slots__ = ("_function", "_kept")

    def __init__(self, function: Callable[..., T]) -> None:
        self._function = function
        self._kept: dict[Any, tuple[tuple[Any, ...], T]] = {}

    def __call__(self, calls: Iterable[tuple[Any, tuple[Any, ...]]]) -> list[T]:
        """The results of all these (key, arguments), in their order; what other keys had is forgotten."""
        old, kept = self._kept, dict[Any, tuple[tuple[Any, ...], T]]()
        results = []
        for key, arguments in calls:
            entry = old.get(key)
            if entry is None or entry[0] != arguments:
                entry = (arguments, self._function(*arguments))
            kept[key] = entry
            results.append(entry[1])
        self._kept = kept
        return results
