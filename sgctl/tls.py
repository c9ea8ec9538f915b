# SPDX-License-Identifier: Apache-2.0
"""Who a process is on TLS connections, and whom it trusts."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from sgctl.errors import SgctlError


class TlsError(SgctlError):
    """A key or a certificate that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Files in PEM format: a private key, its certificate, and the authority that signs all others.

    Open vSwitch, and so this program, checks that a peer's certificate is signed by that authority and made for the
    peer's side (`extendedKeyUsage`), but not that it names the peer's address.
    """

    key: str
    cert: str
    ca: str

    def options(self) -> list[str]:
        """For a program of Open vSwitch."""
        return [f"--private-key={self.key}", f"--certificate={self.cert}", f"--ca-cert={self.ca}"]

    def check(self) -> None:
        """Raise TlsError unless the files can be read, and key and certificate belong together."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for what, load, paths in (
            ("authority", context.load_verify_locations, (self.ca,)),
            ("certificate and key", context.load_cert_chain, (self.cert, self.key)),
        ):
            try:
                load(*paths)
            except (OSError, ssl.SSLError) as error:
                raise TlsError(f"cannot use {what} {' '.join(paths)}: {error.strerror or error}") from error
