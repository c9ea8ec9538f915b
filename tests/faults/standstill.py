# SPDX-License-Identifier: Apache-2.0
"""For how long this machine stands still by itself, which no conversation can help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from devstack.lab.agent import Guest, Stream
from devstack.lab.cloud import Cloud

INTERVAL = 0.01


class Standstill:
    """Measures from now on, by a conversation between machines that no hypervisor has to do with."""

    def __init__(self, cloud: Cloud) -> None:
        server = cloud.pods[0].server.addresses[0].partition("/")[0]
        self._guest = Guest(cloud.router.namespace)
        number = self._guest.call(
            "stream", proto="icmp", address=server, port=0, interval=INTERVAL, timeout=30.0, source_port=0
        )
        self._stream = Stream(self._guest, number)

    def begin(self) -> None:
        """Forget what has been."""
        self._stream.report(clear=True)

    def seconds(self) -> float:
        """The longest standstill since `begin`, twice: who has waited for it may have to try again."""
        return 2 * self._stream.report().gap

    def close(self) -> None:
        """End it."""
        self._stream.stop()
        self._guest.close()


@contextmanager
def standstill(cloud: Cloud) -> Iterator[Standstill]:
    """One that is ended afterwards."""
    found = Standstill(cloud)
    try:
        yield found
    finally:
        found.close()
