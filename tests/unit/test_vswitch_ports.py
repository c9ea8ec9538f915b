# SPDX-License-Identifier: Apache-2.0
"""Rows that have changed make new values only where the values differ."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

from sgctl.vswitch.ports import Ports


class Switch:
    """The rows of an IDL, of a bridge with some ports."""

    def __init__(self, count: int) -> None:
        self.ports, self.interfaces = [uuid4() for _ in range(count)], [uuid4() for _ in range(count)]
        self.rows: dict[UUID, Any] = {
            id: SimpleNamespace(
                uuid=id, name=f"tap{number}", ofport=[number + 1], external_ids={}, ifindex=[7], mac_in_use=[], error=[]
            )
            for number, id in enumerate(self.interfaces)
        }
        pairs = zip(self.ports, self.interfaces, strict=True)
        self.tables = {
            "Port": SimpleNamespace(rows={port: _referring("interfaces", [one]) for port, one in pairs}),
            "Interface": SimpleNamespace(rows=self.rows),
        }
        self.bridge = _referring("ports", self.ports)


def _referring(column: str, ids: list[UUID]) -> Any:
    return SimpleNamespace(_data={column: SimpleNamespace(values=[SimpleNamespace(value=id) for id in ids])})


def test_what_changes_nothing_leaves_the_same_objects() -> None:
    switch = Switch(3)
    ports = Ports(switch)
    before = ports.of(switch.bridge)
    for row in switch.rows.values():
        row.ifindex = [8]
    ports.forget([*switch.ports, *switch.interfaces])
    after = ports.of(switch.bridge)
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_what_changes_is_new_and_the_rest_is_not() -> None:
    switch = Switch(3)
    ports = Ports(switch)
    before = {port.uuid: port for port in ports.of(switch.bridge)}
    changed = switch.interfaces[1]
    switch.rows[changed].ofport = [9]
    ports.forget(switch.interfaces)
    after = {port.uuid: port for port in ports.of(switch.bridge)}
    assert after[str(changed)].ofport == 9
    assert [id for id, port in after.items() if port is not before[id]] == [str(changed)]
