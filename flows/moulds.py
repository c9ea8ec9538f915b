# SPDX-License-Identifier: Apache-2.0
"""Flows of units that are alike, made of what they have in common.

Hundreds of ports differ in their numbers, MACs and addresses only. Each of these is put, as it is, in some places of
what their flows say: of conditions, of actions, of messages. Where, is learned from examples that the pipeline makes:
one unit, and the same with one thing changed at a time. Of any other unit only the differences are put there. What
does not come about in this way, or not for a unit with everything changed, is made as always.

So nothing here knows what flows there are: match and actions of a flow that was cast come from the pipeline too, when
somebody looks at them. But what decides which flows a unit has must be part of its shape (`_take_apart`): tests hold
ports of many shapes against the pipeline.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from itertools import chain
from operator import itemgetter, xor
from random import Random
from typing import NamedTuple, TypeAlias, TypeVar

from flows import text
from flows.flow import Flow, cast, digest_of
from flows.inputs import Bridge, Peer, Port, Unit
from flows.pipeline import build
from flows.terms import link_local

ENOUGH = 16
"""How many units of a shape are made as always, before it is worth having a mould."""
_SHAPES = 256
"""How many shapes are known at once."""
_PORTS, _MACS, _NAMES = range(1, 0xFF00), range(1 << 48), range(1 << 32)
_NUMBER = re.compile(r"(0x[0-9a-f]+|\d+)")

T = TypeVar("T")
Shape: TypeAlias = tuple[object, ...]
Numbers: TypeAlias = tuple[int, ...]
Piece: TypeAlias = "tuple[str, str, int]"
"""A part of a text: as it is, how it is written (empty: always so), and its number."""


class Unlike(Exception):
    """That units of one shape differ in more than numbers in places."""


def _take_apart(unit: Port | Peer) -> tuple[Shape, Numbers] | None:
    """What a unit has in common with others, and what is its own; None if there are hardly others like it.

    The shape is all that decides which flows there are, and the rest of what they say. Of a pod it has the identity
    only, so whoever keeps the shape keeps a unit that has it.
    """
    if isinstance(unit, Port):
        if unit.allowed or unit.number not in _PORTS or unit.mac not in _MACS or unit.policy not in _NAMES:
            return None
        derived, subnets = link_local(unit.mac), unit.segment.subnets
        if derived in unit.addresses:
            return None
        within = tuple([(one.version, *[one in subnet for subnet in subnets]) for one in unit.addresses])
        return (Port, id(unit.segment), within), (*_own(unit), int(derived))
    out, into = unit.egress_identity, unit.ingress_identity
    if not isinstance(unit.address, IPv4Address | IPv6Address) or out not in _NAMES or into not in _NAMES:
        return None
    return (Peer, unit.address.version, out > 0, into > 0), _own(unit)


def _own(unit: Port | Peer) -> Numbers:
    if isinstance(unit, Port):
        return (unit.number, unit.mac, unit.policy, *map(int, unit.addresses))
    return (int(unit.address), unit.egress_identity, unit.ingress_identity)  # type: ignore[arg-type]


def _widths(unit: Port | Peer) -> tuple[int, ...]:
    """How many bits of each of these may be others in units of the same shape."""
    if isinstance(unit, Port):
        return (16, 48, 32, *[one.max_prefixlen for one in unit.addresses])
    return (unit.address.max_prefixlen, 32 if unit.egress_identity else 0, 32 if unit.ingress_identity else 0)


def _with(unit: Port | Peer, own: Numbers) -> Port | Peer:
    """The unit with these instead."""
    if isinstance(unit, Port):
        number, mac, policy, *others = own
        addresses = tuple([type(old)(new) for old, new in zip(unit.addresses, others, strict=True)])
        return replace(unit, number=number, mac=mac, policy=policy, addresses=addresses)
    return Peer(type(unit.address)(own[0]), *own[1:])


def _examples(unit: Port | Peer, shape: Shape) -> list[Port | Peer]:
    """The unit, with one thing changed at a time, and with everything changed; all of its shape."""
    dice, own = Random(0), _own(unit)
    examples = [unit]
    for at, width in enumerate(_widths(unit)):
        if width:
            examples.append(_with(unit, _changed(unit, own, at, width, shape, dice)))
    for at, width in enumerate(_widths(unit)):
        if width:
            own = _changed(unit, own, at, width, shape, dice)
    return [*examples, _with(unit, own)]


def _changed(unit: Port | Peer, own: Numbers, at: int, width: int, shape: Shape, dice: Random) -> Numbers:
    """These numbers with another one in one place: as different as it can be."""
    for bits in range(width, 0, -1):
        other = own[at] ^ (dice.getrandbits(bits) | 1)
        changed = (*own[:at], other, *own[at + 1 :])
        apart = _take_apart(_with(unit, changed))
        if apart is not None and apart[0] == shape:
            return changed
    raise Unlike


class Places(NamedTuple):
    """A number that follows from those of a unit: `base` for the mould's first unit; by how far left which of the
    differences from that one are put into it."""

    base: int
    places: tuple[tuple[int, int], ...]

    def of(self, differences: Numbers) -> int:
        """The number for a unit that differs so."""
        whole = self.base
        for which, left in self.places:
            whole ^= differences[which] << left
        return whole


def _places(found: Sequence[int], differences: Sequence[Numbers]) -> Places:
    """How a number that is this for the examples follows from what they differ in."""
    changed = zip(found[1:-1], differences[1:-1], strict=True)
    places = Places(found[0], tuple(chain.from_iterable(_put(found[0] ^ one, by) for one, by in changed)))
    if places.of(differences[-1]) != found[-1]:
        raise Unlike
    return places


def _put(rest: int, differences: Numbers) -> Iterator[tuple[int, int]]:
    """Where the differences must be put to make up the rest."""
    while rest:
        for which, by in enumerate(differences):
            left = _lowest(rest) - _lowest(by)
            if by and left >= 0 and not by << left & ~rest:
                yield which, left
                rest ^= by << left
                break
        else:
            raise Unlike


def _lowest(number: int) -> int:
    return (number & -number).bit_length()


class Whole:
    """A unit that was cast, and how it differs from the mould's first one."""

    __slots__ = ("_bridge", "_flows", "_unit", "differences")

    def __init__(self, unit: Unit, bridge: Bridge, differences: Numbers) -> None:
        self._unit, self._bridge, self.differences = unit, bridge, differences
        self._flows: tuple[Flow, ...] | None = None

    def flows(self) -> tuple[Flow, ...]:
        """All of its flows, from the pipeline, for those who want to see what they say."""
        if self._flows is None:
            self._flows = build(self._unit, self._bridge)
        return self._flows


class Part:
    """One flow of a mould."""

    __slots__ = ("_common", "_differences", "_known", "_like", "form", "note", "numbers", "place", "priority", "table")

    def __init__(self, place: int, like: tuple[Flow, ...], differences: Sequence[Numbers]) -> None:
        first = like[0]
        self.place, self.table, self.priority, self.note = place, first.table, first.priority, first.note
        if any((one.note, one.expires) != (first.note, 0) for one in like):
            raise Unlike
        self._like, self._differences = like, differences
        self._known: dict[Callable[[Flow], int], Places | None] = {}
        self._common: dict[Callable[[Flow], object], object] = {}
        self.form, self.numbers = _form(like, differences)

    def number(self, say: Callable[[Flow], int], whole: Whole) -> int | None:
        """What `say` says of a flow that was cast; None if nothing can be said without looking at it."""
        try:
            places = self._known[say]
        except KeyError:
            places = self._known[say] = self._learn(say)
        return None if places is None else places.of(whole.differences)

    def common(self, say: Callable[[Flow], T]) -> T | None:
        """What `say` says of all such flows; None if that is not the same of all examples."""
        if say not in self._common:
            first, *others = map(say, self._like)
            self._common[say] = first if all(one == first for one in others) else None
        return self._common[say]  # type: ignore[return-value]

    def _learn(self, say: Callable[[Flow], int]) -> Places | None:
        try:
            return _places([say(flow) for flow in self._like], self._differences)
        except Unlike:
            return None


def _form(like: Sequence[Flow], differences: Sequence[Numbers]) -> tuple[str, tuple[Places, ...]]:
    """What the digests of such flows are made of: a text with places for numbers, and these."""
    form, numbers = "", list[Places]()
    for pieces in zip(*map(_pieces, like), strict=True):
        shown, how, _ = pieces[0]
        if len(set(pieces)) == 1:
            form += shown
        elif how and len({one[1] for one in pieces}) == 1:
            form += how
            numbers.append(_places([number for _, _, number in pieces], differences))
        else:
            raise Unlike
    return form, tuple(numbers)


def _pieces(flow: Flow) -> list[Piece]:
    """The text that a flow's digest is made of, in pieces, so that numbers are pieces by themselves."""
    words = text.actions(flow.actions)
    start, *others = flow.wording().removesuffix(words).split("%x")
    pieces = [(start, "", 0)]
    for term, after in zip(flow.match.terms, others, strict=True):
        pieces += [(f"{term.value:x}", "%x", term.value), (after, "", 0)]
    for place, word in enumerate(_NUMBER.split(words)):
        how = ("%#x" if word.startswith("0x") else "%d") if place % 2 else ""
        pieces.append((word, how, int(word, 16 if how == "%#x" else 10) if how else 0))
    return pieces


class Mould:
    """What units of one shape have in common; raises Unlike if that is not all but numbers in places."""

    def __init__(self, unit: Port | Peer, shape: Shape, bridge: Bridge) -> None:
        self._bridge = bridge
        examples = _examples(unit, shape)
        numbers = [apart[1] for apart in map(_take_apart, examples) if apart is not None]
        self._numbers = numbers[0]
        differences = [tuple(map(xor, self._numbers, one)) for one in numbers]
        made = [build(one, bridge) for one in examples]
        if len(set(map(len, made))) > 1:
            raise Unlike
        parts = [Part(place, like, differences) for place, like in enumerate(zip(*made, strict=True))]
        self._distinct = list(dict.fromkeys(places for part in parts for places in part.numbers))
        self._parts = [(part, part.form, _picker([*map(self._distinct.index, part.numbers)])) for part in parts]

    def cast(self, unit: Unit, numbers: Numbers, scope: int) -> tuple[Flow, ...]:
        """The flows of another unit of the shape, as `build` would make them."""
        differences = tuple(map(xor, self._numbers, numbers))
        values = [places.of(differences) for places in self._distinct]
        whole, owner = Whole(unit, self._bridge, differences), unit.owner
        return tuple([
            cast(part, whole, owner, scope | digest_of(form % pick(values)))
            for part, form, pick in self._parts
        ])  # fmt: skip


def _picker(places: Sequence[int]) -> Callable[[Sequence[int]], object]:
    return itemgetter(*places) if places else lambda _: ()


class _Seen:
    """A shape: the first unit that had it, how many there have been, and their mould."""

    __slots__ = ("count", "first", "mould")

    def __init__(self, first: Unit) -> None:
        self.first, self.count = first, 0
        self.mould: Mould | None = None


class Moulds:
    """Makes the flows of a bridge's units as `flows.pipeline.build` does, of many units that are alike faster."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._shapes: dict[Shape, _Seen] = {}

    def build(self, unit: Unit, scope: int) -> tuple[Flow, ...]:
        """All flows that the unit owns, with cookies; `scope` is the owner's part of these."""
        if isinstance(unit, Port | Peer) and (apart := _take_apart(unit)) is not None:
            mould = self._mould(unit, apart[0])
            if mould is not None:
                return mould.cast(unit, apart[1], scope)
        return build(unit, self._bridge, scope)

    def _mould(self, unit: Port | Peer, shape: Shape) -> Mould | None:
        seen = self._shapes.get(shape)
        if seen is None:
            if len(self._shapes) >= _SHAPES:
                self._shapes.clear()
            seen = self._shapes[shape] = _Seen(unit)
        seen.count += 1
        if seen.count == ENOUGH:
            try:
                seen.mould = Mould(unit, shape, self._bridge)
            except Unlike:
                seen.mould = None
        return seen.mould
