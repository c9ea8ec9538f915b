# SPDX-License-Identifier: Apache-2.0
"""Which addresses, or networks that it was promised, a port has flows for in the switch, when an agent starts: those
were its own before, and still are.

Whatever else has become its own while no agent was there may have been somebody else's: an address that was freed, and
given to another tenant. A cookie tells that a flow is there word for word; where it is not, as after an upgrade, the
flows of the port are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

from flows.flow import Flow, Match
from flows.inputs import Block, Port
from flows.tables import NESTED_GUARD, SOURCE_GUARD
from flows.terms import FAMILY, source
from sgctl.openflow import encode
from sgctl.openflow.compare import Terms, terms
from sgctl.openflow.switch import Switch
from sgctl.reconcile import scope

OWNER_MASK = 0xFFFFFF << 40
"""The bits of a cookie that say whose the flow is."""
_GUARDS = (SOURCE_GUARD.id, NESTED_GUARD.id)


class Held:
    """Knows one switch as it was read back: `installed` are the tables of its cookies."""

    def __init__(self, switch: Switch, installed: Mapping[int, int], flows_of: Callable[[str], Iterable[Flow]]) -> None:
        """`flows_of`: the desired flows of an owner."""
        self._switch, self._installed, self._flows_of = switch, installed, flows_of

    @cached_property
    def _owners(self) -> set[int]:
        return {cookie & OWNER_MASK for cookie in self._installed}

    def addresses(self, port: Port) -> frozenset[Block]:
        """The addresses of a port that it may send from already. Raises SwitchError if the switch cannot be read."""
        if scope(port.owner) & OWNER_MASK not in self._owners:
            return frozenset()
        allowed = {address: _allows(address) for address in port.held}
        there = {
            flow.match.terms
            for flow in self._flows_of(port.owner)
            if flow.table in _GUARDS and flow.cookie in self._installed
        }
        held = {address for address, match in allowed.items() if any(set(match.terms) <= set(one) for one in there)}
        if len(held) < len(allowed):
            seen = self._read(port)
            held |= {one for one, match in allowed.items() if any(_terms(match) <= matched for matched in seen)}
        return frozenset(held)

    def _read(self, port: Port) -> list[Terms]:
        """What the port's flows that let it send from something match, whichever version of sgctl has made them."""
        entries = self._switch.entries(cookie=scope(port.owner) & OWNER_MASK, mask=OWNER_MASK)
        return [terms(one.match) for one in entries if one.table in _GUARDS]


def _allows(address: Block) -> Match:
    """What the flow that lets a port send from an address matches besides."""
    return Match.of(FAMILY[address.version], source(address))


def _terms(match: Match) -> Terms:
    return terms(encode.match(match))
