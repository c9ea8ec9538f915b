# SPDX-License-Identifier: Apache-2.0
"""Sealed secret keys through real API servers on a real database."""

from pathlib import Path

import pytest

from tests.functional.api_servers import Server, account, at, catch_up, until


def stored(server: Server) -> str:
    return (server.directory / "sg.db").read_text()


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """An API server that has kept secrets as they are, and has ended."""
    server = Server(tmp_path / "one")
    with server:
        admin = server.admin()
        account(admin, server.endpoint, "tenant")
        assert admin.secret in stored(server), "not sealed: the other tests would show nothing"
    return server


def sealing(server: Server, name: str) -> tuple[str, str]:
    return ("--api-seal-key", str(server.directory / name))


def test_secrets_are_sealed_and_shared_by_servers_with_the_key(server: Server, tmp_path: Path) -> None:
    server.options = sealing(server, "seal.key")
    with server, Server(tmp_path / "two", *server.options, db=server.remote) as two:
        user = account(server.admin(), two.endpoint, "later")
        catch_up(at(two, server.admin()))
        assert user.listSecurityGroups()["count"] == 1
        assert user.secret not in stored(server)
        assert "sealed the secret keys in the database" in server.log


@pytest.mark.parametrize("name", ["", "other.key"])
def test_a_server_without_the_key_ends_and_says_why(server: Server, name: str) -> None:
    server.options = sealing(server, "seal.key")
    with server:
        pass
    server.options = sealing(server, name) if name else ()
    server.start()
    try:
        until(lambda: "--api-seal-key" in server.log and server._ended(), "end of the server")
        assert "Traceback" not in server.log
    finally:
        server.stop()
