# SPDX-License-Identifier: Apache-2.0
"""All rows of a large database: who makes them ready, or takes them in, is silent meanwhile, and is not given up."""

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
from sgctl.store.link import SgIdl
from tests.functional.ports import free_port
from tests.functional.store_server import ACME, connected, served
from tests.unit.store_rows import group

SILENCE = 4.0
"""More than twice the shortest time after which a connection can be asked whether it lives."""

PROBED = 5.0
"""Seconds of silence after which ovsdb-server asks whether a client lives, and as many until it hangs up."""


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
        assert database.wait_insync(30)
        assert database.replica.all(Account) == [ACME]
        assert database._idl._session.reconnect.get_probe_interval() == 1000, "a server that hangs later is noticed"
    assert slow.connections == 1


def test_the_server_hears_from_who_takes_rows_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-alone database has no history: who lost the connection would have to take all in again, and lose it."""
    port, turns = free_port(), 0

    def busy(_: SgIdl) -> None:
        nonlocal turns
        turns += 1
        time.sleep(0.3 * PROBED)

    with served(f"ptcp:{port}:127.0.0.1") as server:
        with connected(server) as database:
            database.write([Insert(ACME), *(Insert(group(f"g{number}", ACME)) for number in range(2500))])
        monkeypatch.setattr(SgIdl, "cooperative_yield", busy)
        with Database(f"tcp:127.0.0.1:{port}") as database:
            assert database.wait_insync(10 * PROBED)
            assert 0.3 * PROBED * turns > 2 * PROBED
            first = database._idl._session.get_seqno()
            assert database.connected
            database.write([Insert(group("last", ACME))])
            assert database._idl._session.get_seqno() == first
