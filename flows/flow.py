# SPDX-License-Identifier: Apache-2.0
"""The values that the pipeline is made of: `Match`, the actions, and `Flow`.

They are plain values: equal if they say the same, hashable, printable in ovs-ofctl's words, and unable to do anything.
`sgctl.openflow.encode` turns them into OpenFlow bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from flows import text
from flows.fields import Bits, MatchField, Term

if TYPE_CHECKING:
    from flows.moulds import Part, Whole

DIGEST_BITS = 40
"""How long a flow's digest is: the part of its cookie that its owner does not determine."""

Terms: TypeAlias = "Term | Iterable[Terms]"
"""A condition, or several that must all hold."""


@dataclass(frozen=True, slots=True)
class Match:
    """A conjunction of terms, one per field, in the fields' order; no terms matches everything."""

    terms: tuple[Term, ...] = ()

    @classmethod
    def of(cls, *terms: Terms) -> Match:
        """The conjunction of all `terms`; terms about different bits of one field become one.

        Raises ValueError if two terms contradict each other.
        """
        merged: dict[MatchField, Term] = {}
        _merge(merged, terms)
        return cls(tuple(sorted(merged.values(), key=_order)))

    def get(self, wanted: MatchField) -> Term | None:
        """The term about one field."""
        return next((term for term in self.terms if term.field is wanted), None)

    def __str__(self) -> str:
        return text.match(self.terms)


_order = attrgetter("field.order")


def _merge(merged: dict[MatchField, Term], terms: Iterable[Terms]) -> None:
    for term in terms:
        if not isinstance(term, Term):
            _merge(merged, term)
            continue
        old = merged.setdefault(term.field, term)
        if old is not term:
            if (old.value ^ term.value) & old.mask & term.mask:
                raise ValueError(f"contradicting terms for {term.field.name}")
            merged[term.field] = Term(term.field, old.value | term.value, old.mask | term.mask)


@dataclass(frozen=True, slots=True)
class Load:
    """Write a constant into bits (NXAST_REG_LOAD)."""

    to: Bits
    value: int

    def __str__(self) -> str:
        return f"load:{self.value:#x}->{text.bits(self.to)}"


@dataclass(frozen=True, slots=True)
class Move:
    """Copy bits (NXAST_REG_MOVE); both have the same width."""

    source: Bits
    to: Bits

    def __str__(self) -> str:
        return f"move:{text.bits(self.source)}->{text.bits(self.to)}"


@dataclass(frozen=True, slots=True)
class Push:
    """Put a copy of bits on the packet's stack (NXAST_STACK_PUSH)."""

    source: Bits

    def __str__(self) -> str:
        return f"push:{text.bits(self.source)}"


@dataclass(frozen=True, slots=True)
class Pop:
    """Take what was put on the stack last into bits of the same width (NXAST_STACK_POP)."""

    to: Bits

    def __str__(self) -> str:
        return f"pop:{text.bits(self.to)}"


@dataclass(frozen=True, slots=True)
class SetField:
    """Write a whole packet field (OFPAT_SET_FIELD)."""

    to: MatchField
    value: int

    def __str__(self) -> str:
        return f"set_field:{text.value(self.to, self.value)}->{text.SET_NAMES.get(self.to.name, self.to.name)}"


@dataclass(frozen=True, slots=True)
class DecTtl:
    """Decrement the IP TTL or hop limit; a packet whose TTL runs out goes nowhere."""

    def __str__(self) -> str:
        return "dec_ttl"


@dataclass(frozen=True, slots=True)
class Output:
    """Send out of one port; never out of the port it came in by."""

    port: int

    def __str__(self) -> str:
        return f"output:{self.port}"


@dataclass(frozen=True, slots=True)
class OutputBits:
    """Send out of the port whose number stands in bits (NXAST_OUTPUT_REG)."""

    bits: Bits

    def __str__(self) -> str:
        return f"output:{text.bits(self.bits)}"


@dataclass(frozen=True, slots=True)
class Controller:
    """Show the first `max_len` bytes of the packet to the controller (OFPAT_OUTPUT to OFPP_CONTROLLER)."""

    max_len: int = 128

    def __str__(self) -> str:
        return f"CONTROLLER:{self.max_len}"


@dataclass(frozen=True, slots=True)
class Resubmit:
    """Run the packet through another table, then go on with the next action (NXAST_RESUBMIT_TABLE)."""

    table: int

    def __str__(self) -> str:
        return f"resubmit(,{self.table})"


@dataclass(frozen=True, slots=True)
class CtClear:
    """Forget any conntrack state that the packet carries (NXAST_CT_CLEAR)."""

    def __str__(self) -> str:
        return "ct_clear"


@dataclass(frozen=True, slots=True)
class Ct:
    """Look the packet up in conntrack and go on in `table` (NXAST_CT).

    With `commit`, remember its connection and do `execute` to its mark and label.
    """

    zone: int
    table: int
    commit: bool = False
    execute: tuple[Load | Move, ...] = ()

    def __str__(self) -> str:
        parts = ["commit"] if self.commit else []
        parts += [f"table={self.table}", f"zone={self.zone}"]
        if self.execute:
            parts.append(f"exec({','.join(map(str, self.execute))})")
        return f"ct({','.join(parts)})"


@dataclass(frozen=True, slots=True)
class Learn:
    """Install a flow when the packet passes (NXAST_LEARN).

    The learned flow has the constant terms `match`, and terms that compare bits with what the packet has in other bits
    (`copies`: (bits of the new flow, bits of this packet), of equal width). It loads what this packet has in other bits
    (`loads`, likewise), and outputs to `output` of this packet.
    timeout: hard timeout, seconds; 0: it stays until the last flow that learns under its cookie is deleted.
    """

    table: int
    priority: int
    timeout: int
    cookie: int
    match: tuple[Term, ...]
    copies: tuple[tuple[Bits, Bits], ...] = ()
    output: Bits | None = None
    loads: tuple[tuple[Bits, Bits], ...] = ()

    def __str__(self) -> str:
        parts = [f"table={self.table}"]
        parts += [f"hard_timeout={self.timeout}"] if self.timeout else []
        parts.append(f"priority={self.priority}")
        parts += [] if self.timeout else ["delete_learned"]
        parts.append(f"cookie={self.cookie:#x}")
        parts += [text.learn_term(term) for term in self.match]
        parts += [f"{text.bits(new)}={text.bits(old)}" for new, old in self.copies]
        parts += [f"load:{text.bits(old)}->{text.bits(new)}" for new, old in self.loads]
        parts += [f"output:{text.bits(self.output)}"] if self.output is not None else []
        return f"learn({','.join(parts)})"


@dataclass(frozen=True, slots=True)
class Meter:
    """Drop the packet if it exceeds this meter's rate (OFPIT_METER); always the first action."""

    number: int

    def __str__(self) -> str:
        return f"meter:{self.number}"


@dataclass(frozen=True, slots=True)
class Goto:
    """Go on in a later table (OFPIT_GOTO_TABLE); always the last action."""

    table: int

    def __str__(self) -> str:
        return f"goto_table:{self.table}"


Action: TypeAlias = (
    Load | Move | Push | Pop | SetField | DecTtl | Output | OutputBits | Controller | Resubmit | CtClear | Ct | Learn
    | Meter | Goto
)


def digest_of(text: str) -> int:
    """40 bits of a digest of what a flow says."""
    return int.from_bytes(blake2b(text.encode(), digest_size=DIGEST_BITS // 8).digest(), "big")


@lru_cache(maxsize=1 << 12)
def _template(fields: tuple[MatchField, ...], masks: tuple[int, ...]) -> str:
    """The text of a match of these conditions that is digested, with places for the values."""
    return ",".join(f"{field.name}=%x/{mask:x}" for field, mask in zip(fields, masks, strict=True))


@lru_cache(maxsize=1 << 12)
def _words(actions: tuple[Action, ...]) -> str:
    return text.actions(actions)


@dataclass(frozen=True, slots=True)
class Flow:
    """One OpenFlow flow.  No actions: the packet is dropped.

    owner: what it is rebuilt with, for example ``port/<nic>``.  note: why it is there, or the reason of a drop.
    expires: when the switch is to remove it by itself, seconds of this machine's monotonic clock; 0: never.
    mould: what it was cast in, if it was (`flows.moulds`); its match and actions are then made when they are asked for.
    """

    table: int
    priority: int
    match: Match
    actions: tuple[Action, ...]
    owner: str = field(default="", compare=False)
    note: str = field(default="", compare=False)
    cookie: int = field(default=0, compare=False)
    expires: int = field(default=0, compare=False)
    mould: tuple[Part, Whole] | None = field(default=None, compare=False, repr=False)

    if not TYPE_CHECKING:  # Or any attribute would be one, for who checks types.

        def __getattr__(self, name: str) -> Any:
            """What a flow that was cast says."""
            if name not in ("match", "actions"):
                raise AttributeError(f"a Flow has no {name}")
            part, whole = self.mould
            same = whole.flows()[part.place]
            _set_match(self, same.match)
            _set_actions(self, same.actions)
            return getattr(same, name)

    @property
    def key(self) -> tuple[int, int, Match]:
        """What the switch knows a flow by: adding another with the same key replaces it."""
        return (self.table, self.priority, self.match)

    @property
    def drops(self) -> bool:
        """True if a packet that matches goes nowhere."""
        return not self.actions

    def digest(self, salt: int = 0) -> int:
        """40 bits of a digest of the content: table, priority, match and actions."""
        # Thousands of flows differ in values only, so the rest of the text is kept.
        fields, values, masks = zip(*self.match.terms) if self.match.terms else ((), (), ())  # noqa: B905
        terms = _template(fields, masks) % values
        return digest_of(f"{salt} {self.table} {self.priority} {terms} {_words(self.actions)}")

    def wording(self) -> str:
        """What `digest` is made of by `digest_of`, with places for the values of the match, for flows like this one."""
        terms = _template(*zip(*[(field, mask) for field, _, mask in self.match.terms], strict=True))
        return f"0 {self.table} {self.priority} {terms} {_words(self.actions)}"

    def __str__(self) -> str:
        matched = f",{self.match}" if self.match.terms else ""
        return f"table={self.table},priority={self.priority}{matched} actions={text.actions(self.actions)}"


def claim(flow: Flow, owner: str, scope: int) -> Flow:
    """The flow with its owner and, with a `scope`, its cookie.

    One that has just been made, and that nobody else has seen, is given them, for to make it anew takes as long as to
    make it. One that its stage keeps has an owner already, and is never changed again.
    """
    if flow.owner:
        if scope and flow.owner == owner and flow.cookie ^ scope < 1 << DIGEST_BITS:
            return flow
        flow = Flow(flow.table, flow.priority, flow.match, flow.actions, note=flow.note, expires=flow.expires)
    _set_owner(flow, owner)
    if scope:
        _set_cookie(flow, scope | flow.digest())
    return flow


def cast(part: Part, whole: Whole, owner: str, cookie: int) -> Flow:
    """A flow of which nobody has asked yet what it says."""
    flow = _new(Flow)
    _set_table(flow, part.table)
    _set_priority(flow, part.priority)
    _set_owner(flow, owner)
    _set_note(flow, part.note)
    _set_cookie(flow, cookie)
    _set_expires(flow, 0)
    _set_mould(flow, (part, whole))
    return flow


_new = object.__new__
_set_table, _set_priority, _set_match, _set_actions, _set_owner, _set_note, _set_cookie, _set_expires, _set_mould = (
    getattr(Flow, one.name).__set__ for one in fields(Flow)
)
