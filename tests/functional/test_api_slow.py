# SPDX-License-Identifier: Apache-2.0
"""What slow clients can take of the HTTP server, with its limits made small."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.functional.api_servers import until
from tests.functional.ports import free_port

SILENCE, IDLE, REQUEST, CONNECTIONS = 0.5, 0.3, 1.0, 4
SERVER = f"""
import sys, eventlet
eventlet.monkey_patch()
from sgctl.api import server
server.SILENCE, server.IDLE, server.REQUEST, server.MAX_CONNECTIONS = {SILENCE}, {IDLE}, {REQUEST}, {CONNECTIONS}

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["wsgi.input"].read()]

server.serve(server.listen("127.0.0.1", int(sys.argv[1])), application)
"""
SLACK = 15.0
"""Seconds that a busy machine may add."""
REQUESTED = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where such a server listens."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", SERVER, str(port)])
    try:
        until(lambda: _listens(port), "server")
        yield port
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def seconds_until_the_end(sock: socket.socket, *, drip: bytes = b"") -> float:
    """How long until the server hangs up on a client that sends `drip` again and again, or nothing."""
    start = time.monotonic()
    sock.settimeout(0.1)
    while True:
        try:
            if drip:
                sock.sendall(drip)
            if not sock.recv(4096):
                break
        except TimeoutError:
            assert time.monotonic() - start < 60, "the server has patience without end"
        except OSError:
            break
    return time.monotonic() - start


@pytest.mark.parametrize(
    ("begin", "drip", "limit"),
    [
        (b"", b"", SILENCE),
        (b"GET /", b"", SILENCE),
        (b"GET /", b"a", REQUEST),
        (b"GET / HTTP/1.1\r\n", b"X: y\r\n", REQUEST),
        (b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n", b"", REQUEST),
        (b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n", b"a", REQUEST),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", REQUEST),
        (REQUESTED, b"", IDLE),
    ],
    ids=str,
)
def test_the_server_hangs_up(port: int, begin: bytes, drip: bytes, limit: float) -> None:
    with connected(port) as sock:
        sock.sendall(begin)
        assert seconds_until_the_end(sock, drip=drip) < limit + SLACK


def test_others_wait_until_slow_ones_are_cut_off(port: int) -> None:
    slow = [connected(port) for _ in range(3 * CONNECTIONS)]
    try:
        for sock in slow:
            sock.sendall(b"GET /")
        start = time.monotonic()
        with connected(port) as sock:
            sock.sendall(REQUESTED)
            assert sock.recv(100).startswith(b"HTTP/1.1 200")
        assert time.monotonic() - start < 3 * REQUEST + SLACK
    finally:
        for sock in slow:
            sock.close()
