# SPDX-License-Identifier: Apache-2.0
"""Bounds on what one VM may use of what all share: conntrack's table, its list of fragments, the agent, all VMs' ears.

Announcements that are shown to a whole pod count with the fragments that their VM sends, for a switch has no room for a
fifth meter per port.

Each bound is a meter of the switch with a number derived from the port's, so equal worlds have equal meters. A bound
stands only where the shared thing is used: established connections and whole packets never meet one. The meters 4 to
`LAST` of a bridge are sgctl's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from flows.flow import Action, Meter
from flows.inputs import Bridge, Limit, Limits, Port, Standby, Unit
from flows.tables import CLASSIFIER, COMMIT, CONNTRACK, STATE, Table

_PER_PORT = 4
FIRST = _PER_PORT
LAST = 0xFEFF * _PER_PORT + _PER_PORT - 1


class Bound(Enum):
    """What is bounded; its value is the reason of the drops."""

    OPENED = "more new connections from a VM than its bound"
    ACCEPTED = "more new connections to a VM than its bound"
    FRAGMENTS_SENT = "more fragments or announcements from a VM than its bound"
    FRAGMENTS_RECEIVED = "more fragments to a VM than its bound"
    SHOWN = "more frames of a VM that arrives than are shown"

    @property
    def table(self) -> Table:
        """Where it stands."""
        return _PLACES[self][1]

    def limit(self, limits: Limits) -> Limit | None:
        """How many there may be."""
        if self is Bound.SHOWN:
            return limits.frames
        return limits.connections if self in (Bound.OPENED, Bound.ACCEPTED) else limits.fragments

    def number(self, port: int) -> int:
        """The number of a port's meter."""
        return port * _PER_PORT + _PLACES[self][0]


#: The slot of each bound among a port's meters, and its table.  A port on standby has no connections.
_PLACES = {
    Bound.OPENED: (0, STATE),
    Bound.ACCEPTED: (1, COMMIT),
    Bound.FRAGMENTS_SENT: (2, CONNTRACK),
    Bound.FRAGMENTS_RECEIVED: (3, CONNTRACK),
    Bound.SHOWN: (0, CLASSIFIER),
}
_SENDING = (Bound.OPENED, Bound.FRAGMENTS_SENT)
_RECEIVING = (Bound.ACCEPTED, Bound.FRAGMENTS_RECEIVED)


@dataclass(frozen=True, slots=True)
class MeterSpec:
    """A meter that the switch should have: it drops what exceeds `rate` packets per second after `burst` packets.

    owner: the unit whose flows use it.  bound: what it is for.
    """

    number: int
    rate: int
    burst: int
    owner: str = field(default="", compare=False)
    bound: Bound | None = field(default=None, compare=False)


def meters(unit: Unit, bridge: Bridge) -> Iterator[MeterSpec]:
    """The meters that the flows of a unit use."""
    if not isinstance(unit, Port | Standby):
        return
    for bound in _bounds(unit, bridge):
        limit = bound.limit(bridge.limits)
        if limit is not None:
            yield MeterSpec(bound.number(unit.number), limit.rate, limit.burst, unit.owner, bound)


def _bounds(unit: Port | Standby, bridge: Bridge) -> tuple[Bound, ...]:
    """A port without an address has no connections, and without uplinks none come from outside."""
    if isinstance(unit, Standby):
        return (Bound.SHOWN,)
    if not unit.held:
        return ()
    return (*_SENDING, *_RECEIVING) if bridge.uplinks else _SENDING


def within(bound: Bound, unit: Port | Standby, bridge: Bridge, *actions: Action) -> tuple[Action, ...]:
    """These actions, for as many packets as the bound of a port lets pass; for all if there is no such bound."""
    if bound.limit(bridge.limits) is None:
        return actions
    return (Meter(bound.number(unit.number)), *actions)
