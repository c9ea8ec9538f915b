# SPDX-License-Identifier: Apache-2.0
"""Who a process is on TLS connections, and whom it trusts."""

from __future__ import annotations

from dataclasses import dataclass


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
