# SPDX-License-Identifier: Apache-2.0
"""What a switch has taken before: flows that differ from those in values only which decide nothing.

Whether Open vSwitch takes a flow depends on its fields and masks, on the values that are prerequisites of other fields
or that actions are held against (ct_state), and on its actions; not on addresses, ports or registers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from flows import fields as f
from flows.fields import MatchField
from flows.flow import Action, Flow, Load

Shape: TypeAlias = tuple[object, ...]
MANY = 64
"""Flows of which one does not ask: a change of so many takes its time anyway."""
_MOST = 4096
_DECISIVE: frozenset[MatchField] = frozenset({
    f.CT_STATE, f.VLAN_TCI, f.ETH_TYPE, f.IP_FRAG, f.IP_TTL, f.IP_PROTO, f.TCP_FLAGS, f.ICMP_TYPE, f.ICMP_CODE,
    f.ICMPV6_TYPE, f.ICMPV6_CODE, f.ARP_OP,
})  # fmt: skip


class Taken:
    """The shapes of flows that one connection's switch has taken."""

    def __init__(self) -> None:
        self._shapes: set[Shape] = set()

    def note(self, flows: Sequence[Flow]) -> None:
        """All of these were taken."""
        if len(flows) > MANY:
            return
        if len(self._shapes) > _MOST:
            self._shapes.clear()
        self._shapes.update(filter(None, map(shape, flows)))

    def covers(self, flows: Sequence[Flow]) -> bool:
        """Whether like of all of these were taken before."""
        return len(flows) <= MANY and self._shapes.issuperset(map(shape, flows))


def shape(flow: Flow) -> Shape | None:
    """All of a flow that decides whether a switch takes it; None of one that was cast, if others of its mould differ
    in that: nobody need look at it only to find that it is new."""
    return _shape(flow) if flow.mould is None else flow.mould[0].common(_shape)


def _shape(flow: Flow) -> Shape:
    terms = tuple((one.field, one.mask, one.value if one.field in _DECISIVE else None) for one in flow.match.terms)
    return (flow.table, terms, tuple(_kinds(flow.actions)))


def _kinds(actions: Iterable[Action]) -> Iterable[object]:
    """Actions, without the values that they load."""
    return (one.to if isinstance(one, Load) else one for one in actions)
