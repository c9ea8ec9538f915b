# SPDX-License-Identifier: Apache-2.0
"""What agents may write exists in the schema, and is what they do write."""

from dataclasses import fields
from typing import Any

import pytest

from sgctl.agent.report import Binding
from sgctl.db import roles
from sgctl.db.contents import difference, merged
from sgctl.model import TABLES
from sgctl.store.columns import schema_json

KINDS = {kind.TABLE: kind for kind in TABLES}


@pytest.mark.parametrize("table", roles.AGENT)
def test_permissions_name_columns_of_the_schema(table: str) -> None:
    columns = schema_json()["tables"][table]["columns"]
    permission = roles.AGENT[table]
    assert set(permission.columns) <= columns.keys()
    assert permission.owner in {"", *columns} and permission.owner not in permission.columns
    assert permission.owner or not permission.create, "everybody could make rows"


def test_a_host_row_is_the_agents_but_for_what_it_is_asked() -> None:
    host = roles.AGENT["Host"]
    assert {field.name for field in fields(KINDS["Host"])} == {"id", "asked", host.owner, *host.columns}


def test_bindings_are_within_the_role() -> None:
    update, _ = Binding("1", "h1", "h2", "up", "").write(1)
    assert set(update.values) == set(roles.AGENT["NIC"].columns)


def test_a_snapshot_keeps_what_is_reported() -> None:
    live: dict[str, Any] = {
        "NIC": {"a": {"_version": 1, "host": "new", "state": "up", "reason": "", "since": 2, "mac": "m"}},
        "Host": {"h": {"_version": 1, "seen": 9}},
        "Group": {"g": {"_version": 1, "name": "late"}},
    }
    old: dict[str, Any] = {
        "NIC": {
            "a": {"_version": 3, "host": "old", "state": "up", "reason": "", "since": 1, "mac": "n"},
            "b": {"_version": 3, "host": "old", "state": "up", "reason": "", "since": 1, "mac": "o"},
        },
        "Host": {},
        "Group": {},
    }
    wanted = merged(live, old)
    assert wanted["NIC"]["a"] == {"host": "new", "state": "up", "reason": "", "since": 2, "mac": "n"}
    assert wanted["Host"] == {"h": {"seen": 9}}
    operations = list(difference(live, wanted))
    assert [(one["op"], one["table"]) for one in operations] == [
        ("update", "NIC"), ("insert", "NIC"), ("delete", "Group"),
    ]  # fmt: skip
    assert operations[0]["row"] == {"mac": "n"}
    assert operations[1]["row"] == {"host": "", "state": "", "reason": "", "since": 0, "mac": "o"}
