# SPDX-License-Identifier: Apache-2.0
"""Certificates: what they are for, who may read the keys, and that none is overwritten."""

import subprocess
from pathlib import Path

import pytest

from sgctl.db import pki
from sgctl.db.pki import PkiError
from sgctl.tls import Tls, TlsError


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("pki")
    pki.init(found)
    return found


def shown(tls: Tls) -> str:
    """Subject and extensions of a certificate."""
    command = ["openssl", "x509", "-in", tls.cert, "-noout", "-subject", "-ext", "extendedKeyUsage,subjectAltName"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_hypervisor_is_a_client_only(directory: Path) -> None:
    text = shown(pki.host(directory, "h1"))
    assert "CN = h1\n" in text and "DNS:h1" in text
    assert "TLS Web Client Authentication" in text and "Server" not in text


def test_a_server_is_both_and_has_its_addresses(directory: Path) -> None:
    text = shown(pki.server(directory, "db1", ("10.0.0.1", "fd00::1", "db1.example.org")))
    assert "TLS Web Server Authentication, TLS Web Client Authentication" in text
    assert "DNS:db1, IP Address:10.0.0.1, IP Address:FD00:0:0:0:0:0:0:1, DNS:db1.example.org" in text


def test_openflow_trusts_its_own_certificate_only(directory: Path) -> None:
    own = pki.openflow(directory, "h2")
    own.check()
    assert own.ca == own.cert
    assert "CN = h2-openflow" in shown(own)


def test_keys_are_private_and_certificates_are_not(directory: Path) -> None:
    made = pki.host(directory, "h3")
    made.check()
    modes = [Path(path).stat().st_mode & 0o777 for path in (made.key, made.cert, made.ca)]
    assert modes == [0o600, 0o644, 0o644]
    assert (directory / "ca-key.pem").stat().st_mode & 0o777 == 0o600


def test_nothing_is_overwritten_and_a_failure_leaves_nothing(directory: Path, tmp_path: Path) -> None:
    pki.host(directory, "h4")
    with pytest.raises(PkiError, match="another identity"):
        pki.host(directory, "h4")
    with pytest.raises(PkiError, match="another identity"):
        pki.init(directory)
    before = set(directory.iterdir())
    for name in ("", "a/b", "ca", "x" * 65, "a\nb"):
        with pytest.raises(PkiError, match="no name"):
            pki.host(directory, name)
    with pytest.raises(PkiError):
        pki.server(directory, "s", ("not an address!",))
    assert set(directory.iterdir()) == before
    with pytest.raises(PkiError, match="sgctl-db pki init"):
        pki.host(tmp_path, "h1")


def test_files_that_do_not_belong_together(directory: Path, tmp_path: Path) -> None:
    pki.init(tmp_path)
    one, other = pki.host(directory, "h5"), pki.host(tmp_path, "h5")
    with pytest.raises(TlsError, match="certificate and key"):
        Tls(key=one.key, cert=other.cert, ca=one.ca).check()
    with pytest.raises(TlsError, match="authority /none"):
        Tls(key=one.key, cert=one.cert, ca="/none").check()
