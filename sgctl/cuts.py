# SPDX-License-Identifier: Apache-2.0
"""Ending the connections that revoked rules had admitted; what to send to the switch for that, without sending it.

A connection lives by the bits of its mark that say which ends have accepted it, and its label says by which rules
(`flows.stages.connections`). So the bits, and the half of the label that a revoked rule has set, are cleared again. The
entry itself stays: without it, the next packet of the end that had accepted would open a connection of its own, which
that end's egress may well allow. What is left is a connection that nobody here has accepted: its packets are held
against the rules like new ones in one direction, and refused in the other. If other rules admit them, it goes on under
those.

OpenFlow changes an entry by sending a packet of that connection through ct(commit); it goes nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from ipaddress import ip_address
from struct import pack

from flows import fields as f
from flows import frames
from flows.flow import Ct, Load
from flows.tables import OUTPUT
from sgctl.handover import Entry

_HALF = 0xFFFFFFFF
_UNMARKED, _EGRESS, _INGRESS = Load(f.MARKS, 0), Load(f.LABEL_EGRESS, 0), Load(f.LABEL_INGRESS, 0)


def cuts(entries: Iterable[Entry], numbers: Collection[int], zone: int) -> Iterator[tuple[Ct, bytes]]:
    """An action and a frame for each entry that a rule with one of these numbers has admitted."""
    for entry in entries:
        halves = ((entry.label & _HALF, _EGRESS), (entry.label >> 32 & _HALF, _INGRESS))
        revoked = tuple(clear for rule, clear in halves if rule in numbers)
        if revoked:
            yield Ct(zone=zone, table=OUTPUT.id, commit=True, execute=(_UNMARKED, *revoked)), frame(entry)


def frame(entry: Entry) -> bytes:
    """A packet in the direction in which a connection was opened."""
    src, dst = ip_address(entry.src), ip_address(entry.dst)
    rest = pack("!HH", entry.ident, 0)
    match entry.proto:
        case frames.TCP:
            payload = frames.tcp(src, dst, entry.sport, entry.dport, "A")
        case frames.UDP:
            payload = frames.udp(src, dst, entry.sport, entry.dport)
        case frames.ICMP:
            payload = frames.icmp(entry.kind, entry.code, rest)
        case frames.ICMP6:
            payload = frames.icmp6(src, dst, entry.kind, entry.code, rest)
        case _:
            payload = bytes(8)
    return frames.ethernet(0, 0, *frames.ip(src, dst, entry.proto, payload))
