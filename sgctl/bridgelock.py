# SPDX-License-Identifier: Apache-2.0
"""One agent per bridge: a lock that needs no file."""

from __future__ import annotations

import errno
import os
import socket

from sgctl.config import Place, Settings
from sgctl.errors import SgctlError


def lock_bridge(settings: Settings | Place) -> socket.socket:
    """Make sure that no other agent works on this bridge, as long as the socket that is returned is open.

    The lock is a name in the kernel's abstract socket namespace: it needs no file, works before Open vSwitch runs, and
    goes with the process.
    """
    connection = settings.ovsdb_connection
    kind, _, path = connection.partition(":")
    where = os.path.realpath(path) if kind == "unix" else connection
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        holder.bind(f"\0sgctl-agent {where} {settings.bridge}"[:107])
    except OSError as error:
        holder.close()
        if error.errno != errno.EADDRINUSE:
            raise
        raise SgctlError(f"another sgctl agent works on bridge {settings.bridge} of {connection}") from error
    return holder
