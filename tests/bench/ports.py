# SPDX-License-Identifier: Apache-2.0
"""Ports of the bridge, added and removed by the smallest possible transaction in the local switch's database."""

from __future__ import annotations

import json
import socket
import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

Json = Any
_DATABASE = "Open_vSwitch"


class PortDatabase:
    """One JSON-RPC connection; `numbered` says when (perf_counter) each interface had its OpenFlow number."""

    def __init__(self, path: Path, bridge: str) -> None:
        self.numbered: dict[str, float] = {}
        self._bridge = bridge
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._ids = count()
        self._answers: dict[int, Json] = {}
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        self._call("monitor", _DATABASE, None, {"Interface": {"columns": ["name", "ofport"]}})

    def plug(self, names: dict[str, dict[str, str]], **columns: str) -> None:
        """Add dummy ports with these external_ids by name; returns when the transaction is done."""
        operations: list[Json] = []
        for number, (name, external) in enumerate(names.items()):
            row = {"name": name, "type": "dummy", "external_ids": ["map", sorted(external.items())]}
            row |= {"options": ["map", sorted(columns.items())]} if columns else {}
            operations += [
                {"op": "insert", "table": "Interface", "row": row, "uuid-name": f"i{number}"},
                {"op": "insert", "table": "Port", "uuid-name": f"p{number}",
                 "row": {"name": name, "interfaces": ["named-uuid", f"i{number}"]}},
            ]  # fmt: skip
        added = ["set", [["named-uuid", f"p{number}"] for number in range(len(names))]]
        self._transact(*operations, self._mutation("insert", added))

    def unplug(self, name: str) -> None:
        """Remove a port."""
        found = self._transact({"op": "select", "table": "Port", "where": [["name", "==", name]], "columns": ["_uuid"]})
        self._transact(self._mutation("delete", found[0]["rows"][0]["_uuid"]))

    def wait_numbered(self, names: dict[str, Any] | list[str], timeout: float = 60.0) -> None:
        """Wait until all these ports have OpenFlow numbers."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.numbered.keys() >= set(names), timeout):
                raise TimeoutError("ports without OpenFlow numbers")

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def _mutation(self, mutator: str, ports: Json) -> Json:
        return {"op": "mutate", "table": "Bridge", "where": [["name", "==", self._bridge]],
                "mutations": [["ports", mutator, ports]]}  # fmt: skip

    def _transact(self, *operations: Json) -> Json:
        results = self._call("transact", _DATABASE, *operations)
        errors = [one for one in results if one and "error" in one]
        if errors:
            raise RuntimeError(f"the switch's database refuses: {errors}")
        return results

    def _call(self, method: str, *params: Json) -> Json:
        number = next(self._ids)
        self._socket.sendall(json.dumps({"id": number, "method": method, "params": params}).encode())
        with self._changed:
            if not self._changed.wait_for(lambda: number in self._answers, 30):
                raise TimeoutError(f"no answer to {method}")
            return self._answers.pop(number)

    def _read(self) -> None:
        decoder, text = json.JSONDecoder(), ""
        while data := self._socket.recv(1 << 20):
            text += data.decode()
            while text:
                try:
                    message, end = decoder.raw_decode(text)
                except ValueError:
                    break
                text = text[end:].lstrip()
                self._take(message)

    def _take(self, message: Json) -> None:
        with self._changed:
            if message.get("method") == "echo":
                self._socket.sendall(
                    json.dumps({"id": message["id"], "result": message["params"], "error": None}).encode()
                )
            elif message.get("method") == "update":
                self._note(message["params"][1].get("Interface", {}))
            else:
                self._answers[message["id"]] = message["result"]
            self._changed.notify_all()

    def _note(self, rows: dict[str, Json]) -> None:
        for row in rows.values():
            new = row.get("new")
            if new is None:
                self.numbered.pop(row["old"]["name"], None)
            elif isinstance(new["ofport"], int) and new["ofport"] > 0:
                self.numbered.setdefault(new["name"], time.perf_counter())
