# SPDX-License-Identifier: Apache-2.0
"""Ports of the bridge, added and removed by the smallest possible transaction in the local switch's database."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.bench.ovsdb import Json, Ovsdb, insert, mutate, named, select


class PortDatabase:
    """`numbered` says when (perf_counter) each interface had its OpenFlow number."""

    def __init__(self, path: Path, bridge: str) -> None:
        self.numbered: dict[str, float] = {}
        self._bridge, self._done = bridge, 0
        self._database = Ovsdb(path, "Open_vSwitch", self._note)
        self._database.monitor(Interface=["name", "ofport"], Open_vSwitch=["cur_cfg"])

    def plug(self, names: dict[str, dict[str, str]], **options: str) -> None:
        """Add dummy ports with these external_ids by name; returns when the transaction is done."""
        operations: list[Json] = []
        for number, (name, external) in enumerate(names.items()):
            row = {"name": name, "type": "dummy", "external_ids": ["map", sorted(external.items())]}
            row |= {"options": ["map", sorted(options.items())]} if options else {}
            operations.append(insert("Interface", f"i{number}", **row))
            operations.append(insert("Port", f"p{number}", name=name, interfaces=["named-uuid", f"i{number}"]))
        added = named(*(f"p{number}" for number in range(len(names))))
        self._database.transact(*operations, mutate("Bridge", self._bridge, "ports", "insert", added))

    def unplug(self, name: str) -> None:
        """Remove a port."""
        self._database.transact(self._removal(name))

    def wait_numbered(self, names: dict[str, Any] | list[str]) -> None:
        """Wait until all these ports have OpenFlow numbers."""
        self._database.wait(lambda: self.numbered.keys() >= set(names), "all ports have OpenFlow numbers")

    def change(self, name: str) -> tuple[float, float]:
        """Seconds that the switch alone takes to number a port that is no VM's, and to remove it.

        It has removed it when it says that its configuration is the new one, as ovs-vsctl waits for.
        """
        started = time.perf_counter()
        self.plug({name: {}})
        self.wait_numbered([name])
        added = self.numbered[name] - started
        removal = self._removal(name)
        time.sleep(0.1)
        started, before = time.perf_counter(), self._done
        step = {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]}
        self._database.transact(removal, step)
        self._database.wait(lambda: self._done > before, "the port is removed")
        return added, time.perf_counter() - started

    def interfaces(self) -> list[dict[str, Json]]:
        """All interfaces: name, number, external_ids."""
        columns = ["_uuid", "name", "ofport", "external_ids"]
        return list(
            self._database.transact({"op": "select", "table": "Interface", "where": [], "columns": columns})[0]["rows"]
        )

    def close(self) -> None:
        """End it."""
        self._database.close()

    def _removal(self, name: str) -> Json:
        port = self._database.transact(select("Port", name))[0]["rows"][0]["_uuid"]
        return mutate("Bridge", self._bridge, "ports", "delete", port)

    def _note(self, tables: Json) -> None:
        for row in tables.get("Open_vSwitch", {}).values():
            self._done = row["new"]["cur_cfg"]
        for row in tables.get("Interface", {}).values():
            new = row.get("new")
            if new is None:
                self.numbered.pop(row["old"]["name"], None)
            elif isinstance(new["ofport"], int) and new["ofport"] > 0:
                self.numbered.setdefault(new["name"], time.perf_counter())
