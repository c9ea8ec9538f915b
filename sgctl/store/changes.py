# SPDX-License-Identifier: Apache-2.0
"""What can be written: changes and guards, as OVSDB operations (RFC 7047, section 5.2), and errors as exceptions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sgctl.errors import Conflict, Referenced, Stale, StoreError, Unavailable
from sgctl.model import Row
from sgctl.store.columns import Json, Kind, tables, where


@dataclass(frozen=True, slots=True)
class Insert:
    """Add a row; its id is the record's."""

    record: Row


@dataclass(frozen=True, slots=True)
class Update:
    """Set some columns of a row that must exist."""

    kind: Kind
    id: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a row that must exist."""

    kind: Kind
    id: str


@dataclass(frozen=True, slots=True)
class Guard:
    """Write only if this row exists and its columns have these values."""

    kind: Kind
    id: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Absent:
    """Write only if no row has this value in a column; the server looks at every row of the table."""

    kind: Kind
    column: str
    value: Any


Condition: TypeAlias = Guard | Absent
Change: TypeAlias = Insert | Update | Delete
Operation: TypeAlias = dict[str, Json]

_SAME_VALUES = re.compile(r'rows in "(\w+)" table to have identical values .* for index on columns? (.*?)\.')
_STILL_USED = re.compile(r"cannot delete (\w+) row \S+ because of \d+ remaining reference")
#: Errors that are the server's condition, not the transaction's content.
_SERVERS_OWN = frozenset({"I/O error", "cluster error", "not leader", "canceled", "unknown database", "not allowed"})


def operations(changes: Sequence[Change], guards: Sequence[Condition] = (), comment: str = "") -> list[Operation]:
    """One transaction: guards first, then the changes, then the demand that it be on disk before the answer."""
    remark: list[Operation] = [{"op": "comment", "comment": comment}] if comment else []
    return [*map(_guard, guards), *(op for change in changes for op in _change(change)), *remark, _DURABLE]


_DURABLE: Operation = {"op": "commit", "durable": True}


def _guard(guard: Condition) -> Operation:
    table = tables()[guard.kind]
    if isinstance(guard, Absent):
        where_ = [[guard.column, "==", table.columns[guard.column].encode(guard.value)]]
        empty = {"columns": ["_uuid"], "until": "==", "rows": []}
        return {"op": "wait", "timeout": 0, "table": guard.kind.TABLE, "where": where_} | empty
    if not guard.values:
        return _exists(guard.kind, guard.id)
    row = table.some(guard.values)
    return _wait(guard.kind, guard.id) | {"columns": sorted(row), "until": "==", "rows": [row]}


def _wait(kind: Kind, id: str) -> Operation:
    return {"op": "wait", "timeout": 0, "table": kind.TABLE, "where": where(id)}


def _exists(kind: Kind, id: str) -> Operation:
    """That there is such a row: what is found must differ from nothing."""
    return _wait(kind, id) | {"columns": ["_uuid"], "until": "!=", "rows": []}


def _change(change: Change) -> Iterator[Operation]:
    match change:
        case Insert(record):
            row = tables()[type(record)].row(record)
            yield {"op": "insert", "table": record.TABLE, "uuid": record.id, "row": row}
        case Update(kind, id, values):
            yield _exists(kind, id)
            yield {"op": "update", "table": kind.TABLE, "where": where(id), "row": tables()[kind].some(values)}
        case Delete(kind, id):
            yield _exists(kind, id)
            yield {"op": "delete", "table": kind.TABLE, "where": where(id)}


def check(sent: Sequence[Operation], results: Json) -> None:
    """Raise what the answer to a transaction says went wrong.

    The answer has one element per operation, up to the one that failed, and one more if committing failed.
    """
    for index, result in enumerate(results):
        if isinstance(result, dict) and "error" in result:
            raise _exception(sent[index] if index < len(sent) else {}, result["error"], result.get("details", ""))


def _exception(operation: Operation, error: str, details: str) -> StoreError:
    table = str(operation.get("table", ""))
    if error == "timed out":
        named = operation["where"][0][2]
        about = named[1] if isinstance(named, list) else named
        return Stale(f"{table} {about} is not there, or not as expected, any more")
    if error == "duplicate uuid":
        return Conflict(f"a {table} with id {operation['uuid']} exists already", table, ("_uuid",))
    if same := _SAME_VALUES.search(details):
        return Conflict(f"{same[1]}: {details}", same[1], tuple(re.findall(r'"(\w+)"', same[2])))
    if used := _STILL_USED.search(details):
        return Referenced(f"{used[1]}: {details}", used[1])
    if error == "referential integrity violation":
        return Stale(details)
    if error in _SERVERS_OWN:
        # A relay says of what it has passed on that it is canceled, if it loses the database before that has answered.
        return Unavailable(f"the database cannot write now: {error} {details}".rstrip(), uncertain=error == "canceled")
    return StoreError(f"the database refused: {error} {details}".rstrip())
