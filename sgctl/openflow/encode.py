# SPDX-License-Identifier: Apache-2.0
"""Flows as OpenFlow 1.4 bytes: OXM and NXM matches, standard and Nicira actions, instructions, FLOW_MOD.

The formats are those of the OpenFlow 1.4 specification, sections 7.2.2 to 7.2.4 and 7.3.4.1, and of nicira-ext.h and
ofp-actions.c of Open vSwitch.  os-ken's objects would say the same a hundred times slower; the tests compare both byte
for byte.  Lists of actions repeat from flow to flow, so their bytes are remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from itertools import takewhile
from math import ceil
from operator import lshift
from struct import Struct
from struct import error as StructError
from time import monotonic
from typing import Any

from flows.fields import Bits, MatchField, Term
from flows.flow import (
    Action,
    Controller,
    Ct,
    CtClear,
    DecTtl,
    Flow,
    Goto,
    Learn,
    Load,
    Match,
    Meter,
    Move,
    Output,
    OutputBits,
    Pop,
    Push,
    Resubmit,
    SetField,
)

INEXPRESSIBLE = (ValueError, OverflowError, StructError)
"""What the functions here raise about a flow that OpenFlow has no words for."""

VERSION = 5
FLOW_MOD = 14
NICIRA = 0x2320
NO_BUFFER = ANY_PORT = ANY_GROUP = 0xFFFFFFFF
PORT_IN_PORT = 0xFFFFFFF8
PORT_CONTROLLER = 0xFFFFFFFD
EXACT_COOKIE = 0xFFFFFFFFFFFFFFFF
ADD, DELETE, DELETE_STRICT = 0, 3, 4
MAX_TIMEOUT = 0xFFFF

# Action types of the standard, and Nicira's subtypes.
_OUTPUT, _DEC_NW_TTL, _SET_FIELD, _EXPERIMENTER = 0, 24, 25, 0xFFFF
_REG_MOVE, _REG_LOAD, _RESUBMIT_TABLE, _OUTPUT_REG, _LEARN, _CT, _CT_CLEAR = 6, 7, 14, 15, 16, 35, 43
_STACK_PUSH, _STACK_POP = 27, 28
_GOTO_TABLE, _APPLY_ACTIONS, _METER = 1, 4, 6
# Kinds of a learn specification: bits of this packet or a constant, to a term, to bits or to an output.
_FROM_CONSTANT, _TO_BITS, _TO_OUTPUT = 1 << 13, 1 << 11, 2 << 11
_DELETE_LEARNED = 2

_pack_short = Struct("!H").pack
_pack_oxm = Struct("!I").pack
_pack_flow_mod = Struct("!BBHIQQBBHHHIIIHH").pack
_pack_addition = Struct("!2sHIQ8xB3xHH16s").pack
_pack_match = Struct("!HH").pack
_pack_output = Struct("!HHIH6x").pack
_pack_apply = Struct("!HH4x").pack
_pack_goto = Struct("!HHB3x").pack
_pack_meter = Struct("!HHI").pack
_pack_nicira = Struct("!HHIH").pack
_MOD, _ANYWHERE = bytes((VERSION, FLOW_MOD)), b"\xff" * 12 + bytes(4)
"""How a FLOW_MOD begins; no buffer, port or group, no flags, no importance."""
_PADDING = [bytes(size) for size in range(8)]
_FLOW_MOD_SIZE = 48


def flow_mod(flow: Flow, xid: int) -> bytes:
    """The FLOW_MOD that adds `flow`, or replaces the one with its table, priority and match."""
    if flow.mould is not None:
        part, whole = flow.mould
        number = part.number(_as_number, whole)
        if number is not None:
            size = (number.bit_length() + 7) // 8
            return (number | xid << 8 * size - 64 | flow.cookie << 8 * size - 128).to_bytes(size, "big")
    return _whole_mod(flow, flow.cookie, xid)


def _as_number(flow: Flow) -> int:
    """The FLOW_MOD without cookie and xid, as a number."""
    return int.from_bytes(_whole_mod(flow, 0, 0), "big")


def _whole_mod(flow: Flow, cookie: int, xid: int) -> bytes:
    matched, then = match(flow.match), instructions(flow.actions)
    return (
        _pack_addition(
            _MOD, _FLOW_MOD_SIZE + len(matched) + len(then), xid, cookie, flow.table,
            _timeout(flow) if flow.expires else 0, flow.priority, _ANYWHERE,
        )
        + matched
        + then
    )  # fmt: skip


def _timeout(flow: Flow) -> int:
    """The hard timeout of a flow that expires, seconds from now."""
    return min(MAX_TIMEOUT, max(1, ceil(flow.expires - monotonic())))


def flow_delete(cookie: int, table: int, xid: int) -> bytes:
    """The FLOW_MOD that deletes the flows of one table that have exactly this cookie."""
    return (
        _pack_flow_mod(
            VERSION, FLOW_MOD, _FLOW_MOD_SIZE + 8, xid, cookie, EXACT_COOKIE, table, DELETE, 0, 0, 0,
            NO_BUFFER, ANY_PORT, ANY_GROUP, 0, 0,
        )
        + _ANY
    )  # fmt: skip


def flow_removal(cookie: int, table: int, priority: int, raw_match: bytes, xid: int) -> bytes:
    """The FLOW_MOD that deletes the one flow with this table, priority and encoded match, if it has this cookie."""
    return (
        _pack_flow_mod(
            VERSION, FLOW_MOD, _FLOW_MOD_SIZE + len(raw_match), xid, cookie, EXACT_COOKIE, table, DELETE_STRICT, 0, 0,
            priority, NO_BUFFER, ANY_PORT, ANY_GROUP, 0, 0,
        )
        + raw_match
    )  # fmt: skip


def match(of: Match) -> bytes:
    """A match as ``struct ofp_match``, padded to eight bytes.

    Most matches are like thousands of others but for their values. So there is one template for all with the same
    fields and masks, and the values are put into it as into one large number, without a step of the interpreter for
    each. A `Term` has been made by its field, so its value fits.
    """
    if not of.terms:
        return _ANY
    fields, values, masks = zip(*of.terms)  # noqa: B905 - all are triples, and `strict` would cost a sixth
    constant, shifts, size = _template(fields, masks)
    whole: int = sum(map(lshift, values, shifts), constant)
    return whole.to_bytes(size, "big")


@lru_cache(maxsize=1 << 12)
def _template(fields: tuple[MatchField, ...], masks: tuple[int, ...]) -> tuple[int, list[int], int]:
    """A match of these conditions, all values 0, as a number; how far left each value belongs; the bytes in all."""
    entries, ends = b"", []
    for field, mask in zip(fields, masks, strict=True):
        entry = term(Term(field, 0, mask))
        ends.append(len(entries) + len(entry) - (0 if mask == field.full else _headers(field)[2]))
        entries += entry
    whole = _pack_match(1, 4 + len(entries)) + entries + _PADDING[-(4 + len(entries)) % 8]
    return int.from_bytes(whole, "big"), [8 * (len(whole) - 4 - end) for end in ends], len(whole)


def term(one: Term) -> bytes:
    """One condition as an OXM entry; a mask of all ones is not sent."""
    field, value, mask = one
    exact, masked, size, full = _headers(field)
    if mask == full:
        return exact + value.to_bytes(size, "big")
    return masked + value.to_bytes(size, "big") + mask.to_bytes(size, "big")


@cache
def _headers(field: MatchField) -> tuple[bytes, bytes, int, int]:
    """A field's OXM headers without and with a mask, the bytes that its values take, and its full mask."""
    size = (field.bits + 7) // 8
    number = field.oxm_class << 16 | field.oxm_field << 9
    return _pack_oxm(number | size), _pack_oxm(number | 0x100 | size * 2), size, field.full


def oxm(field: MatchField) -> bytes:
    """The OXM header of a field without a mask."""
    return _headers(field)[0]


@lru_cache(maxsize=1 << 14)
def instructions(of: tuple[Action, ...]) -> bytes:
    """The instructions: the meter, the actions applied at once, then the table to go on in."""
    result = b""
    if of and isinstance(of[0], Meter):
        result, of = _pack_meter(_METER, 8, of[0].number), of[1:]
    applied = tuple(takewhile(_is_action, of))
    if applied:
        encoded = actions(applied)
        result += _pack_apply(_APPLY_ACTIONS, 8 + len(encoded)) + encoded
    match of[len(applied) :]:
        case ():
            return result
        case (Goto(table=table),):
            return result + _pack_goto(_GOTO_TABLE, 8, table)
    raise ValueError("a goto is not the last action, or a meter not the first")


def _is_action(one: Action) -> bool:
    return not isinstance(one, Goto | Meter)


def actions(of: Iterable[Action]) -> bytes:
    """A list of actions, as in an instruction or in a PACKET_OUT."""
    return b"".join(_ENCODERS[type(one)](one) for one in of)


def _nicira(subtype: int, layout: str, *values: int | bytes, tail: bytes = b"") -> bytes:
    """A Nicira action, padded to eight bytes."""
    body = _layout(layout).pack(*values) + tail
    size = 10 + len(body)
    padding = -size % 8
    return _pack_nicira(_EXPERIMENTER, size + padding, NICIRA, subtype) + body + _PADDING[padding]


@cache
def _layout(layout: str) -> Struct:
    return Struct("!" + layout)


def _window(bits: Bits) -> int:
    """Offset and width of a part of a field, as `ofs_nbits`."""
    return bits.first << 6 | bits.width - 1


def _load(one: Load) -> bytes:
    return _nicira(_REG_LOAD, "H4sQ", _window(one.to), oxm(one.to.of), one.value)


def _move(one: Move) -> bytes:
    source, to = one.source, one.to
    if source.width != to.width:
        raise ValueError(f"{one} moves {source.width} bits to {to.width}")
    return _nicira(_REG_MOVE, "HHH4s4s", to.width, source.first, to.first, oxm(source.of), oxm(to.of))


def _push(one: Push) -> bytes:
    return _stack(_STACK_PUSH, one.source)


def _pop(one: Pop) -> bytes:
    return _stack(_STACK_POP, one.to)


def _stack(subtype: int, bits: Bits) -> bytes:
    return _nicira(subtype, "H4sH6x", bits.first, oxm(bits.of), bits.width)


def _set_field(one: SetField) -> bytes:
    entry = term(one.to.eq(one.value))
    padding = -(4 + len(entry)) % 8
    return _pack_match(_SET_FIELD, 4 + len(entry) + padding) + entry + bytes(padding)


def _dec_ttl(_one: DecTtl) -> bytes:
    return _pack_apply(_DEC_NW_TTL, 8)


def _output(one: Output) -> bytes:
    return _pack_output(_OUTPUT, 16, one.port, 0)


def _output_bits(one: OutputBits) -> bytes:
    return _nicira(_OUTPUT_REG, "H4sH6x", _window(one.bits), oxm(one.bits.of), 0)


def _controller(one: Controller) -> bytes:
    return _pack_output(_OUTPUT, 16, PORT_CONTROLLER, one.max_len)


def _resubmit(one: Resubmit) -> bytes:
    return _nicira(_RESUBMIT_TABLE, "HB3x", PORT_IN_PORT & 0xFFFF, one.table)


def _ct_clear(_one: CtClear) -> bytes:
    return _nicira(_CT_CLEAR, "6x")


def _ct(one: Ct) -> bytes:
    return _nicira(_CT, "H4sHB3xH", int(one.commit), bytes(4), one.zone, one.table, 0, tail=actions(one.execute))


def _learn(one: Learn) -> bytes:
    specs = b"".join(map(_learn_constant, one.match)) + b"".join(_learn_copy(new, old) for new, old in one.copies)
    specs += b"".join(_learn_copy(new, old, _TO_BITS) for new, old in one.loads)
    specs += _learn_subject(one.output, _TO_OUTPUT) if one.output is not None else b""
    flags = 0 if one.timeout else _DELETE_LEARNED
    return _nicira(_LEARN, "HHHQHBxHH", 0, one.timeout, one.priority, one.cookie, flags, one.table, 0, 0, tail=specs)


def _learn_constant(one: Term) -> bytes:
    if one.mask != one.field.full:
        raise ValueError(f"a learned flow cannot have the masked condition {one}")
    size = (one.field.bits + 15) // 16 * 2
    value = one.value.to_bytes(size, "big")
    return _pack_short(_FROM_CONSTANT | one.field.bits) + value + oxm(one.field) + _pack_short(0)


def _learn_copy(new: Bits, old: Bits, kind: int = 0) -> bytes:
    if new.width != old.width:
        raise ValueError(f"a learned flow cannot compare {new} with {old}, or load it")
    return _learn_subject(old, kind) + oxm(new.of) + _pack_short(new.first)


def _learn_subject(bits: Bits, kind: int) -> bytes:
    return _pack_short(kind | bits.width) + oxm(bits.of) + _pack_short(bits.first)


_ENCODERS: dict[type[Action], Callable[[Any], bytes]] = {
    Load: _load,
    Move: _move,
    Push: _push,
    Pop: _pop,
    SetField: _set_field,
    DecTtl: _dec_ttl,
    Output: _output,
    OutputBits: _output_bits,
    Controller: _controller,
    Resubmit: _resubmit,
    CtClear: _ct_clear,
    Ct: _ct,
    Learn: _learn,
}
_ANY = _pack_match(1, 4) + _PADDING[4]
