# SPDX-License-Identifier: Apache-2.0
"""The connections of a NIC as one hypervisor hands them to another; pure values and their text form.

What the old hypervisor's conntrack knows of the NIC's connections is turned round so that it looks from the NIC, packed
into one column of the SG database, and becomes flows at the new hypervisor (`flows.stages.resumed`). ICMP has no ports
that a flow could match; its entries are made anew instead (`echo`).
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from struct import pack as packed

from flows import fields as f
from flows import frames
from flows.flow import Ct, Load
from flows.inputs import Connection, Ip
from flows.tables import OUTPUT

ICMP, ICMPV6, SCTP = 1, 58, 132
ORIGIN_OK, RESPONDER_OK = 1, 2
"""The bits of a connection's mark (`flows.fields.MARKS`)."""
SPAN = 4
"""Connections that expire within the same so many seconds share an owner of flows."""
STEADY = 0.1
"""What part of its time a connection may lose so that nothing has to be changed for it."""
_RULE = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A conntrack entry. left: seconds until it times out.  ident, kind, code: of ICMP's opening packet.

    over: both ends of the TCP connection have closed it.
    """

    proto: int
    src: str
    dst: str
    sport: int = 0
    dport: int = 0
    ident: int = 0
    kind: int = 0
    code: int = 0
    mark: int = 0
    label: int = 0
    left: int = 0
    over: bool = False


@dataclass(frozen=True, slots=True)
class Carried:
    """A connection that a NIC has accepted, as it looks from the NIC.

    own_port, peer_port: for ICMP its identifier, and type and code of the request (256 * type + code).
    opened: the NIC's VM opened it.  rule: the rule that admitted it, or 0.  expires: seconds of Unix time.
    """

    proto: int
    own: str
    peer: str
    own_port: int
    peer_port: int
    opened: bool
    rule: int
    expires: int

    @property
    def key(self) -> tuple[int, str, str, int, int, bool]:
        """What makes it another connection."""
        echo = self.proto in (ICMP, ICMPV6)
        return (self.proto, self.own, self.peer, self.own_port, self.peer_port, self.opened and echo)


def carried(entries: Iterable[Entry], addresses: Collection[str], now: float) -> Iterator[Carried]:
    """The connections of entries that a NIC with these addresses is an end of, and has accepted. Not SCTP: rules
    judge each of its packets."""
    for one in entries:
        if one.proto == SCTP:
            continue
        echo = one.proto in (ICMP, ICMPV6)
        sport, dport = (one.ident, one.kind << 8 | one.code) if echo else (one.sport, one.dport)
        until = int(now) + one.left
        if one.src in addresses and one.mark & ORIGIN_OK:
            yield Carried(one.proto, one.src, one.dst, sport, dport, True, one.label & _RULE, until)
        if one.dst in addresses and one.mark & RESPONDER_OK:
            own, peer = (sport, dport) if echo else (dport, sport)
            yield Carried(one.proto, one.dst, one.src, own, peer, False, one.label >> 32 & _RULE, until)


def known(
    entries: Iterable[Entry], addresses: Collection[str], unused: Iterable[Carried], now: float
) -> list[Carried]:
    """All living connections of a NIC with these addresses: those of conntrack, all of whose entries are given, and
    those that it has brought along from elsewhere, as far as conntrack does not know better."""
    entries = list(entries)
    tracked = {one.key for one in carried(entries, addresses, now)}
    alive = carried((one for one in entries if not one.over), addresses, now)
    return [*alive, *(one for one in unused if one.key not in tracked)]


def steady(connections: Iterable[Carried], before: Iterable[Carried], now: float) -> list[Carried]:
    """The connections, where those that have hardly gained time since keep the time that was named before: then the
    new hypervisor has nothing to change for them."""
    earlier = {one.key: one for one in before}

    def kept(one: Carried) -> Carried:
        old = earlier.get(one.key)
        if old is None or old.rule != one.rule or old.expires > one.expires:
            return one
        return old if one.expires - old.expires <= STEADY * (one.expires - now) else one

    return [kept(one) for one in connections]


def pack(connections: Iterable[Carried]) -> str:
    """The text form: "" for none."""
    rows = [
        [one.proto, one.own, one.peer, one.own_port, one.peer_port, int(one.opened), one.rule, one.expires]
        for one in connections
    ]
    if not rows:
        return ""
    return b64encode(zlib.compress(json.dumps(rows, separators=(",", ":")).encode(), 1)).decode()


def unpack(text: str) -> list[Carried]:
    """The connections of a text form; ValueError if it is none."""
    if not text:
        return []
    try:
        rows = json.loads(zlib.decompress(b64decode(text, validate=True)))
        return [Carried(p, own, peer, mine, its, bool(opened), rule, until)
                for p, own, peer, mine, its, opened, rule, until in rows]  # fmt: skip
    except (zlib.error, TypeError) as error:
        raise ValueError(str(error)) from error


def spans(connections: Iterable[Carried], now: float) -> Mapping[int, tuple[Connection, ...]]:
    """What flows can stand for and is not over, by the end of the span of time in which it expires."""
    found: dict[int, list[Connection]] = {}
    for one in connections:
        if one.expires > now and one.proto not in (ICMP, ICMPV6):
            end = -(-one.expires // SPAN) * SPAN
            found.setdefault(end, []).append(
                Connection(
                    one.proto, _ip(one.own), _ip(one.peer), one.own_port, one.peer_port, one.rule, one.expires
                )
            )
    return {end: tuple(found[end]) for end in sorted(found)}


@lru_cache(maxsize=1 << 16)
def _ip(text: str) -> Ip:
    return ip_address(text)


def echoes(connections: Iterable[Carried], now: float) -> list[Carried]:
    """The ICMP conversations that are not over."""
    return [one for one in connections if one.proto in (ICMP, ICMPV6) and one.expires > now]


def echo(one: Carried, zone: int) -> tuple[Ct, bytes]:
    """An action and a frame that make conntrack's entry of an ICMP conversation anew; the frame goes nowhere."""
    source, target = (one.own, one.peer) if one.opened else (one.peer, one.own)
    mark, label = (f.ORIGIN_OK, f.LABEL_EGRESS) if one.opened else (f.RESPONDER_OK, f.LABEL_INGRESS)
    commit = Ct(zone=zone, table=OUTPUT.id, commit=True, execute=(Load(mark, 1), Load(label, one.rule)))
    src, dst, rest = _ip(source), _ip(target), packed("!HH", one.own_port, 0)
    kind, code = one.peer_port >> 8, one.peer_port & 0xFF
    asks = frames.icmp(kind, code, rest) if one.proto == ICMP else frames.icmp6(src, dst, kind, code, rest)
    return commit, frames.ethernet(0, 0, *frames.ip(src, dst, one.proto, asks))


def without_local(entries: Iterable[Entry], addresses: Collection[str], local: Collection[str]) -> list[Entry]:
    """The entries that a NIC with these addresses leaves behind: it has accepted them, and no VM here is at the other
    end."""
    return [
        one
        for one in entries
        if (one.src in addresses and one.mark & ORIGIN_OK and one.dst not in local)
        or (one.dst in addresses and one.mark & RESPONDER_OK and one.src not in local)
    ]
