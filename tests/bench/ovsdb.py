# SPDX-License-Identifier: Apache-2.0
"""A connection to an OVSDB server that costs next to nothing: no replica, no processes, one thread that reads."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

Json = Any
PATIENCE = 60.0


class Ovsdb:
    """JSON-RPC over a unix socket; `on_update` gets the tables of each update, `changed` is notified after it."""

    def __init__(self, path: Path, database: str, on_update: Callable[[Json], None] = lambda _: None) -> None:
        self.changed = threading.Condition()
        self._database, self._on_update = database, on_update
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._ids = count()
        self._answers: dict[int, Json] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def monitor(self, **tables: list[str]) -> Json:
        """Follow columns of tables; their rows now."""
        requests = {table: {"columns": columns} for table, columns in tables.items()}
        rows = self._call("monitor", self._database, None, requests)
        with self.changed:
            self._on_update(rows)
        return rows

    def transact(self, *operations: Json) -> Json:
        """One transaction; the results of its operations. Raises RuntimeError if it is refused."""
        results = self._call("transact", self._database, *operations)
        errors = [one for one in results if one and "error" in one]
        if errors:
            raise RuntimeError(f"the database {self._database} refuses: {errors}")
        return results

    def wait(self, probe: Callable[[], bool], what: str, timeout: float = PATIENCE) -> None:
        """Wait until updates have made `probe` true."""
        with self.changed:
            if not self.changed.wait_for(probe, timeout):
                raise TimeoutError(f"not within {timeout} s: {what}")

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def _call(self, method: str, *params: Json) -> Json:
        number = next(self._ids)
        self._socket.sendall(json.dumps({"id": number, "method": method, "params": params}).encode())
        self.wait(lambda: number in self._answers, f"an answer to {method}")
        return self._answers.pop(number)

    def _read(self) -> None:
        decoder, text = json.JSONDecoder(), ""
        while data := self._receive():
            text += data.decode()
            while text:
                try:
                    message, end = decoder.raw_decode(text)
                except ValueError:
                    break
                text = text[end:].lstrip()
                self._take(message)

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(1 << 20)
        except OSError:
            return b""

    def _take(self, message: Json) -> None:
        with self.changed:
            if message.get("method") == "echo":
                answer = {"id": message["id"], "result": message["params"], "error": None}
                self._socket.sendall(json.dumps(answer).encode())
            elif message.get("method") == "update":
                self._on_update(message["params"][1])
            else:
                self._answers[message["id"]] = message["result"]
            self.changed.notify_all()


def insert(table: str, name: str, /, **columns: Json) -> Json:
    """An operation: a new row, which others in the transaction may call `name` (see `named`)."""
    return {"op": "insert", "table": table, "uuid-name": name, "row": columns}


def named(*names: str) -> Json:
    """A set of rows that the same transaction inserts."""
    return ["set", [["named-uuid", name] for name in names]]


def mutate(table: str, name: str, column: str, mutator: str, value: Json) -> Json:
    """An operation on a column of the row with this name."""
    return {"op": "mutate", "table": table, "where": [["name", "==", name]], "mutations": [[column, mutator, value]]}


def select(table: str, name: str) -> Json:
    """An operation: the id of the row with this name."""
    return {"op": "select", "table": table, "where": [["name", "==", name]], "columns": ["_uuid"]}
