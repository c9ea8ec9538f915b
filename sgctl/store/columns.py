# SPDX-License-Identifier: Apache-2.0
"""The SG schema as the store uses it: how each column of a record is written in OVSDB's JSON and read from it.

The wire format is RFC 7047's with the "update2" notation of ovsdb-server(7): an inserted row leaves out columns with
default values, and a modified row gives the new value of a scalar or optional column but the *difference* of a set.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias, TypeVar

from sgctl.model import TABLES, Row

Json: TypeAlias = Any
Kind: TypeAlias = type[Row]
T = TypeVar("T", bound=Row)

SCHEMA_NAME = "SG"
SCHEMA_FILE = files("sgctl") / "sg.ovsschema"
EXTRA_INDEXES = {"NIC": ("host",), "Allowance": ("mac",), "Handover": ("host",), "Job": ("status",), "VM": ("name",)}
_DEFAULTS: dict[str, Json] = {"string": "", "integer": 0, "boolean": False}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `default` is what the server means when it leaves the column out."""

    name: str
    default: Json
    is_set: bool
    encode: Callable[[Any], Json]
    decode: Callable[[Json], Any]


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the schema and the kind of record that its rows become."""

    kind: Kind
    columns: Mapping[str, Column]
    indexed: tuple[str, ...]
    defaults: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The table's name in the database."""
        return self.kind.TABLE

    def insert(self, id: str, row: Mapping[str, Json]) -> Row:
        """The record of a row that the server shows for the first time."""
        values = dict(self.defaults)
        for name, value in row.items():
            values[name] = self.columns[name].decode(value)
        return self.kind(id=id, **values)

    def changed(self, id: str, old: Row | None, update: Mapping[str, Json]) -> Row | None:
        """The record after a row update in update2 notation; None if the row went."""
        if old is not None and "modify" in update:
            return self.modify(old, update["modify"])
        row = update["insert"] if "insert" in update else update.get("initial")
        return None if row is None else self.insert(id, row)

    def modify(self, old: Row, row: Mapping[str, Json]) -> Row:
        """The record after a modification in update2 notation."""
        values = {name: getattr(old, name) for name in self.columns}
        for name, value in row.items():
            column = self.columns[name]
            new = column.decode(value)
            values[name] = values[name] ^ new if column.is_set else new
        return self.kind(id=old.id, **values)

    def row(self, record: Row) -> dict[str, Json]:
        """A record's columns in OVSDB's JSON, without those that have the default value anyway."""
        values = ((column, getattr(record, column.name)) for column in self.columns.values())
        return {column.name: column.encode(value) for column, value in values if value != column.default}

    def some(self, values: Mapping[str, Any]) -> dict[str, Json]:
        """Some columns in OVSDB's JSON."""
        return {name: self.columns[name].encode(value) for name, value in values.items()}


@cache
def schema_json() -> Json:
    """The schema as it is on disk."""
    return json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))


@cache
def tables() -> Mapping[Kind, Table]:
    """All tables by their kind of record."""
    return {kind: _table(kind, schema_json()["tables"][kind.TABLE]) for kind in TABLES}


def every(kind: Kind) -> list[str]:
    """All columns of a table."""
    return list(tables()[kind].columns)


def where(id: str) -> Json:
    """The condition that addresses one row."""
    return [["_uuid", "==", ["uuid", id]]]


def _table(kind: Kind, described: Json) -> Table:
    columns = {
        field.name: _column(field.name, described["columns"][field.name]["type"])
        for field in fields(kind)
        if field.name != "id"
    }
    references = (name for name, column in described["columns"].items() if "refTable" in str(column["type"]))
    unique = (name for index in described.get("indexes", ()) for name in index)
    indexed = tuple(dict.fromkeys((*references, *unique, *EXTRA_INDEXES.get(kind.TABLE, ()))))
    return Table(kind, columns, indexed, {column.name: column.default for column in columns.values()})


def _column(name: str, described: Json) -> Column:
    base = described["key"] if isinstance(described, dict) else described
    atom = base["type"] if isinstance(base, dict) else base
    is_id = atom == "uuid"
    if not isinstance(described, dict) or described.get("min", 1) == 1:
        if is_id:
            return Column(name, None, False, _encode_id, _decode_id)
        return Column(name, _DEFAULTS[atom], False, _same, _same)
    if described["max"] == 1:
        return Column(name, None, False, _encode_optional_id, _decode_optional_id)
    if is_id:
        return Column(name, frozenset(), True, _encode_ids, _decode_ids)
    return Column(name, frozenset(), True, _encode_set, _decode_set)


def _same(value: Json) -> Json:
    return value


def _encode_id(value: str) -> Json:
    return ["uuid", value]


def _decode_id(value: Json) -> str:
    return str(value[1])


def _encode_optional_id(value: str | None) -> Json:
    return ["set", []] if value is None else ["uuid", value]


def _decode_optional_id(value: Json) -> str | None:
    return None if value[0] == "set" else str(value[1])


def _encode_ids(values: Iterable[str]) -> Json:
    return ["set", [["uuid", value] for value in sorted(values)]]


def _decode_ids(value: Json) -> frozenset[str]:
    return frozenset(id for _, id in value[1]) if value[0] == "set" else frozenset((value[1],))


def _encode_set(values: Iterable[str]) -> Json:
    return ["set", sorted(values)]


def _decode_set(value: Json) -> frozenset[str]:
    return frozenset(value[1]) if isinstance(value, list) else frozenset((value,))
