# SPDX-License-Identifier: Apache-2.0
"""ND_GUARD and NEIGHBOUR: what a VM says about itself, and who is asked.

SOURCE_GUARD has checked who sends; here the addresses and MACs *inside* neighbour discovery are held against the
NIC's. OVS reads a link-layer option as zero where it is absent, and all ND fields as zero where it is there twice: so
only what is listed passes. A question reaches the one who is asked and nobody else; announcements leave by the uplink
only.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from flows import fields as f
from flows.bands import Band
from flows.flow import Flow, Load, Terms
from flows.inputs import Bridge, Port
from flows.make import drop, go
from flows.tables import DELIVER, ND_GUARD, NEIGHBOUR
from flows.terms import (
    ADVERT,
    ARP,
    BROADCAST_MAC,
    FOR_VM,
    FROM_VM,
    GROUP_MAC,
    ICMPV6,
    SOLICIT,
    UNSPECIFIED6,
    nd_addresses,
    sender,
    speaks_ipv6,
)

_SOLICITS = (*ICMPV6, f.ICMPV6_TYPE.eq(SOLICIT))
_ADVERTISES = (*ICMPV6, f.ICMPV6_TYPE.eq(ADVERT))


def bridge_flows(_: Bridge) -> Iterator[Flow]:
    """Solicitations without an option, and questions about addresses that are not here."""
    terms = (_SOLICITS, UNSPECIFIED6)
    yield drop(ND_GUARD, Band.REFUSE, "duplicate address detection of a foreign address", terms)
    yield drop(ND_GUARD, Band.FIRST, "ND that is malformed", _SOLICITS, f.ND_TARGET.eq(0))
    yield go(ND_GUARD, Band.ALLOW, "asks without its MAC", _SOLICITS, f.ND_SLL.eq(0), to=NEIGHBOUR)
    yield go(NEIGHBOUR, Band.EXCEPT, "to one host", FOR_VM, to=DELIVER)
    yield go(NEIGHBOUR, Band.OTHERWISE, "asked of the wire", FROM_VM, to=DELIVER)


def port_flows(port: Port) -> Iterator[Flow]:
    """A VM's own addresses: it may speak for them, and is asked about them."""
    if speaks_ipv6(port):
        terms = (sender(port), _SOLICITS, f.ND_SLL.eq(port.mac))
        yield go(ND_GUARD, Band.ALLOW, "asks with its MAC", terms, to=NEIGHBOUR)
    for own in nd_addresses(port):
        yield from _speaks_for(own, port)
        yield _asked(port, (_SOLICITS, GROUP_MAC, f.ND_TARGET.eq(int(own))))
    for address in port.addresses:
        if isinstance(address, IPv4Address):
            question = (ARP, f.ARP_TPA.eq(int(address)))
            yield _asked(port, (question, BROADCAST_MAC))
            note = "probes or announces its own address"
            yield go(NEIGHBOUR, Band.EXCEPT, note, sender(port), question, to=DELIVER)


def _speaks_for(own: IPv6Address, port: Port) -> Iterator[Flow]:
    target = f.ND_TARGET.eq(int(own))
    detection = (sender(port), _SOLICITS, UNSPECIFIED6, target, f.ND_SLL.eq(0))
    yield go(ND_GUARD, Band.EXCEPT, "duplicate address detection", detection, to=DELIVER)
    for option in (port.mac, 0):
        terms = (sender(port), _ADVERTISES, target, f.ND_TLL.eq(option))
        yield go(ND_GUARD, Band.ALLOW, "speaks for its own address", terms, to=DELIVER)


def _asked(port: Port, question: Terms) -> Flow:
    here = (Load(f.DST_LOCAL, 1), Load(f.OUT_PORT, port.number))
    return go(NEIGHBOUR, Band.ALLOW, "the VM is asked", question, to=DELIVER, do=here)
