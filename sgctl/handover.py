# SPDX-License-Identifier: Apache-2.0
"""The connections of a NIC as one hypervisor hands them to another; pure values and their text form.

What the old hypervisor's conntrack knows of the NIC's connections is turned round so that it looks from the NIC, packed
into one column of the SG database, and becomes flows at the new hypervisor (`flows.stages.resumed`). No flow can tell
ICMP conversations apart, whose identifier it cannot match, nor SCTP associations, which conntrack knows without ports:
their entries are made anew, each with a *ticket* that flows can match (`remade`).

Times are seconds of a machine's monotonic clock, the same for all its processes since it started (`BOOT`). A text says
when it was written by that clock, so another machine reads how long each connection had *left*, and the clocks of the
two need not agree.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from hashlib import blake2b
from ipaddress import ip_address
from math import floor
from pathlib import Path
from struct import pack as packed
from typing import NamedTuple

from flows import fields as f
from flows import frames
from flows.flow import Ct, Load
from flows.inputs import Connection, Ip, Pieces
from flows.tables import OUTPUT
from sgctl.world import Ending

ICMP, ICMPV6, SCTP = 1, 58, 132
TICKETED = (ICMP, ICMPV6, SCTP)
"""Protocols whose connections are known by tickets."""
ORIGIN_OK, RESPONDER_OK = 1, 2
"""The bits of a connection's mark (`flows.fields.MARKS`)."""
SPAN = 4
"""Connections that expire within the same so many seconds share an owner of flows."""
STEADY = 0.1
"""What part of its time a connection may lose so that nothing has to be changed for it."""
CROWD = 100
"""With more peers than this an address of a NIC has one flow for the later fragments of all."""
BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
"""Which start of the machine its monotonic clock counts from."""
_RULE = 0xFFFFFFFF


class Entry(NamedTuple):
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


class Carried(NamedTuple):
    """A connection that a NIC has accepted, as it looks from the NIC.

    There may be ten thousand at once, and a hand-over waits for each step of them: so these are tuples.

    own_port, peer_port: for ICMP its identifier, and type and code of the request (256 * type + code).
    opened: the NIC's VM opened it.  rule: the rule that admitted it, or 0.  expires: seconds of the monotonic clock.
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
        return (self.proto, self.own, self.peer, self.own_port, self.peer_port, self.opened and self.ticketed)

    @property
    def ticketed(self) -> bool:
        """Whether its entry has to be made anew, since no flow can name it."""
        return self.proto in TICKETED

    @property
    def ticket(self) -> int:
        """A number of 32 bits, never 0, that follows from what makes it another connection; 0 if it needs none."""
        if not self.ticketed:
            return 0
        return int.from_bytes(blake2b(repr(self.key).encode(), digest_size=4).digest(), "big") or 1


def carried(entries: Iterable[Entry], addresses: Collection[str], now: float) -> Iterator[Carried]:
    """The connections of entries that a NIC with these addresses is an end of, and has accepted."""
    start = int(now)
    for proto, src, dst, sport, dport, ident, kind, code, mark, label, left, _ in entries:
        echo = proto in (ICMP, ICMPV6)
        if echo:
            sport, dport = ident, kind << 8 | code
        if mark & ORIGIN_OK and src in addresses:
            yield Carried(proto, src, dst, sport, dport, True, label & _RULE, start + left)
        if mark & RESPONDER_OK and dst in addresses:
            own, peer = (sport, dport) if echo else (dport, sport)
            yield Carried(proto, dst, src, own, peer, False, label >> 32 & _RULE, start + left)


def unsettled(
    brought: Iterable[Carried], entries: Iterable[Entry], addresses: Collection[str], now: float
) -> list[Carried]:
    """What of that which NICs with these addresses have brought has still to stand for itself: all of it but what
    conntrack, all of whose entries are given, knows to be over, or will remember by itself for as long.

    It will not for a TCP connection that only one end has spoken in since: of that it takes the first answers for
    those of a new one, and forgets it after half a minute.
    """
    brought, entries = list(brought), list(entries)
    if not brought:
        return []
    over = {one.key for one in carried((one for one in entries if one.over), addresses, now)}
    ends = {one.key: one.expires for one in carried((one for one in entries if not one.over), addresses, now)}
    return [one for one in brought if one.key not in over and ends.get(one.key, -1) < one.expires]


def known(entries: Iterable[Entry], addresses: Collection[str], unused: Iterable[Carried], now: float) -> list[Carried]:
    """All living connections of a NIC with these addresses: those of conntrack, all of whose entries are given, and
    those that it has brought along from elsewhere, as far as conntrack does not know better."""
    entries = list(entries)
    rest = unsettled(unused, entries, addresses, now)
    longer = {one.key for one in rest}
    alive = carried((one for one in entries if not one.over), addresses, now)
    return [*(one for one in alive if one.key not in longer), *rest] if rest else list(alive)


def steady(connections: Iterable[Carried], before: Iterable[Carried], now: float, *, slack: int = 0) -> list[Carried]:
    """The connections, where those that have hardly gained time since, or lost no more than `slack` seconds, keep the
    time that was named before: then nothing has to be changed for them at the new hypervisor."""
    earlier = {one.key: one for one in before}
    if not earlier:
        return list(connections)

    def kept(one: Carried) -> Carried:
        old = earlier.get(one.key)
        if old is None or old.rule != one.rule or old.expires > one.expires + slack:
            return one
        return old if one.expires - old.expires <= STEADY * (one.expires - now) else one

    return [kept(one) for one in connections]


@dataclass(frozen=True, slots=True)
class Said:
    """What a text says. at: when it was written, by the clock of the machine that counts from `boot`."""

    boot: str
    at: float
    connections: list[Carried]

    def resumed(self) -> list[Carried]:
        """The connections, if this machine has written it since it started; else none: no VM here is older."""
        return self.connections if self.boot == BOOT else []

    def arrived(self, now: float, age: float) -> list[Carried]:
        """The connections that another machine has written `age` seconds before now, by this machine's clock. Never
        do they expire later than there, but for what the text took to come here."""
        shift = floor(now - age - self.at)
        return [
            Carried(proto, own, peer, mine, its, opened, rule, expires + shift)
            for proto, own, peer, mine, its, opened, rule, expires in self.connections
        ]


def pack(connections: Iterable[Carried], now: float) -> str:
    """The text form, written now; "" for none."""
    rows = list(connections)
    if not rows:
        return ""
    text = json.dumps([BOOT, round(now, 3), rows], separators=(",", ":"))
    return b64encode(zlib.compress(text.encode(), 1)).decode()


def unpack(text: str) -> Said:
    """What a text form says; ValueError if it is none."""
    if not text:
        return Said(BOOT, 0.0, [])
    try:
        boot, at, rows = json.loads(zlib.decompress(b64decode(text, validate=True)))
        return Said(str(boot), float(at), [
            Carried(p, own, peer, mine, its, bool(opened), rule, until)
            for p, own, peer, mine, its, opened, rule, until in rows
        ])  # fmt: skip
    except (zlib.error, TypeError) as error:
        raise ValueError(str(error)) from error


def endings(connections: Iterable[Carried], now: float) -> Mapping[int, Ending]:
    """What is not over, by the end of the span of time in which it expires."""
    found: defaultdict[int, list[Connection]] = defaultdict(list)
    pieces: dict[tuple[str, str], Pieces] = {}
    for one in connections:
        proto, own, peer, own_port, peer_port, _, rule, expires = one
        if expires <= now:
            continue
        if proto in TICKETED:
            found[_end(expires)].append(_ticketed(one))
            continue
        found[_end(expires)].append(Connection(proto, _ip(own), _ip(peer), own_port, peer_port, rule, expires))
        pair = own, peer
        known = pieces.get(pair)
        if known is None or known.expires < expires or known.rule > rule:
            fresh = Pieces(_ip(own), _ip(peer), rule, expires)
            pieces[pair] = _both(known, fresh) if known else fresh
    ends: dict[int, list[Pieces]] = {}
    for some in _fewer(pieces.values()):
        ends.setdefault(_end(some.expires), []).append(some)
    return {end: Ending(tuple(found[end]), tuple(ends.get(end, ()))) for end in sorted(found)}


def _both(one: Pieces, other: Pieces) -> Pieces:
    return replace(one, rule=min(one.rule, other.rule), expires=max(one.expires, other.expires))


def _fewer(pieces: Iterable[Pieces]) -> Iterator[Pieces]:
    """Those of addresses with many peers as one, for any peer."""
    by_own: dict[Ip, list[Pieces]] = {}
    for one in pieces:
        by_own.setdefault(one.own, []).append(one)
    for some in by_own.values():
        if len(some) > CROWD:
            yield replace(reduce(_both, some), peer=None)
        else:
            yield from some


def _end(expires: int) -> int:
    return -(-expires // SPAN) * SPAN


def _ticketed(one: Carried) -> Connection:
    own, peer = _ip(one.own), _ip(one.peer)
    return Connection(one.proto, own, peer, 0, 0, one.rule, one.expires, one.ticket, one.opened)


@lru_cache(maxsize=1 << 16)
def _ip(text: str) -> Ip:
    return ip_address(text)


def remade(one: Carried, zone: int) -> tuple[Ct, bytes]:
    """An action and a frame that make the entry of a ticketed connection anew; the frame goes nowhere.

    The entry has no marks: it is accepted only where a flow knows its ticket.
    """
    source, target = (one.own, one.peer) if one.opened else (one.peer, one.own)
    label, ticket = (f.LABEL_EGRESS, f.ORIGIN_TICKET) if one.opened else (f.LABEL_INGRESS, f.RESPONDER_TICKET)
    execute = (Load(label, one.rule), Load(ticket, one.ticket))
    src, dst, rest = _ip(source), _ip(target), packed("!HH", one.own_port, 0)
    kind, code = one.peer_port >> 8, one.peer_port & 0xFF
    if one.proto == ICMP:
        asks = frames.icmp(kind, code, rest)
    elif one.proto == ICMPV6:
        asks = frames.icmp6(src, dst, kind, code, rest)
    else:
        asks = frames.sctp(0, 0)
    frame = frames.ethernet(0, 0, *frames.ip(src, dst, one.proto, asks))
    return Ct(zone=zone, table=OUTPUT.id, commit=True, execute=execute), frame


def without_local(entries: Iterable[Entry], addresses: Collection[str], local: Collection[str]) -> list[Entry]:
    """The entries that a NIC with these addresses leaves behind: it has accepted them, and no VM here is at the other
    end."""
    return [
        one
        for one in entries
        if (one.src in addresses and one.mark & ORIGIN_OK and one.dst not in local)
        or (one.dst in addresses and one.mark & RESPONDER_OK and one.src not in local)
    ]
