# SPDX-License-Identifier: Apache-2.0
"""Whether an address can be listened on, asked before os-ken does: it would only log that it cannot."""

from __future__ import annotations

import socket

from sgctl.errors import SgctlError


def check_free(host: str, port: int, purpose: str) -> None:
    """Raise SgctlError if nobody can listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            raise SgctlError(f"cannot listen on {host} port {port} for {purpose}: {error.strerror}") from error
