# SPDX-License-Identifier: Apache-2.0
"""Certificates for tests, made as an operator makes them, and the options that name them."""

from __future__ import annotations

from pathlib import Path

from sgctl.tls import Tls
from tests.functional.db_nodes import tool


class Pki:
    """An authority in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        tool("pki", "init", f"--dir={directory}")

    def server(self, name: str) -> Tls:
        """For a server on loopback."""
        tool("pki", "server", f"--dir={self.directory}", name, "127.0.0.1")
        return self._files(name)

    def host(self, name: str) -> Tls:
        """For the agent of a host."""
        tool("pki", "host", f"--dir={self.directory}", name)
        return self._files(name)

    def openflow(self, name: str) -> Tls:
        """For OpenFlow on a host."""
        tool("pki", "openflow", f"--dir={self.directory}", name)
        cert = f"{self.directory}/{name}-openflow-cert.pem"
        return Tls(key=f"{self.directory}/{name}-openflow-key.pem", cert=cert, ca=cert)

    def _files(self, name: str) -> Tls:
        stem = f"{self.directory}/{name}"
        return Tls(key=f"{stem}-key.pem", cert=f"{stem}-cert.pem", ca=f"{self.directory}/ca.pem")


def options(tls: Tls) -> tuple[str, ...]:
    """Of sgctl-manager and sgctl-db, for database connections."""
    return f"--db-ssl-key={tls.key}", f"--db-ssl-cert={tls.cert}", f"--db-ssl-ca={tls.ca}"
