# SPDX-License-Identifier: Apache-2.0
"""Schema, records and prose say the same, and every record survives the way into a row and back."""

import re
from dataclasses import Field, fields
from importlib.resources import files
from typing import Any, get_type_hints
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgctl.model import TABLES, Row
from sgctl.store.columns import schema_json, tables

PROSE = (files("sgctl") / "store" / "schema.md").read_text()
PARTS = dict(part.split("\n", 1) for part in PROSE.split("\n## ")[1:])
KINDS = pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.TABLE)
#: ovsdb-server's own, which no record stands for.
ACCESS = {"RBAC_Role", "RBAC_Permission"}
ATOMS = {"string": str, "integer": int, "boolean": bool, "uuid": str}
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(), int: st.integers(-(2**63), 2**63 - 1), bool: st.booleans(),
    frozenset[str]: st.frozensets(st.text(), max_size=3),
}  # fmt: skip
IDS: dict[Any, st.SearchStrategy[Any]] = {
    str: st.uuids().map(str), str | None: st.none() | st.uuids().map(str),
    frozenset[str]: st.frozensets(st.uuids().map(str), max_size=3),
}  # fmt: skip


def described(kind: type[Row]) -> dict[str, Any]:
    return dict(schema_json()["tables"][kind.TABLE]["columns"])


def python_type(column: Any) -> Any:
    """The annotation that belongs to a column of the schema."""
    full = column["type"] if isinstance(column["type"], dict) else {"key": column["type"]}
    atom = ATOMS[full["key"]["type"] if isinstance(full["key"], dict) else full["key"]]
    if full.get("min", 1):
        return atom
    return atom | None if full["max"] == 1 else frozenset[atom]  # type: ignore[valid-type]


def columns(kind: type[Row]) -> list[Field[Any]]:
    return [field for field in fields(kind) if field.name != "id"]


def test_tables_are_the_same() -> None:
    assert set(schema_json()["tables"]) - ACCESS == {kind.TABLE for kind in TABLES} == set(PARTS)


@KINDS
def test_columns_have_the_types_of_the_fields(kind: type[Row]) -> None:
    hints = get_type_hints(kind)
    assert {field.name: hints[field.name] for field in columns(kind)} == {
        name: python_type(column) for name, column in described(kind).items()
    }


@KINDS
def test_every_column_is_explained_once(kind: type[Row]) -> None:
    heads = re.findall(r"^- (.*?): ", PARTS[kind.TABLE], re.MULTILINE)
    assert [name for head in heads for name in re.findall(r"`(\w+)`", head)] == list(described(kind))


@KINDS
def test_prose_names_references_and_indexes(kind: type[Row]) -> None:
    table = schema_json()["tables"][kind.TABLE]
    targets = {
        name: re.search(r'"refTable": "(\w+)"', str(column).replace("'", '"'))
        for name, column in described(kind).items()
    }
    assert {name: target[1] for name, target in targets.items() if target} == dict(
        re.findall(r"^- `(\w+)`: → (\w+)", PARTS[kind.TABLE], re.MULTILINE)
    )
    unique = re.search(r"Unique: (.*?)\.", PARTS[kind.TABLE])
    assert [set(index) for index in table.get("indexes", ())] == (
        [set(re.split(r", | and ", unique[1]))] if unique else []
    )
    assert table["isRoot"] is True


@KINDS
@settings(max_examples=15)
@given(data=st.data())
def test_records_survive_the_way_there_and_back(kind: type[Row], data: st.DataObject) -> None:
    before, after = (data.draw(records(kind)) for _ in range(2))
    table = tables()[kind]
    assert table.insert(before.id, table.row(before)) == before
    changes = {column.name: getattr(after, column.name) for column in table.columns.values()}
    assert table.modify(before, _difference(before, table.some(changes))) == _with_id(after, before.id)


def records(kind: type[Row]) -> st.SearchStrategy[Row]:
    hints = get_type_hints(kind)
    values = {name: (IDS if "uuid" in str(column) else VALUES)[hints[name]] for name, column in described(kind).items()}
    return st.builds(kind, id=st.just(str(uuid4())), **values)


def _with_id(record: Row, id: str) -> Row:
    return type(record)(**{field.name: getattr(record, field.name) for field in fields(record)} | {"id": id})


def _difference(before: Row, row: dict[str, Any]) -> dict[str, Any]:
    """What the server sends for a modification: of sets the elements that came or went."""
    table = tables()[type(before)]
    return {
        name: table.columns[name].encode(getattr(before, name) ^ table.columns[name].decode(value))
        if table.columns[name].is_set
        else value
        for name, value in row.items()
    }
