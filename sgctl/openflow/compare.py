# SPDX-License-Identifier: Apache-2.0
"""Whole flows compared: not only that a cookie is there, but that its flow matches and does what it should.

The switch writes a match's fields in an order of its own, so they are compared as a set; actions keep their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct, unpack_from
from time import monotonic
from typing import NamedTuple, TypeAlias

from flows.flow import Flow, Learn
from flows.learned import learned
from sgctl.openflow import encode
from sgctl.openflow.replies import MULTIPART_HEAD
from sgctl.reconcile import ours

_HEAD = Struct("!HB9xHHH6xQ16x")
#: What Open vSwitch tells in other words than ours: vlan_tci as vlan_vid, both bits of nw_frag without a mask, and
#: tcp_flags as a field of the Open Networking Foundation.
_VLAN_VID, _VLAN_TCI = bytes.fromhex("80000d04"), bytes.fromhex("00000904")
_FRAG, _FRAG_MASKED = bytes.fromhex("00013401"), bytes.fromhex("00013502")
_FRAG_BITS = 3
_TCP_FLAGS, _TCP_FLAGS_ONF, _ONF = bytes.fromhex("00014504"), bytes.fromhex("ffff5508"), b"ONF\0"
#: And fields of learned flows by their names in NXM: destination MAC, Ethernet type, IPv4 source.
_IN_LEARN = (
    (bytes.fromhex("80000606"), bytes.fromhex("00000206")),
    (bytes.fromhex("80000a02"), bytes.fromhex("00000602")),
    (bytes.fromhex("80001604"), bytes.fromhex("00000e04")),
)

Terms: TypeAlias = frozenset[tuple[bytes, bytes]]


class Entry(NamedTuple):
    """An installed flow, match and instructions as the switch has sent them. expires: it has a timeout."""

    cookie: int
    table: int
    priority: int
    expires: bool
    match: bytes
    instructions: bytes

    @property
    def key(self) -> tuple[int, int, Terms]:
        """What the switch knows the flow by."""
        return (self.table, self.priority, terms(self.match))


class Part(NamedTuple):
    """The flows whose cookies have `value` in the bits of `mask`."""

    mask: int = 0
    value: int = 0

    def holds(self, cookie: int) -> bool:
        """Whether a flow with this cookie is among them."""
        return cookie & self.mask == self.value


def parts(count: int) -> tuple[Part, ...]:
    """All flows in so many parts, a power of two; ours are in parts of one size, for the low bits of a cookie are part
    of a digest."""
    if count & (count - 1):
        raise ValueError(f"{count} is no power of two")
    return tuple(Part(count - 1, value) for value in range(count))


@dataclass(frozen=True, slots=True)
class Findings:
    """How installed flows differ from the desired ones.

    missing: desired, not there.  changed: there, but doing something else (as it should be).  intruders: under our
    cookies, not desired.  foreign: under others' cookies.
    """

    missing: tuple[Flow, ...] = ()
    changed: tuple[Flow, ...] = ()
    intruders: tuple[Entry, ...] = ()
    foreign: tuple[Entry, ...] = ()

    @property
    def wrong(self) -> bool:
        """Whether there is something to repair; foreign flows may stay."""
        return bool(self.missing or self.changed or self.intruders)


def entries(replies: Iterable[bytes]) -> Iterator[Entry]:
    """The flows of multipart replies."""
    for data in replies:
        offset = MULTIPART_HEAD
        while offset < len(data):
            size, table, priority, idle, hard, cookie = _HEAD.unpack_from(data, offset)
            length = unpack_from("!H", data, offset + _HEAD.size + 2)[0]
            end = offset + _HEAD.size + (length + 7) // 8 * 8
            if not _HEAD.size < end - offset <= size:
                raise ValueError(f"flow statistics of {size} bytes")
            match, instructions = data[offset + _HEAD.size : end], data[end : offset + size]
            yield Entry(cookie, table, priority, bool(idle or hard), match, instructions)
            offset += size


@lru_cache(maxsize=1 << 12)
def terms(match: bytes) -> Terms:
    """The fields of a match with their values and masks, in no order."""
    found, offset, end = [], 4, unpack_from("!H", match, 2)[0]
    while offset < end:
        header, size = match[offset : offset + 4], match[offset + 3]
        found.append(_usual(header, match[offset + 4 : offset + 4 + size]))
        offset += 4 + size
    return frozenset(found)


def _usual(header: bytes, value: bytes) -> tuple[bytes, bytes]:
    """One field in Open vSwitch's words."""
    if header == _VLAN_TCI:
        return _VLAN_VID, value
    if header == _FRAG_MASKED and value[1] == _FRAG_BITS:
        return _FRAG, value[:1]
    if header == _TCP_FLAGS:
        return _TCP_FLAGS_ONF, _ONF + value
    return header, value


def same(flow: Flow, entry: Entry) -> bool:
    """Whether an installed flow is this one."""
    return (
        (entry.table, entry.priority, entry.expires) == (flow.table, flow.priority, bool(flow.expires))
        and entry.instructions == _told(encode.instructions(flow.actions), flow)
        and _matches(flow, entry)
    )


def _told(instructions: bytes, flow: Flow) -> bytes:
    """Instructions in Open vSwitch's words."""
    if any(isinstance(action, Learn) for action in flow.actions):
        for standard, nxm in _IN_LEARN:
            instructions = instructions.replace(standard, nxm)
    return instructions


def _matches(flow: Flow, entry: Entry) -> bool:
    match = encode.match(flow.match)
    return entry.match == match or terms(entry.match) == terms(match)


def compare(
    desired: Mapping[int, Flow], installed: Iterable[Entry], accepted: Mapping[int, Entry]
) -> Iterator[Findings]:
    """Compare flow by flow, and let others run in between: every step gives what it has found, mostly nothing.

    accepted: entries by cookie that are known to be right.
    """
    seen: dict[int, bool] = {}
    changed: dict[int, Flow] = {}
    for entry in installed:
        flow = desired.get(entry.cookie)
        if learned(entry.cookie):
            continue
        if flow is None:
            yield Findings(intruders=(entry,)) if ours(entry.cookie) else Findings(foreign=(entry,))
        elif same(flow, entry) or accepted.get(entry.cookie) == entry:
            seen[entry.cookie] = True
            yield Findings()
        elif entry.key == (flow.table, flow.priority, terms(encode.match(flow.match))):
            changed[entry.cookie] = flow
        else:
            yield Findings(intruders=(entry,))
    yield Findings(changed=tuple(changed.values()))
    now = monotonic()
    gone = (flow for cookie, flow in desired.items() if cookie not in seen and cookie not in changed)
    yield Findings(missing=tuple(flow for flow in gone if not flow.expires or flow.expires > now + 1))


def together(parts: Iterable[Findings]) -> Findings:
    """All findings as one."""
    kept = [part for part in parts if part != Findings()]
    return Findings(
        missing=tuple(one for part in kept for one in part.missing),
        changed=tuple(one for part in kept for one in part.changed),
        intruders=tuple(one for part in kept for one in part.intruders),
        foreign=tuple(one for part in kept for one in part.foreign),
    )
