# SPDX-License-Identifier: Apache-2.0
"""Certificates, made by openssl in one directory that belongs on one safe machine.

There is one authority (``ca.pem``, ``ca-key.pem``). A hypervisor's certificate names its host and is for clients only,
so that its thief cannot pose as a database; a server's is for both sides, for cluster members speak with each other.
OpenFlow between a switch and its agent stays on one machine, so they share a certificate that they alone trust.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from sgctl.errors import SgctlError
from sgctl.tls import Tls

_DAYS = "3650"
_AUTHORITY = ("basicConstraints=critical,CA:TRUE,pathlen:0", "keyUsage=critical,keyCertSign,cRLSign")
_END = "basicConstraints=critical,CA:FALSE"
_BOTH, _CLIENT = "extendedKeyUsage=serverAuth,clientAuth", "extendedKeyUsage=clientAuth"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


class PkiError(SgctlError):
    """A certificate cannot be made."""


def init(directory: Path) -> Path:
    """Make the authority; the path of its certificate."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PkiError(f"cannot make {directory}: {error.strerror}") from error
    _certificate(directory, "ca", "sgctl authority", _AUTHORITY, cert="ca.pem")
    return directory / "ca.pem"


def host(directory: Path, name: str) -> Tls:
    """Make the certificate of a hypervisor's agent, whose --host this is."""
    return _signed(directory, name, (_END, _CLIENT, f"subjectAltName={_names(name, ())}"))


def server(directory: Path, name: str, addresses: Iterable[str]) -> Tls:
    """Make the certificate of a machine that serves the database or the API, at these addresses and by its name."""
    return _signed(directory, name, (_END, _BOTH, f"subjectAltName={_names(name, addresses)}"))


def openflow(directory: Path, name: str) -> Tls:
    """Make the certificate that a hypervisor's switch and agent share for OpenFlow."""
    _check(name)
    _make_room(directory)
    stem = f"{name}-openflow"
    _certificate(directory, stem, stem, (_END, _BOTH))
    return _files(directory, stem, ca=f"{stem}-cert.pem")


def _signed(directory: Path, name: str, extensions: tuple[str, ...]) -> Tls:
    _check(name)
    if not (directory / "ca-key.pem").exists():
        raise PkiError(f"there is no authority in {directory}: make it with `sgctl-db pki init`")
    authority = ["-CA", str(directory / "ca.pem"), "-CAkey", str(directory / "ca-key.pem")]
    _certificate(directory, name, name, extensions, authority)
    return _files(directory, name, ca="ca.pem")


def _files(directory: Path, stem: str, *, ca: str) -> Tls:
    key, cert, trusted = (str(directory / name) for name in (f"{stem}-key.pem", f"{stem}-cert.pem", ca))
    return Tls(key=key, cert=cert, ca=trusted)


def _certificate(
    directory: Path, stem: str, subject: str, extensions: Iterable[str], authority: Iterable[str] = (), cert: str = ""
) -> None:
    """A key and its certificate; nothing is overwritten, and a failure leaves nothing."""
    paths = directory / f"{stem}-key.pem", directory / (cert or f"{stem}-cert.pem")
    for path in paths:
        if path.exists():
            raise PkiError(f"{path} exists: a new one would be another identity; move it away first")
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-sha256", "-days", _DAYS]
    names = ["-subj", f"/O=sgctl/CN={subject}", *(word for one in extensions for word in ("-addext", one))]
    files = ["-keyout", str(paths[0]), "-out", str(paths[1])]
    try:
        _openssl("req", "-x509", "-config", os.devnull, *authority, *kind, *names, *files)
    except PkiError:
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    paths[1].chmod(0o644)


def _openssl(*arguments: str) -> None:
    found = shutil.which("openssl")
    if found is None:
        raise PkiError("openssl is not installed (package openssl)")
    ended = subprocess.run([found, *arguments], capture_output=True, text=True, umask=0o077, check=False)
    if ended.returncode:
        raise PkiError(f"openssl {arguments[0]}: {ended.stderr.strip().splitlines()[-1]}")


def _make_room(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def _names(name: str, addresses: Iterable[str]) -> str:
    return ",".join((f"DNS:{name}", *(f"{_kind(one)}:{one}" for one in addresses)))


def _kind(address: str) -> str:
    try:
        ip_address(address)
    except ValueError:
        _check(address)
        return "DNS"
    return "IP"


def _check(name: str) -> None:
    if not _NAME.fullmatch(name) or name == "ca":
        raise PkiError(f"{name!r} is no name for a certificate: up to 64 letters, digits, dots, hyphens, underscores")
