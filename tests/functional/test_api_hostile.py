# SPDX-License-Identifier: Apache-2.0
"""What no honest client sends: the server answers or hangs up, says so briefly, and goes on serving others."""

import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from cs import CloudStack

from tests.functional.api_servers import Server

PATH = b"/client/api"
AT_ONCE = 15.0
"""Seconds, on a machine that may stand still for ten of them; silent clients are left alone for longer than that."""
CHUNKED = b"Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all of them."""
    with Server(tmp_path_factory.mktemp("hostile") / "one") as server:
        yield server


@pytest.fixture(scope="module")
def admin(server: Server) -> CloudStack:
    """An honest client."""
    return server.admin()


@pytest.fixture(autouse=True)
def serves_on(server: Server, admin: CloudStack) -> Iterator[None]:
    """Whatever a test sends, afterwards the server answers others at once and has no traceback to show."""
    yield
    start = time.monotonic()
    assert admin.listDomains()["count"] == 1
    assert time.monotonic() - start < AT_ONCE
    assert "Traceback" not in server.log


def exchange(server: Server, data: bytes, *, timeout: float = 30.0) -> bytes:
    """What comes back until the server hangs up, or nothing more comes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=timeout) as sock:
        answer = b""
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while chunk := sock.recv(65536):
                answer += chunk
        except OSError:
            pass
        return answer


def status(answer: bytes) -> int:
    if not answer:
        # It hung up while data was on its way, and the reset overtook its answer.
        return 0
    assert answer.startswith(b"HTTP/1."), answer[:200]
    return int(answer.split()[1])


def post(body: bytes, headers: bytes = b"Content-Type: application/x-www-form-urlencoded") -> bytes:
    return b"POST " + PATH + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("data", "codes"),
    [
        (b"GET " + PATH + b"?command=listZones HTTP/1.0\r\n\r\n", {401}),
        (b"GET " + PATH + b"?command=listZones&apiKey=a&signature=b%0d%0ax HTTP/1.0\r\n\r\n", {401}),
        (b"GET " + PATH + b"?name=\xff\xfe HTTP/1.0\r\n\r\n", {400, 430}),
        (b"GET " + PATH + b"?name=%ff HTTP/1.0\r\n\r\n", {430}),
        (b"GET " + PATH + b"/%0d%0aSet-Cookie:x HTTP/1.0\r\n\r\n", {404}),
        (b"GET /../../etc/passwd HTTP/1.0\r\n\r\n", {404}),
        (b"PUT " + PATH + b" HTTP/1.0\r\n\r\n", {405}),
        (b"GET " + PATH + b"?a=" + b"a" * 200_000 + b" HTTP/1.0\r\n\r\n", {0, 414}),
        (b"GET " + PATH + b" HTTP/1.0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", {0, 400, 431}),
        (b"GET " + PATH + b" HTTP/1.0\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", {0, 400, 431}),
        (post(b"", b"Content-Length: x"), {400, 430}),
        (post(b"", b"Content-Length: -1"), {400, 401, 430}),
        (post(b"command=listZones", b"Content-Length: 99999999999"), {413, 430}),
        (post(b"{}", b"Content-Type: application/json\r\nContent-Length: 2"), {430}),
        (post(b"a=b", b"Content-Type: multipart/form-data\r\nContent-Length: 3"), {430}),
        (post(b"zz\r\na=b\r\n0\r\n\r\n", CHUNKED), {400, 401, 430}),
        (post(b"3\r\na=b\r\n0\r\n\r\n", CHUNKED), {401}),
    ],
)
def test_requests_that_are_refused(server: Server, data: bytes, codes: set[int]) -> None:
    assert status(exchange(server, data)) in codes


def test_a_body_without_end_is_cut_off(server: Server) -> None:
    chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    answer = exchange(server, post(chunk * 40, CHUNKED))
    assert status(answer) in {0, 413}


def test_a_chunked_body_is_read(server: Server) -> None:
    assert b"listzonesresponse" in exchange(server, post(b"11\r\ncommand=listZones\r\n0\r\n\r\n", CHUNKED))


def test_garbage(server: Server) -> None:
    rng = random.Random(1)
    for _ in range(50):
        exchange(server, rng.randbytes(rng.randrange(1, 400)), timeout=1)


def test_clients_that_say_nothing_or_little(server: Server, admin: CloudStack) -> None:
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
    try:
        for sock in idle[::2]:
            sock.sendall(b"GET /client/api?comm")
        assert admin.listDomains()["count"] == 1
    finally:
        for sock in idle:
            sock.close()


def test_clients_that_hang_up(server: Server, admin: CloudStack) -> None:
    def hang_up(number: int) -> None:
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(b"GET " + PATH + b"?command=listZones HTTP/1.0\r\n\r\n")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hang_up, range(200)))
