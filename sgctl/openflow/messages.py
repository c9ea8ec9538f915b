# SPDX-License-Identifier: Apache-2.0
"""OpenFlow 1.4 messages other than FLOW_MOD, as bytes: bundles, barriers, configuration, statistics, PACKET_OUT,
and Nicira's NXT_CT_FLUSH."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from struct import pack

from flows.flow import Action, Match
from sgctl.openflow.encode import ANY_GROUP, ANY_PORT, NICIRA, NO_BUFFER, PORT_CONTROLLER, VERSION, actions, match

ERROR = 1
EXPERIMENTER = 4
GET_CONFIG_REQUEST, GET_CONFIG_REPLY, SET_CONFIG = 7, 8, 9
PACKET_OUT = 13
MULTIPART_REQUEST, MULTIPART_REPLY = 18, 19
BARRIER_REQUEST, BARRIER_REPLY = 20, 21
BUNDLE_CONTROL, BUNDLE_ADD = 33, 34

OPEN, COMMIT, DISCARD = 0, 4, 6
ATOMIC_ORDERED = 3
FRAGMENTS_MATCH = 3
"""Configuration flags: match fragments by nw_frag, the first with its ports (nx-match in ovs-ofctl)."""
MISS_SEND_LEN = 128
FLOW_STATS, TABLE_STATS, PORT_STATS = 1, 3, 4
ALL_TABLES = 0xFF
CHUNK = 60_000
"""How many bytes to hand to the connection at once: its queue is short, but knows no limit of bytes."""
_CT_FLUSH = 32
_MAPPED = 0xFFFF << 32


def message(kind: int, xid: int, body: bytes = b"") -> bytes:
    """A message of one type."""
    return pack("!BBHI", VERSION, kind, 8 + len(body), xid) + body


def barrier(xid: int) -> bytes:
    """Answered when all before it has been processed."""
    return message(BARRIER_REQUEST, xid)


def bundle_control(step: int, bundle: int, xid: int) -> bytes:
    """OPEN, COMMIT or DISCARD an atomic, ordered bundle."""
    return message(BUNDLE_CONTROL, xid, pack("!IHH", bundle, step, ATOMIC_ORDERED))


def bundle_add(bundle: int, one: bytes) -> bytes:
    """Put a message into an open bundle, under the message's own xid."""
    return pack("!BBH4sI2xH", VERSION, BUNDLE_ADD, 16 + len(one), one[4:8], bundle, ATOMIC_ORDERED) + one


def set_fragments(xid: int) -> bytes:
    """Let flows match fragments as fragments."""
    return message(SET_CONFIG, xid, pack("!HH", FRAGMENTS_MATCH, MISS_SEND_LEN))


def get_config(xid: int) -> bytes:
    """Ask for the configuration flags."""
    return message(GET_CONFIG_REQUEST, xid)


def flow_stats(xid: int, *, table: int = ALL_TABLES, cookie: int = 0, mask: int = 0) -> bytes:
    """Ask for the flows of a table, or of all, whose cookie is `cookie` in the bits of `mask`."""
    wanted = pack("!B3xII4xQQ", table, ANY_PORT, ANY_GROUP, cookie, mask) + match(Match())
    return message(MULTIPART_REQUEST, xid, pack("!HH4x", FLOW_STATS, 0) + wanted)


def table_stats(xid: int) -> bytes:
    """Ask how many flows each table has."""
    return message(MULTIPART_REQUEST, xid, pack("!HH4x", TABLE_STATS, 0))


def port_stats(xid: int, port: int) -> bytes:
    """Ask what a port has received and sent."""
    return message(MULTIPART_REQUEST, xid, pack("!HH4xI4x", PORT_STATS, 0, port))


def packet_out(data: bytes, of: Sequence[Action], xid: int) -> bytes:
    """Run a frame through actions."""
    listed = actions(of)
    return message(PACKET_OUT, xid, pack("!IIH6x", NO_BUFFER, PORT_CONTROLLER, len(listed)) + listed + data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuple:
    """One direction of connections, as far as given; addresses are text, both of one family.

    proto: IP protocol.  sport, dport: ports of TCP, UDP, SCTP.
    """

    src: str | None = None
    dst: str | None = None
    proto: int = 0
    sport: int | None = None
    dport: int | None = None


_ICMPV6 = 58
_FLUSHED_IPV6 = (6, 17, 132)


def flushable(original: Tuple) -> tuple[Tuple, ...]:
    """What may be asked to be forgotten instead of `original`: over IPv6 nothing but TCP, UDP and SCTP.

    Open vSwitch 3.1 aborts when it is to forget one ICMPv6 connection in user space. A ping that is let in lives on
    until it has been silent for 30 s.
    """
    if ":" not in (original.src or original.dst or ""):
        return (original,)
    if original.proto:
        return () if original.proto == _ICMPV6 else (original,)
    return tuple(replace(original, proto=proto) for proto in _FLUSHED_IPV6)


def ct_flush(zone: int, original: Tuple, xid: int) -> bytes:
    """Forget the conntrack entries of a zone whose original direction is like `original` (NXT_CT_FLUSH)."""
    given = [
        (0, _mapped(original.src)),
        (1, _mapped(original.dst)),
        (2, _port(original.sport)),
        (3, _port(original.dport)),
    ]
    nested = b"".join(_property(kind, value) for kind, value in given if value)
    body = pack("!IIB7x", NICIRA, _CT_FLUSH, original.proto)
    body += _property(0, bytes(4) + nested) if nested else b""
    return message(EXPERIMENTER, xid, body + _property(2, _short(zone)))


def _mapped(address: str | None) -> bytes:
    """An address as IPv6 with IPv4 mapped into it; nothing if there is none."""
    if address is None:
        return b""
    parsed = ip_address(address)
    return (int(parsed) | (_MAPPED if parsed.version == 4 else 0)).to_bytes(16, "big")


def _port(number: int | None) -> bytes:
    return b"" if number is None else _short(number)


def _short(number: int) -> bytes:
    """A 16-bit value of a property, with the two bytes that Open vSwitch counts as part of it."""
    return pack("!H2x", number)


def _property(kind: int, value: bytes) -> bytes:
    """A type-length-value property, padded to eight bytes."""
    size = 4 + len(value)
    return pack("!HH", kind, size) + value + bytes(-size % 8)


def chunks(of: Iterable[bytes]) -> Iterator[bytes]:
    """Whole messages, joined to pieces of about `CHUNK` bytes."""
    held: list[bytes] = []
    size = 0
    for one in of:
        held.append(one)
        size += len(one)
        if size >= CHUNK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
