# SPDX-License-Identifier: Apache-2.0
"""Conversations that must go on: of each kind, on one hypervisor and across, every 10 ms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from time import sleep

from devstack.lab.agent import Report, Stream
from devstack.lab.namespace import wait_for
from tests.faults.scene import OPEN, REVOKED, Scene, admitted

INTERVAL = 0.01
CLIENTS = ("near", "far")
LONGEST_WAIT = 60.0
"""Seconds in which a conversation must answer again once its switch works."""


@dataclass(frozen=True, slots=True)
class Way:
    """Who talks to the server, how; `kept` are connections whose rule is gone."""

    client: str
    proto: str
    port: int
    version: int

    @property
    def kept(self) -> bool:
        """Whether it lives by conntrack alone."""
        return self.port == REVOKED

    def __str__(self) -> str:
        return f"{self.client} {self.proto}/{self.port} IPv{self.version}"


OPEN_WAYS = tuple(Way(client, *what, version) for client in CLIENTS for what in OPEN for version in (4, 6))
KEPT_WAYS = tuple(Way(client, "tcp", REVOKED, version) for client in CLIENTS for version in (4, 6))


class Traffic:
    """The conversations of a scene."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._streams = {way: self._open(way) for way in OPEN_WAYS}
        self.renew()

    def renew(self) -> None:
        """Open the connections whose rule is gone afterwards (again), after the switch has lost its conntrack."""
        for way in KEPT_WAYS:
            if way in self._streams:
                self._streams.pop(way).stop()
        with admitted(self._scene):
            for way in KEPT_WAYS:
                self._streams[way] = self._open(way)
            self.resume()

    def _open(self, way: Way) -> Stream:
        address = self._scene.vm("server").address(way.version)
        return self._scene.vm(way.client).stream(way.proto, address, way.port, interval=INTERVAL)

    def report(self, *, clear: bool = False) -> dict[Way, Report]:
        """What each has seen since the beginning; gaps since the last `clear`."""
        return {way: stream.report(clear=clear) for way, stream in self._streams.items()}

    def resume(self, *, kept: bool = True) -> None:
        """Wait until every conversation has got answers to what it has sent just now."""
        ways = [way for way in self._streams if kept or not way.kept]
        before = {way: self._streams[way].report() for way in ways}

        def goes_on(way: Way) -> bool:
            report = self._streams[way].report()
            assert not report.error, f"{way}: {report.error}"
            return report.received > before[way].received + 2 and report.silence < 10 * INTERVAL

        for way in ways:
            wait_for(f"{way} goes on", partial(goes_on, way), timeout=LONGEST_WAIT)
        sleep(5 * INTERVAL)

    def stop(self) -> None:
        """End all."""
        for stream in self._streams.values():
            stream.stop()
