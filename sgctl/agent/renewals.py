# SPDX-License-Identifier: Apache-2.0
"""Making a userspace datapath forget what it has decided before flows changed.

Open vSwitch remembers a decision, in a cached flow (megaflow), for all packets that look alike in the bits that it has
looked at. When flows change it walks through the cached flows, decides anew, and changes those about which it has
decided otherwise. With the datapath in user space that does not always succeed (seen with Open vSwitch 3.1):

- It finds the cached flow to change by a packet, not by its identity. Where another, wider one takes that packet too,
  the change fails, nobody takes notice, and the old decision holds for as long as such packets come. Rules that were
  narrow, then wide, then gone leave such pairs behind.
- What has to be looked at more closely than before is deleted instead. The table of cached flows shrinks when four
  fifths of it have gone, and the walk ends there. What no walk has come to since it is cached stays until the next
  walk, half a second later.

``revalidator/purge`` (ovs-vswitchd(8)) deletes all of them while nothing is forwarded: what comes next is decided by
the flows as they are. That takes 2 to 3 microseconds for each, and some 15 more when it is needed again. So where much
is cached and changes come in floods, there is a `pause` before flows are changed again, and all that has come meanwhile
is one change with one renewal. The kernel's datapath has neither fault, and is left alone.
"""

from __future__ import annotations

import logging
import re
from time import monotonic

from sgctl.agent.metrics import Metrics
from sgctl.agent.pace import Pace
from sgctl.openflow.control import CACHED, PURGE, Control
from sgctl.openflow.errors import SwitchError

LOG = logging.getLogger(__name__)
AGAIN = 15e-6
"""Seconds that it takes to decide again what was cached."""


class Renewals:
    """What one bridge's switch has cached, as far as it may be of another time than its flows.

    userspace: whether the bridge forwards in user space.
    """

    def __init__(self, control: Control, metrics: Metrics) -> None:
        self.userspace = False
        self._control, self._metrics = control, metrics
        self._pace = Pace()
        self._due = True  # Whoever was here before may have ended between a change and its renewal.
        self._complaint = ""

    @property
    def done(self) -> bool:
        """Whether nothing is cached that other flows than those of now have decided."""
        return not (self._due and self.userspace)

    @property
    def pause(self) -> float:
        """Seconds that changes which can wait should wait, for the sake of packets."""
        return self._pace.left

    def note(self) -> None:
        """Flows are about to change, or have, by whomever: the next renewal has to be one."""
        self._due = True

    def renew(self) -> None:
        """Make the switch forget, if flows have changed since it last did. Whatever keeps it from that is logged, and
        left to the next call; no barrier is answered until then."""
        if self.done:
            return
        try:
            cached = sum(map(int, re.findall(r"current (\d+)", self._control.ask(CACHED))))
            began = monotonic()
            self._control.ask(PURGE)
            self._pace.take(monotonic() - began + cached * AGAIN)
        except SwitchError as error:
            self._complain(str(error))
            return
        self._metrics.renewals.inc()
        if self._complaint:
            LOG.info("the switch forgets cached decisions again")
        self._due, self._complaint = False, ""

    def _complain(self, reason: str) -> None:
        self._metrics.uncached.inc()
        if reason != self._complaint:
            LOG.error("cached decisions may outlive their flows for as long as packets come: %s", reason)
        self._complaint = reason
