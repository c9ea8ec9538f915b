# SPDX-License-Identifier: Apache-2.0
"""Which connection a packet belongs to, as OVS's userspace conntrack reads it (lib/conntrack.c, `conn_key_extract`)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from flows import frames
from flows.extract import Seen

_ERRORS = {frames.ICMP: (3, 4, 5, 11, 12), frames.ICMP6: (1, 2, 3, 4)}
#: Requests and their replies, both ways.
_ANSWERS = {
    frames.ICMP: {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15},
    frames.ICMP6: {128: 129, 129: 128},
}
_REQUESTS = {frames.ICMP: (8, 13, 15), frames.ICMP6: (128,)}


class Tuple(NamedTuple):
    """One direction of a connection. The "ports" of ICMP are its types with the identifier."""

    src: bytes
    dst: bytes
    proto: int
    sport: int = 0
    dport: int = 0

    def reversed(self) -> Tuple:
        """The other direction."""
        return Tuple(self.dst, self.src, self.proto, self.dport, self.sport)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A packet's place in a connection: its direction's tuple, and what it may do to the connection.

    starts: it may be the first packet.  flags: those of TCP.
    error: it is an ICMP error about a packet of the *reverse* of `tuple`.
    """

    tuple: Tuple
    starts: bool = True
    flags: int = 0
    error: bool = False


def of(seen: Seen) -> Conversation | None:
    """The conversation of a whole IP packet; None if conntrack calls it invalid whatever it knows."""
    if not seen.is_ip or seen.is_fragment or not _sums_are_right(seen):
        return None
    return _transport(seen.src, seen.dst, seen.proto, seen.payload, inner=False)


def _sums_are_right(seen: Seen) -> bool:
    data, proto = seen.payload, seen.proto
    if len(seen.src) == 4 and frames.checksum(seen.header):
        return False
    if proto == frames.TCP and not (len(data) >= 20 and 20 <= (data[12] >> 4) * 4 <= len(data)):
        return False
    if proto == frames.UDP:
        if len(data) < 8 or not 8 <= struct.unpack_from("!H", data, 4)[0] <= len(data):
            return False
        if data[6:8] == b"\0\0":
            return len(seen.src) == 4
    if proto in (frames.TCP, frames.UDP, frames.ICMP6):
        return not frames.checksum(frames.pseudo_header(seen.src, seen.dst, proto, len(data)) + data)
    return proto != frames.ICMP or not frames.checksum(data)


def _transport(src: bytes, dst: bytes, proto: int, data: bytes, *, inner: bool) -> Conversation | None:
    if proto in (frames.TCP, frames.UDP):
        if len(data) < 8:
            return None
        tuple_ = Tuple(src, dst, proto, *struct.unpack_from("!HH", data))
        flags = data[13] if proto == frames.TCP and len(data) > 13 else 0
        return Conversation(tuple_, proto != frames.TCP or _tcp_may_start(flags), flags)
    if proto == (frames.ICMP if len(src) == 4 else frames.ICMP6):
        return _icmp(src, dst, proto, data, inner=inner)
    if proto in (frames.ICMP, frames.ICMP6):
        return None
    return Conversation(Tuple(src, dst, proto))  # SCTP too: OVS 3.1 (userspace) does not look at its ports


def _icmp(src: bytes, dst: bytes, proto: int, data: bytes, *, inner: bool) -> Conversation | None:
    if len(data) < 8:
        return None
    kind, code = data[0], data[1]
    if kind in _ERRORS[proto] and not inner:
        return _error(dst, data[8:])
    answer = _ANSWERS[proto].get(kind)
    if answer is None or code:
        return None
    ident: int = struct.unpack_from("!H", data, 4)[0]
    tuple_ = Tuple(src, dst, proto, kind << 16 | ident, answer << 16 | ident)
    return Conversation(tuple_, kind in _REQUESTS[proto])


def _error(dst: bytes, data: bytes) -> Conversation | None:
    """The connection that an ICMP error for `dst` is about: one of which `dst` sent the packet that is quoted."""
    if len(dst) == 4:
        head = (data[0] & 0xF) * 4 if len(data) >= 20 else 0
        if head < 20 or struct.unpack_from("!H", data, 6)[0] & 0x3FFF:
            return None
        src, peer, proto = data[12:16], data[16:20], data[9]
    else:
        head = 40
        if len(data) < head:
            return None
        src, peer, proto = data[8:24], data[24:40], data[6]
    if src != dst:
        return None
    about = _transport(src, peer, proto, data[head:], inner=True)
    return about and Conversation(about.tuple.reversed(), starts=False, error=True)


def tcp_is_odd(flags: int) -> bool:
    """True for a combination of flags that no TCP sends."""
    syn, ack, rst, fin = (flags & frames.TCP_FLAGS[letter] for letter in "SARF")
    if syn and (rst or fin):
        return True
    if not syn and not (ack or rst):
        return True
    return bool(not ack and flags & (frames.TCP_FLAGS["F"] | frames.TCP_FLAGS["P"] | frames.TCP_FLAGS["U"]))


def _tcp_may_start(flags: int) -> bool:
    answer = frames.TCP_FLAGS["S"] | frames.TCP_FLAGS["A"]
    return not tcp_is_odd(flags) and flags & answer != answer
