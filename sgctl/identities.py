# SPDX-License-Identifier: Apache-2.0
"""Which set of groups that local rules name each address is in, per direction of the rules: its *identities*. A network
that was promised to a NIC counts like an address.

Followed change by change, for a group may have ten thousand members: only addresses whose members came, went or
changed are looked at again. What comes out depends on the present members and names alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TypeAlias

from flows.inputs import Block, Peer
from sgctl.addresses import parse_block
from sgctl.memo import difference
from sgctl.model import Member

Groups: TypeAlias = frozenset[str]
Pair: TypeAlias = tuple[Groups, Groups]
"""The groups that egress rules name, and those that ingress rules name."""
Numbers: TypeAlias = Mapping[Groups, int]
_NOBODY: Pair = (frozenset(), frozenset())


class Identities:
    """The identities of all addresses that local rules name through groups, and the `Peer` of each."""

    def __init__(self) -> None:
        self._named = _NOBODY
        self._members: tuple[Member, ...] = ()
        self._forget()

    def _forget(self) -> None:
        self._at: dict[Block, dict[str, str]] = {}
        self._pairs: dict[Block, Pair] = {}
        self._counts: tuple[Counter[Groups], Counter[Groups]] = (Counter(), Counter())
        self._stale: set[Block] = set()
        self._numbers: dict[Groups, int] = {}
        self._peers: dict[str, Peer] = {}

    def follow(self, members: tuple[Member, ...], named: Pair) -> tuple[frozenset[Groups], frozenset[Groups]]:
        """Take over the members that there are now and the named groups; the distinct identities of each direction."""
        if named != self._named:
            self._forget()
            self._named, self._members = named, ()
        if members != self._members:
            self._take(*difference(self._members, members))
            self._members = members
        egress, ingress = self._counts
        return frozenset(egress), frozenset(ingress)

    def peers(self, numbers: Numbers) -> Mapping[str, Peer]:
        """The peers by owner; the same object as before if none differs."""
        if any(numbers.get(groups, number) != number for groups, number in self._numbers.items()):
            self._peers = {}
            self._stale.update(self._pairs)
        self._numbers = dict(numbers)
        if self._stale:
            self._peers = dict(self._peers)
        for address in self._stale:
            out, into = self._pairs.get(address, _NOBODY)
            peer = Peer(address, numbers[out] if out else 0, numbers[into] if into else 0)
            if out or into:
                self._peers[peer.owner] = peer
            else:
                self._peers.pop(peer.owner, None)
        self._stale.clear()
        return self._peers

    def _take(self, left: list[Member], changed: list[Member]) -> None:
        """These rows have gone, and these have come; some may be the same."""
        touched = {address: self._at.setdefault(address, {}) for row in left if (address := self._concerns(row))}
        for row in left:
            if address := self._concerns(row):
                touched[address].pop(row.id, None)
        for row in changed:
            if address := self._concerns(row):
                touched[address] = self._at.setdefault(address, {})
                touched[address][row.id] = row.group
        for address, groups in touched.items():
            self._settle(address, frozenset(groups.values()))

    def _concerns(self, row: Member) -> Block | None:
        """The address of a member of a named group."""
        egress, ingress = self._named
        return parse_block(row.address) if row.group in egress or row.group in ingress else None

    def _settle(self, address: Block, groups: Groups) -> None:
        """The address is in these groups now."""
        before = self._pairs.pop(address, _NOBODY)
        now = (groups & self._named[0], groups & self._named[1])
        if groups:
            self._pairs[address] = now
        else:
            self._at.pop(address, None)
        for counts, old, new in zip(self._counts, before, now, strict=True):
            _count(counts, old, -1)
            _count(counts, new, 1)
        if before != now:
            self._stale.add(address)


def _count(counts: Counter[Groups], groups: Groups, by: int) -> None:
    if groups:
        counts[groups] += by
        if not counts[groups]:
            del counts[groups]
