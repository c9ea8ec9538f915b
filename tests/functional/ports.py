# SPDX-License-Identifier: Apache-2.0
"""TCP ports for the servers of tests, which nobody else has taken by the time they listen."""

from __future__ import annotations

import itertools
import random
import socket
from collections import deque

# Below the range from which the kernel numbers outgoing connections (32768 on), as any of those takes a port away.
_FIRST, _COUNT = 10_000, 22_000
_candidates = itertools.count(random.SystemRandom().randrange(_COUNT))
# Enough for what one test starts at a time; older ones are in use by then, or done with.
_held: deque[socket.socket] = deque(maxlen=256)


def free_port() -> int:
    """A TCP port of the loopback interface that no other test is given, in this process or another, and nobody uses.

    A name in the abstract namespace of Unix sockets says that it is taken: it ends with the process, and is seen
    wherever the port is.
    """
    for number in itertools.islice(_candidates, _COUNT):
        port = _FIRST + number % _COUNT
        if _unused(port) and (claim := _claimed(port)):
            _held.append(claim)
            return port
    raise OSError(f"no TCP port of {_FIRST}-{_FIRST + _COUNT - 1} is free")


def _unused(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _claimed(port: int) -> socket.socket | None:
    """What holds the port against other tests, as long as it is open."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        one.bind(f"\0sgctl-test-port-{port}")
    except OSError:
        one.close()
        return None
    return one
