# SPDX-License-Identifier: Apache-2.0
"""Requests that do not end in an answer, each told as one sentence."""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sgctl.cli.errors import CliError, Unreachable
from sgctl.cli.http import request

OK = b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}'


@contextmanager
def speaking(said: bytes, *, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a server that reads a request, says `said` and hangs up; once."""

    def serve() -> None:
        try:
            connection, _ = listener.accept()
            with connection, tls.wrap_socket(connection, server_side=True) if tls else connection as stream:
                stream.recv(65536)
                stream.sendall(said)
        except OSError:  # the client refused the certificate, or nobody came
            pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"", "the connection was closed before the answer was complete"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "the connection was closed before the answer was complete"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\n{}", "the connection was closed before the answer was complete"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "what answers there does not speak HTTP"),
    ],
)
def test_answers_that_are_none(said: bytes, message: str) -> None:
    with speaking(said) as port, pytest.raises(Unreachable) as error:
        request(f"http://127.0.0.1:{port}/client/api?secret=x", b"a=b", timeout=30)
    assert str(error.value) == f"error: cannot reach http://127.0.0.1:{port}/client/api: {message}"


def test_silence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(Unreachable, match="no answer within"):
        request(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=0.2)


def test_a_name_that_nobody_has() -> None:
    with pytest.raises(Unreachable, match="its name is not known"):
        request("http://nobody.invalid/", timeout=30)


def test_a_redirect_is_an_answer_and_not_followed() -> None:
    with speaking(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n") as port:
        answer = request(f"http://127.0.0.1:{port}/", b"a=b", timeout=30)
    assert answer.status == 302
    with pytest.raises(CliError, match="answered 302 with something that is not a JSON object"):
        answer.object()


def test_loopback_is_not_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with speaking(OK) as port:
        assert request(f"http://127.0.0.1:{port}/", timeout=30).object() == {}


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path / "server.pem"
    options = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", *options, *subject, "-keyout", path, "-out", tmp_path / "certificate.pem"],
        check=True,
        capture_output=True,
        timeout=30,
    )
    path.write_text(path.read_text() + (tmp_path / "certificate.pem").read_text())
    return path


@pytest.mark.parametrize("verify", ["true", "false", "file"])
def test_tls(certificate: Path, verify: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    trusted = str(certificate.with_name("certificate.pem")) if verify == "file" else verify
    with speaking(OK, tls=context) as port:
        url = f"https://127.0.0.1:{port}/"
        if verify == "true":
            with pytest.raises(Unreachable, match="TLS failed"):
                request(url, timeout=30, verify=trusted)
        else:
            assert request(url, timeout=30, verify=trusted).object() == {}


def test_a_certificate_file_that_is_not_there() -> None:
    with pytest.raises(CliError, match=r"verify = /nowhere.pem: cannot read trusted certificates from it"):
        request("https://127.0.0.1:1/", timeout=30, verify="/nowhere.pem")
