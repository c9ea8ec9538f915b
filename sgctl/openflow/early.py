# SPDX-License-Identifier: Apache-2.0
"""The beginning of a bundle: its first flows are on their way to the switch while the others are still being made.

A bundle changes nothing before it is committed, whatever of it has been sent and in whatever order. So the switch can
read while we compute, and is nearly done when we are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from time import sleep

from flows.flow import Flow
from sgctl.openflow import encode, messages
from sgctl.openflow.conversation import Conversation
from sgctl.openflow.errors import SwitchGone

BATCH = 512
"""Flows that are sent together; where there are fewer, none are sent early."""
MOST = 1 << 17
"""Flows that are sent early at most."""


class Early:
    """Flows that are sent as soon as they are known, in a bundle that is opened for them when they are many.

    begin: starts a conversation about so many messages, which somebody else ends.
    """

    def __init__(self, begin: Callable[[int], Conversation]) -> None:
        self._begin = begin
        self._talk: Conversation | None = None
        self._open = False
        self._waiting: list[Flow] = []
        self._flows: list[Flow] = []

    @property
    def bundle(self) -> int | None:
        """The bundle, if there is one."""
        return None if self._talk is None else self._talk.first

    @property
    def sent(self) -> int:
        """How many flows are in the bundle."""
        return len(self._flows)

    def add(self, flows: Iterable[Flow]) -> None:
        """Flows that the change consists of; raises SwitchGone if the connection is lost."""
        self._waiting += flows
        while len(self._waiting) >= BATCH and len(self._flows) + BATCH <= MOST:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            self._send(batch)

    def rest(self, adds: Sequence[Flow]) -> Sequence[Flow]:
        """Those of these flows that have not been sent. All of them if others have, and the bundle is given up."""
        mine = set(map(id, self._flows))
        others = [flow for flow in adds if id(flow) not in mine] if mine else adds
        if len(others) + len(mine) == len(adds):
            return others
        self.discard()
        return adds

    def errors(self) -> Mapping[Flow, bytes]:
        """What the switch has said against flows that were sent."""
        found = {} if self._talk is None else self._talk.errors
        return {self._flows[index]: error for index, error in found.items() if index < len(self._flows)}

    def end(self) -> None:
        """The bundle has been committed, or discarded, by somebody else."""
        self._open = False

    def discard(self) -> None:
        """Have the switch forget the bundle, if there is one; as if nothing had been sent."""
        if self._talk is not None and self._open:
            with suppress(SwitchGone):
                self._talk.send(messages.bundle_control(messages.DISCARD, self._talk.first, self._talk.xid(MOST)))
        self._talk, self._open, self._flows = None, False, []

    def _send(self, flows: Sequence[Flow]) -> None:
        requests = []
        if self._talk is None:
            self._talk, self._open = self._begin(MOST + 2), True
            requests.append(messages.bundle_control(messages.OPEN, self._talk.first, self._talk.xid(MOST + 1)))
        for flow in flows:
            try:
                mod = encode.flow_mod(flow, self._talk.xid(len(self._flows)))
            except encode.INEXPRESSIBLE:
                continue  # Whoever sends the rest will say so.
            self._flows.append(flow)
            requests.append(messages.bundle_add(self._talk.first, mod))
        self._talk.stream(requests)
        sleep(0)  # The thread that sends gets its turn.
