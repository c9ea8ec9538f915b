# SPDX-License-Identifier: Apache-2.0
"""All fields of a packet as one number, so that a whole match is one AND and one comparison.

Every `MatchField` has its own place in the number, in the order of `FIELDS`. A packet that lacks a field has zeros
there, as in the switch, where a match on that field would need a prerequisite that the packet does not meet either.
"""

from __future__ import annotations

from collections.abc import Iterable

from flows.fields import FIELDS, IN_PORT, Bits, MatchField, Term

_SHIFT: list[int] = []
_width = 0
for _field in FIELDS.values():
    _SHIFT.append(_width)
    _width += _field.bits

#: Bits of fields that are sets of flags, and that can be written only by these.
_FLAGS = {"frag": 0x03, "ct_state": 0x3F}


def get(headers: int, field: MatchField) -> int:
    """The value of one field."""
    return (headers >> _SHIFT[field.order]) & field.full


def put(headers: int, field: MatchField, value: int) -> int:
    """The same headers with another value in one field."""
    shift = _SHIFT[field.order]
    return headers & ~(field.full << shift) | (value & field.full) << shift


def get_bits(headers: int, bits: Bits) -> int:
    """The value of a part of a field."""
    return (headers >> (_SHIFT[bits.of.order] + bits.first)) & ((1 << bits.width) - 1)


def put_bits(headers: int, bits: Bits, value: int) -> int:
    """The same headers with another value in a part of a field."""
    shift, ones = _SHIFT[bits.of.order] + bits.first, (1 << bits.width) - 1
    return headers & ~(ones << shift) | (value & ones) << shift


def pack(terms: Iterable[Term]) -> tuple[int, int]:
    """(value, mask) of a match: it matches headers where ``headers & mask == value``."""
    value = mask = 0
    for term in terms:
        shift = _SHIFT[term.field.order]
        value |= term.value << shift
        mask |= term.mask << shift
    return value, mask


def unpack(headers: int) -> tuple[Term, ...]:
    """Terms of all fields that are not zero: exact ones, or for flags the bits that there are."""
    found = ((field, get(headers, field)) for field in FIELDS.values())
    return tuple(field.masked(value, _FLAGS.get(field.kind, field.full)) for field, value in found if value)


#: The fields that a conntrack look-up writes; they exist only after it.
CONNTRACK_FIELDS = tuple(field for field in FIELDS.values() if field.name.startswith("ct_"))
#: Masks of these, and of all that is not in the frame itself.
CONNTRACK = pack(field.eq(field.full) for field in CONNTRACK_FIELDS)[1]
METADATA = CONNTRACK | pack(f.eq(f.full) for f in FIELDS.values() if f is IN_PORT or f.name.startswith("reg"))[1]


def untracked(headers: int) -> int:
    """The headers before any conntrack look-up."""
    return headers & ~CONNTRACK
