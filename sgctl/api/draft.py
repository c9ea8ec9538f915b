# SPDX-License-Identifier: Apache-2.0
"""What one command reads and is about to write: the replica with the command's own changes on top.

A command works on a draft; its changes then go to the database as one transaction, guarded by the values that they
replace. If somebody else was faster, the command is simply run again on a new draft.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, TypeVar

from sgctl.model import Record, Row
from sgctl.store import Change, Condition, Delete, Guard, Insert, Update

R = TypeVar("R", bound=Record)


class Reads(Protocol):
    """The read side of a database: `sgctl.store.Replica`, and a draft itself."""

    def get(self, kind: type[R], id: str) -> R | None:
        """The row with this id."""

    def all(self, kind: type[R]) -> Iterable[R]:
        """Every row of a table."""

    def find(self, kind: type[R], **columns: Any) -> list[R]:
        """The rows whose columns have these values; of a set column one element is given."""

    def count(self, kind: type[R], **columns: Any) -> int:
        """How many rows `find` would find; fast where one indexed column is given."""


@dataclass(slots=True)
class _Edit:
    before: Any
    after: Any


class Draft:
    """Reads like its base, but with what was inserted, updated and deleted here."""

    def __init__(self, base: Reads) -> None:
        self._base = base
        self._edits: dict[type[Row], dict[str, _Edit]] = {}
        self._conditions: list[Condition] = []

    def get(self, kind: type[R], id: str) -> R | None:
        """The row with this id, None if there is none (any more)."""
        edit = self._edits.get(kind, {}).get(id)
        return edit.after if edit else self._base.get(kind, id)

    def all(self, kind: type[R]) -> list[R]:
        """Every row of a table."""
        return self._over(kind, self._base.all(kind), {})

    def find(self, kind: type[R], **columns: Any) -> list[R]:
        """The rows whose columns have these values."""
        return self._over(kind, self._base.find(kind, **columns), columns)

    def count(self, kind: type[R], **columns: Any) -> int:
        """How many rows have these values."""
        edits = self._edits.get(kind, {}).values()
        fits = [[_fits(row, columns) for row in (edit.before, edit.after)] for edit in edits]
        return self._base.count(kind, **columns) + sum(after - before for before, after in fits)

    def _over(self, kind: type[R], rows: Iterable[R], columns: dict[str, Any]) -> list[R]:
        edits = self._edits.get(kind)
        if not edits:
            return list(rows)
        edited: list[R] = [edit.after for edit in edits.values() if edit.after is not None]
        kept = [row for row in rows if row.id not in edits]
        return kept + [row for row in edited if _fits(row, columns)]

    def insert(self, row: R) -> R:
        """Add `row`."""
        self._edit(row, row, before=None)
        return row

    def update(self, row: R, **columns: Any) -> R:
        """Give columns of `row`, which was read here, new values; the row as it is then."""
        changed = replace(row, **columns)
        self._edit(row, changed, before=row)
        return changed

    def delete(self, row: Record) -> None:
        """Remove `row`."""
        self._edit(row, None, before=row)

    def _edit(self, row: Record, after: Record | None, *, before: Record | None) -> None:
        edits = self._edits.setdefault(type(row), {})
        known = edits.get(row.id)
        edits[row.id] = _Edit(known.before if known else before, after)

    def touched(self, kind: type[R]) -> list[R]:
        """The rows of a table that are inserted, changed or deleted here, as they were and as they are."""
        edits = self._edits.get(kind, {}).values()
        return [row for edit in edits for row in (edit.before, edit.after) if row is not None]

    def inserted(self, kind: type[R]) -> list[R]:
        """The rows of a table that are new here."""
        edits = self._edits.get(kind, {}).values()
        return [edit.after for edit in edits if edit.before is None and edit.after is not None]

    def demand(self, condition: Condition) -> None:
        """Write only if this still holds then, too."""
        if condition not in self._conditions:
            self._conditions.append(condition)

    def changes(self) -> tuple[list[Change], list[Condition]]:
        """What is to be written, and the values that must still be there for it to make sense."""
        changes: list[Change] = []
        guards = list(self._conditions)
        for kind, edits in self._edits.items():
            for id, edit in edits.items():
                if edit.before is None and edit.after is not None:
                    changes.append(Insert(edit.after))
                elif edit.before is not None and edit.after is None:
                    changes.append(Delete(kind, id))
                elif edit.before != edit.after:
                    new = _differences(edit.before, edit.after)
                    changes.append(Update(kind, id, new))
                    guards.append(Guard(kind, id, {name: getattr(edit.before, name) for name in new}))
        return changes, guards


def _fits(row: Record | None, columns: dict[str, Any]) -> bool:
    return row is not None and all(_has(row, name, value) for name, value in columns.items())


def _has(row: Record, name: str, value: Any) -> bool:
    held = getattr(row, name)
    return value in held if isinstance(held, frozenset) else bool(held == value)


def _differences(before: Record, after: Record) -> dict[str, Any]:
    pairs = ((field.name, getattr(before, field.name), getattr(after, field.name)) for field in fields(before))
    return {name: new for name, old, new in pairs if old != new}
