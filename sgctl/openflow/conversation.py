# SPDX-License-Identifier: Apache-2.0
"""Requests to the switch and their answers, matched by transaction id (xid).

One thread waits, another brings in what the switch says.  Under eventlet both are green.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from threading import Condition
from time import sleep
from typing import Protocol

from sgctl.openflow import messages, replies
from sgctl.openflow.errors import SwitchGone

_XIDS = 1 << 32


class Channel(Protocol):
    """The connection to one bridge."""

    def reserve(self, count: int) -> int:
        """The first of `count` consecutive xids (modulo 2^32) that nobody else uses."""
        ...

    def send(self, data: bytes) -> bool:
        """Queue whole messages; False if the connection is lost."""
        ...

    def close(self) -> None:
        """End the connection. The switch forgets open bundles and connects again."""
        ...


class Conversation:
    """What the switch has answered to a block of xids."""

    def __init__(self, channel: Channel, count: int) -> None:
        self.first = channel.reserve(count)
        self.count = count
        self.errors: dict[int, bytes] = {}
        self._channel = channel
        self._answers: defaultdict[int, list[bytes]] = defaultdict(list)
        self._complete: set[int] = set()
        self._lost = False
        self._changed = Condition()

    def xid(self, index: int) -> int:
        """The xid of one request."""
        return (self.first + index) % _XIDS

    def index(self, xid: int) -> int | None:
        """Which request an xid belongs to; None if to none of these."""
        index = (xid - self.first) % _XIDS
        return index if index < self.count else None

    def send(self, *requests: bytes) -> None:
        """Send requests; raises SwitchGone if the connection is lost."""
        self.stream(requests)

    def stream(self, requests: Iterable[bytes]) -> None:
        """Send requests as they are made, so that the switch can begin with the first; raises SwitchGone as `send`."""
        for count, chunk in enumerate(messages.chunks(requests)):
            if count:
                sleep(0)  # The thread that sends gets its turn.
            if self._lost or not self._channel.send(chunk):
                raise SwitchGone("the connection to the switch is lost")

    def answer(self, index: int, deadline: float) -> list[bytes]:
        """Wait up to `deadline` seconds for the complete answer to one request; an error is one, and empty.

        Raises SwitchGone if the connection is lost, or is ended here because there was no answer: what the switch has
        made of the request is unknown then, and only a new connection makes it known.
        """
        with self._changed:
            answered = self._changed.wait_for(lambda: self._lost or index in self._complete, deadline)
        if self._lost:
            raise SwitchGone("the connection to the switch was lost before it answered")
        if not answered:
            self._channel.close()
            raise SwitchGone(f"the switch has not answered in {deadline:.0f} s")
        return self._answers[index]

    def take(self, index: int, kind: int, data: bytes) -> None:
        """Keep what the switch says to one request."""
        with self._changed:
            if kind == messages.ERROR:
                self.errors[index] = data
            else:
                self._answers[index].append(data)
            if kind != messages.MULTIPART_REPLY or not replies.more_follows(data):
                self._complete.add(index)
                self._changed.notify_all()

    def lose(self) -> None:
        """The connection is lost: nobody needs to wait any longer."""
        with self._changed:
            self._lost = True
            self._changed.notify_all()
