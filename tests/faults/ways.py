# SPDX-License-Identifier: Apache-2.0
"""Conversations of VMs that move: opened by them and to them, busy and idle, with their rules and without."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from devstack.lab.agent import Report, Stream
from devstack.lab.namespace import wait_for
from tests.faults.fleet import CLIENTS, MOVERS, Fleet, admitted

BUSY, IDLE = 0.02, 5.0
"""Seconds between what a conversation sends."""
TIMEOUT = 20.0
"""Seconds in which a connection must be there where it may be opened."""
LONGEST_WAIT = 60.0
"""Seconds in which a conversation must answer again once all is well: TCP has doubled its time between attempts."""
FRESH = 5 * BUSY


@dataclass(frozen=True, slots=True)
class Way:
    """Who talks to whom, how. kept: the rule that admitted it is gone.  idle: it says something now and then."""

    client: str
    server: str
    proto: str
    port: int
    version: int
    kept: bool = False
    idle: bool = False

    @property
    def moves(self) -> bool:
        """Whether one of its ends is a VM that moves."""
        return self.client in MOVERS or self.server in MOVERS

    @property
    def tcp(self) -> bool:
        """Whether it is TCP, which notices late that all is well again."""
        return self.proto == "tcp"

    def __str__(self) -> str:
        words = f"{self.client}-{self.server} {self.proto}/{self.port} IPv{self.version}"
        return words + " kept" * self.kept + " idle" * self.idle


def ways() -> Iterator[Way]:
    """All of them."""
    north, south = CLIENTS
    for one in MOVERS:
        yield from (Way(north, one, "tcp", 80, 4), Way(south, one, "udp", 53, 4), Way(north, one, "udp", 53, 6))
        yield from (Way(one, south, "tcp", 80, 6), Way(one, north, "udp", 53, 4))
        for client, server, proto, version in (
            (north, one, "tcp", 6), (south, one, "tcp", 4), (south, one, "udp", 6), (north, one, "icmp", 4),
            (south, one, "icmp", 6), (one, south, "tcp", 4), (one, north, "icmp", 6),
        ):  # fmt: skip
            yield Way(client, server, proto, 0 if proto == "icmp" else 90, version, kept=True)
        yield Way("former", one, "tcp", 80, 4, kept=True)
        for client, server, proto, version in (
            (south, one, "tcp", 6), (one, north, "tcp", 4), (north, one, "udp", 4),
        ):  # fmt: skip
            yield Way(client, server, proto, 90, version, kept=True, idle=True)
    first, second = MOVERS
    yield Way(first, second, "tcp", 80, 4)
    yield Way(second, first, "tcp", 90, 6, kept=True)
    yield Way(first, second, "udp", 90, 4, kept=True)
    yield from STILL


STILL = tuple(Way(*CLIENTS, proto, port, 4) for proto, port in (("udp", 53), ("tcp", 80)))
"""Conversations of VMs that stay where they are: what this machine, and the switches, cost by themselves."""


class Ways:
    """The conversations of a fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._streams: dict[Way, Stream] = {}
        for way in ways():
            if not way.kept:
                self._streams[way] = self._open(way)
        self.renew(one for one in ways() if one.kept)

    def renew(self, which: Iterable[Way]) -> None:
        """Open conversations (again): those whose rule is gone while it is there for a moment."""
        chosen = list(which)
        for way in chosen:
            if way in self._streams:
                self._streams.pop(way).stop()
        with admitted(self._fleet):
            for way in chosen:
                self._streams[way] = self._open(way)
            self.go_on(chosen)

    def _open(self, way: Way) -> Stream:
        client, server = (self._fleet.mobiles[name].vm for name in (way.client, way.server))
        interval = IDLE if way.idle else BUSY
        return client.stream(way.proto, server.address(way.version), way.port, interval=interval, timeout=TIMEOUT)

    def __iter__(self) -> Iterator[Way]:
        return iter(self._streams)

    def report(self, *, clear: bool = False) -> dict[Way, Report]:
        """What each has seen since the beginning; gaps since the last `clear`."""
        return {way: stream.report(clear=clear) for way, stream in self._streams.items()}

    def go_on(self, which: Iterable[Way], *, idle: bool = False) -> None:
        """Wait until the busy ones of these (or all) have got answers to what they have sent just now."""
        chosen = [way for way in which if idle or not way.idle]
        before = {way: self._streams[way].report() for way in chosen}
        for way in chosen:
            wait_for(f"{way} goes on", partial(self._goes_on, way, before), timeout=LONGEST_WAIT)

    def _goes_on(self, way: Way, before: Mapping[Way, Report]) -> bool:
        report = self._streams[way].report()
        assert not report.error, f"{way}: {report.error}"
        fresh = way.idle or report.silence < FRESH
        return report.received > before[way].received + (0 if way.idle else 2) and fresh

    def catch_up(self, which: Iterable[Way]) -> None:
        """Wait until the idle ones of these have got their answers: TCP may be trying again ever more rarely."""
        for way in (way for way in which if way.idle):
            wait_for(f"{way} is answered", partial(self._is_answered, way), timeout=LONGEST_WAIT)

    def _is_answered(self, way: Way) -> bool:
        return self._streams[way].report().silence < IDLE

    def stop(self) -> None:
        """End all."""
        for stream in self._streams.values():
            stream.stop()
