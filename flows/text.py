# SPDX-License-Identifier: Apache-2.0
"""Matches, actions and values in ovs-ofctl's words (ovs-fields(7), ovs-actions(7))."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from ipaddress import IPv4Address, IPv6Address

from flows.fields import CT_STATES, Bits, MatchField, Term

#: Shorthands of ovs-ofctl for (dl_type, nw_proto).
SHORTHANDS = {
    (0x0800, None): "ip", (0x0800, 1): "icmp", (0x0800, 6): "tcp", (0x0800, 17): "udp", (0x0800, 132): "sctp",
    (0x86DD, None): "ipv6", (0x86DD, 58): "icmp6", (0x86DD, 6): "tcp6", (0x86DD, 17): "udp6", (0x86DD, 132): "sctp6",
    (0x0806, None): "arp", (0x8035, None): "rarp",
}  # fmt: skip
FRAGMENTS = {(0, 1): "no", (1, 1): "yes", (1, 3): "first", (3, 3): "later", (0, 3): "no"}
#: set_field wants the standard's names.
SET_NAMES = {"dl_src": "eth_src", "dl_dst": "eth_dst"}
#: learn() wants NXM names, in which terms must be whole fields.
NXM_NAMES = {"dl_type": "eth_type", "nw_proto": "ip_proto", "dl_dst": "eth_dst", "nw_src": "ip_src", "nw_dst": "ip_dst"}


@cache
def bits(part: Bits) -> str:
    """A range of bits as actions name it, for example ``NXM_NX_REG0[0..15]``."""
    name = f"NXM_NX_{part.of.name.upper()}"
    if part.width == part.of.bits:
        return f"{name}[]"
    if part.width == 1:
        return f"{name}[{part.first}]"
    return f"{name}[{part.first}..{part.last}]"


def value(field: MatchField, number: int) -> str:
    """A value as people write it for this field."""
    if field.kind == "mac":
        return number.to_bytes(6, "big").hex(":")
    if field.kind == "ipv4":
        return str(IPv4Address(number))
    if field.kind == "ipv6":
        return str(IPv6Address(number))
    return f"{number:#x}" if field.kind in ("hex", "ct_state") else str(number)


def mac(number: int) -> str:
    """A MAC address in lower-case colon form."""
    return number.to_bytes(6, "big").hex(":")


def term(one: Term) -> str:
    """One condition, for example ``nw_dst=10.0.0.0/8``."""
    field = one.field
    if field.kind == "ct_state":
        flags = (("+" if one.value & bit else "-") + name for name, bit in CT_STATES.items() if one.mask & bit)
        return f"ct_state={''.join(flags)}"
    if field.kind == "frag":
        return f"nw_frag={FRAGMENTS[one.value, one.mask]}"
    shown = value(field, one.value)
    if one.mask == field.full:
        return f"{field.name}={shown}"
    if field.kind in ("ipv4", "ipv6"):
        zeros = (~one.mask & field.full).bit_length()
        if one.mask == field.full ^ ((1 << zeros) - 1):
            return f"{field.name}={shown}/{field.bits - zeros}"
    if field.kind in ("decimal", "port"):
        return f"{field.name}={one.value:#x}/{one.mask:#x}"
    mask = value(field, one.mask)
    return f"{field.name}={shown}/{mask}"


def match(terms: Iterable[Term]) -> str:
    """All conditions, with ovs-ofctl's shorthand for the protocol in front of the fields that need it."""
    exact = {one.field.name: one.value for one in terms if one.mask == one.field.full}
    kind = exact.get("dl_type")
    proto = exact.get("nw_proto") if kind in (0x0800, 0x86DD) else None
    shorthand = SHORTHANDS.get((kind, proto)) if kind is not None else None
    covered = {"dl_type", "nw_proto"}
    if shorthand is None and kind is not None:
        shorthand, covered = SHORTHANDS.get((kind, None)), {"dl_type"}
    if shorthand is None:
        return ",".join(map(term, terms))
    kept = (one for one in terms if one.field.name not in covered - {"dl_type"})
    return ",".join(shorthand if one.field.name == "dl_type" else term(one) for one in kept)


def learn_term(one: Term) -> str:
    """A constant condition of a learned flow, which takes whole fields by their standard names."""
    return f"{NXM_NAMES.get(one.field.name, one.field.name)}={value(one.field, one.value)}"


def actions(of: Iterable[object]) -> str:
    """The actions of a flow; none is ``drop``."""
    return ",".join(map(str, of)) or "drop"
