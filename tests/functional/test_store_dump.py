# SPDX-License-Identifier: Apache-2.0
"""A server that makes a large database ready for a client says nothing meanwhile, for seconds: it is waited for."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from sgctl.dbserver import DatabaseServer
from sgctl.model import Account
from sgctl.store import Database, Insert, link
from tests.functional.store_server import ACME, connected, served

SILENCE = 4.0
"""More than twice the shortest time after which a connection can be asked whether it lives."""


class Slow:
    """A way to a server on which all rows take a while; `connections` is how often somebody came."""

    def __init__(self, server: DatabaseServer) -> None:
        self._path = server.remote.removeprefix("unix:")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.remote = f"tcp:127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._path)
            threading.Thread(target=self._pass, args=(client, server), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with source, sink, suppress(OSError):
            while data := source.recv(1 << 16):
                if b'"monitor_cond_since"' in data:
                    time.sleep(SILENCE)
                sink.sendall(data)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    monkeypatch.setattr(link, "_WRITERS_PROBE_MS", 1000)
    with served() as server, connected(server) as database:
        database.write([Insert(ACME)])
        way = Slow(server)
        yield way
        way.close()


def test_all_rows_are_waited_for(slow: Slow) -> None:
    with Database(slow.remote) as database:
        assert database.wait_insync(3 * SILENCE)
        assert database.replica.all(Account) == [ACME]
        assert database._idl._session.reconnect.get_probe_interval() == 1000, "a server that hangs later is noticed"
    assert slow.connections == 1
