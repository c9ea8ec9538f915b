# SPDX-License-Identifier: Apache-2.0
"""The read side: rows of the SG database as frozen records in memory, with indexes.

A transaction of the server becomes visible as a whole. Reading never waits and never touches the server.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from threading import RLock
from typing import Any, TypeAlias, cast

from sgctl.model import Row
from sgctl.store.columns import Kind, T, Table, tables

Changes: TypeAlias = frozenset[tuple[Kind, str]]
OnChange: TypeAlias = Callable[[Changes], None]
News: TypeAlias = Mapping[Kind, Mapping[str, Row | None]]


class Replica:
    """Records by kind and id; only `sgctl.store.database` writes to it.

    insync: every row that is wanted is here, as fresh as the connection allows. False while there is no connection;
    the records of the last one stay readable.
    """

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self.insync = self._announced = False
        self._lock = RLock()
        self._shelves = {kind: _Shelf(tables()[kind]) for kind in kinds}
        self._callbacks: tuple[OnChange, ...] = ()

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds that are replicated."""
        return tuple(self._shelves)

    def get(self, kind: type[T], id: str) -> T | None:
        """The record with this id, if there is one."""
        return cast("T | None", self._shelves[kind].rows.get(id))

    def all(self, kind: type[T]) -> list[T]:
        """All records of a kind, in no order."""
        with self._lock:
            return cast("list[T]", list(self._shelves[kind].rows.values()))

    def by_id(self, kind: type[T]) -> dict[str, T]:
        """All records of a kind by their ids; those that stay keep their order."""
        with self._lock:
            return cast("dict[str, T]", self._shelves[kind].rows.copy())

    def ids(self, kind: Kind) -> frozenset[str]:
        """The ids of all records of a kind."""
        with self._lock:
            return frozenset(self._shelves[kind].rows)

    def count(self, kind: Kind, **columns: Any) -> int:
        """How many records of a kind there are, or how many `find` would find; at once with one indexed column."""
        with self._lock:
            return self._shelves[kind].count(columns)

    def revision(self, kind: Kind) -> int:
        """Another number whenever a record of a kind has come, changed or gone."""
        return self._shelves[kind].revision

    def find(self, kind: type[T], **columns: Any) -> list[T]:
        """The records with these values; of a set column the value of one element is given.

        Fast where one of the columns is a reference, part of a unique index or in `EXTRA_INDEXES`.
        """
        with self._lock:
            return cast("list[T]", list(self._shelves[kind].find(columns)))

    def one(self, kind: type[T], **columns: Any) -> T | None:
        """The first record that `find` finds, or None."""
        return next(iter(self.find(kind, **columns)), None)

    def on_change(self, callback: OnChange) -> None:
        """Have `callback` called with the (kind, id) of records that came, changed or went.

        It is called on the connection's thread after the change is visible, so it must only take note. An empty set
        means that `insync` changed.
        """
        self._callbacks = (*self._callbacks, callback)

    def absorb(self, news: News) -> Changes:
        """Take over new records (None: gone); says which of them really differ."""
        with self._lock:
            return frozenset((kind, id) for kind, rows in news.items() for id in self._shelves[kind].apply(rows))

    def doubt(self) -> None:
        """Not in sync from now on; whoever listens will be told of the end of that, even if nothing has changed."""
        self.insync = self._announced = False

    def announce(self, changed: Changes) -> None:
        """Tell who listens, if something changed or `insync` turned."""
        turned, self._announced = self.insync != self._announced, self.insync
        if changed or turned:
            for callback in self._callbacks:
                callback(changed)


class _Shelf:
    """The records of one kind."""

    __slots__ = ("_indexes", "_sets", "revision", "rows")

    def __init__(self, table: Table) -> None:
        self.rows: dict[str, Row] = {}
        self.revision = 0
        self._indexes: dict[str, dict[Any, dict[str, Row]]] = {name: {} for name in table.indexed}
        self._sets = frozenset(column.name for column in table.columns.values() if column.is_set)

    def apply(self, news: Mapping[str, Row | None]) -> Iterator[str]:
        for id, new in news.items():
            old = self.rows.get(id)
            if old == new:
                continue
            self._index(id, old, new)
            if new is None:
                del self.rows[id]
            else:
                self.rows[id] = new
            self.revision += 1
            yield id

    def find(self, columns: Mapping[str, Any]) -> Iterator[Row]:
        nothing: dict[str, Row] = {}
        hits = [self._indexes[name].get(value, nothing) for name, value in columns.items() if name in self._indexes]
        rows = iter(min(hits, key=len, default=self.rows).values())
        if len(hits) == len(columns) == 1:
            return rows
        return (row for row in rows if all(self._has(row, name, value) for name, value in columns.items()))

    def count(self, columns: Mapping[str, Any]) -> int:
        indexes = [(self._indexes[name], value) for name, value in columns.items() if name in self._indexes]
        if not columns:
            return len(self.rows)
        if len(indexes) == len(columns) == 1:
            ((index, value),) = indexes
            return len(index.get(value, ()))
        return sum(1 for _ in self.find(columns))

    def _has(self, row: Row, name: str, value: Any) -> bool:
        held = getattr(row, name)
        return value in held if name in self._sets else bool(held == value)

    def _index(self, id: str, old: Row | None, new: Row | None) -> None:
        """Have a row found by what it says, in place of an older version of itself."""
        for name, index in self._indexes.items():
            before, after = self._keys(old, name), self._keys(new, name)
            for key in before:
                if key not in after:
                    del index[key][id]
                    if not index[key]:
                        del index[key]
            if new is not None:
                for key in after:
                    index.setdefault(key, {})[id] = new

    def _keys(self, row: Row | None, name: str) -> Collection[Any]:
        if row is None:
            return ()
        value = getattr(row, name)
        return value if name in self._sets else (value,)
