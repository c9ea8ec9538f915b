# SPDX-License-Identifier: Apache-2.0
"""A listening socket for eventlet's HTTP server, which would end with the first client that it cannot take."""

from __future__ import annotations

import errno
import logging
from time import sleep
from typing import Any

LOG = logging.getLogger(__name__)
SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What ends by itself: the process, or the machine, has no more descriptors, or no memory for another."""
PAUSE = 0.5
"""Seconds until it is tried again."""


class Listener:
    """Lets clients wait while there is no room for another; in all else the socket that it is given."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._complained = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def accept(self) -> tuple[Any, Any]:
        """The next client."""
        while True:
            try:
                accepted: tuple[Any, Any] = self._socket.accept()
            except OSError as error:
                if error.errno not in SCARCE:
                    raise
                self._complain(error)
                sleep(PAUSE)
            else:
                self._complained = False
                return accepted

    def _complain(self, error: OSError) -> None:
        """Log once."""
        if not self._complained:
            self._complained = True
            LOG.error("clients of port %s have to wait: %s", self._socket.getsockname()[1], error.strerror)
