# SPDX-License-Identifier: Apache-2.0
"""Which decisions a userspace datapath must forget when flows change, and how it is made to.

Open vSwitch remembers a decision, in a cached flow, for all packets that look alike in the bits that it has looked at.
When flows change it decides again, and tells its datapath to exchange the actions of what it has decided otherwise. The
userspace datapath of Open vSwitch 3.1 (and older ones) finds the cached flow to change by a packet, not by its
identity: where another, wider one takes that packet too, the change fails, nobody takes notice, and the old actions are
in force for as long as such packets come: let in what no rule lets in any more, or drop what is allowed. A narrow rule,
then a wide one, then none leave both kinds of flows behind (tests/functional/test_stale_cache.py).

What has to be looked at in more bits than it has been is not changed but deleted, by its identity. So a flow stands at
each gate of a part of the pipeline, above all others, that no packet matches: its look at some bits of pkt_mark, which
are 0, is remembered with every decision made beyond. With every change of a part these are others of the part's bits,
two out of five, so that ten changes go by before any two bits come again.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from flows.tables import (
    CLASSIFIER,
    COMMIT,
    CONNTRACK,
    EGRESS_BUNDLES,
    EGRESS_PEER,
    INGRESS_BUNDLES,
    INGRESS_PEER,
    OUTPUT,
    RELATED,
    RESUMED_SENDER,
    STATE,
    Table,
)

_WIDTH, _AT_ONCE = 5, 2
_CHOICES = tuple(sum(1 << bit for bit in bits) for bits in combinations(range(_WIDTH), _AT_ONCE))
TURNS = len(_CHOICES)
"""So many different looks at a part's bits there are."""


@dataclass(frozen=True, slots=True)
class Part:
    """Tables, all those between two, that packets only get into by their gates."""

    name: str
    number: int
    first: Table
    last: Table
    gates: tuple[Table, ...]

    def holds(self, table: int) -> bool:
        """Whether a table, by its number, is one of them."""
        return self.first.id <= table <= self.last.id


#: All of the pipeline. What has been accepted is decided in the second pass, by STATE and OUTPUT: rules and members of
#: groups, which change most, are only asked about what is new.
PARTS = (
    Part("senders", 0, CLASSIFIER, CONNTRACK, (CLASSIFIER,)),
    Part("connections", 1, RESUMED_SENDER, RELATED, (RESUMED_SENDER, STATE)),
    Part("egress", 2, EGRESS_PEER, EGRESS_BUNDLES, (EGRESS_PEER,)),
    Part("ingress", 3, INGRESS_PEER, INGRESS_BUNDLES, (INGRESS_PEER,)),
    Part("commits", 4, COMMIT, COMMIT, (COMMIT,)),
    Part("output", 5, OUTPUT, OUTPUT, (OUTPUT,)),
)


@dataclass(frozen=True, slots=True)
class Renewal:
    """A part of the pipeline, and the turn at which it is; the next one makes the switch decide about it anew."""

    part: Part
    turn: int

    @property
    def owner(self) -> str:
        """The owner of the flows at this part's gates."""
        return f"renewal/{self.part.name}"

    @property
    def bits(self) -> int:
        """What the gates look at, of pkt_mark."""
        return _CHOICES[self.turn % TURNS] << self.part.number * _WIDTH
