# SPDX-License-Identifier: Apache-2.0
"""CLASSIFIER: who sent this frame?

A frame from a VM's port must carry the NIC's MAC and be IPv4, ARP, IPv6 or RARP; whatever else ends in the first
table. Conntrack state that a frame brings along is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows import fields as f
from flows.bands import Band
from flows.fields import Term
from flows.flow import Action, Controller, CtClear, Flow, Load
from flows.inputs import Block, Bridge, Port, Standby
from flows.make import act, drop, go
from flows.meters import Bound, within
from flows.tables import CLASSIFIER, DELIVER, NESTED_GUARD, SOURCE_GUARD, VIRTUAL_GUARD, WIRE_GUARD
from flows.terms import ARP, BROADCAST_MAC, GROUP_BIT, IPV4, IPV6, RARP, speaks_ipv6

#: A tag of any kind, VLAN 0 included: the bit that OVS sets in vlan_tci.
_TAGGED = f.VLAN_TCI.masked(0x1000, 0x1000)
#: IEEE 802.1D: never forwarded by a bridge (STP, LACP, LLDP, pause).
_RESERVED = f.ETH_DST.masked(0x0180C2000000, 0xFFFFFFFFFFF0)
_REVERSE_REQUEST = 3


def bridge_flows(bridge: Bridge) -> Iterator[Flow]:
    """Frames that are wrong whoever sent them, and frames from the uplinks."""
    yield drop(CLASSIFIER, Band.FIRST, "tagged frame", _TAGGED)
    yield drop(CLASSIFIER, Band.FIRST, "group MAC as source", f.ETH_SRC.masked(GROUP_BIT, GROUP_BIT))
    yield drop(CLASSIFIER, Band.FIRST, "null MAC as source", f.ETH_SRC.eq(0))
    yield drop(CLASSIFIER, Band.FIRST, "reserved multicast", _RESERVED)
    for uplink in bridge.uplinks:
        came = f.IN_PORT.eq(uplink)
        for kind in (IPV4, ARP, IPV6):
            yield go(CLASSIFIER, Band.ALLOW, "from the wire", came, kind, to=WIRE_GUARD, do=(CtClear(),))
        yield drop(CLASSIFIER, Band.OTHERWISE, "unknown protocol from the wire", came)


def port_flows(port: Port) -> Iterator[Flow]:
    """Frames from a VM.  Without an address it may speak DHCP only, so no ARP and no RARP.

    Guests inside it that have MACs of their own have addresses too; nothing is open for them without one.
    """
    came = (f.IN_PORT.eq(port.number), f.ETH_SRC.eq(port.mac))
    known = _sender_known(port)
    for kind in _guarded(port):
        yield go(CLASSIFIER, Band.ALLOW, "from the VM", came, kind, to=SOURCE_GUARD, do=known)
    for mac, networks in port.nested.items():
        guest = (f.IN_PORT.eq(port.number), f.ETH_SRC.eq(mac))
        for kind in _promised(mac, networks):
            note = "from a guest inside the VM"
            yield go(CLASSIFIER, Band.ALLOW, note, guest, kind, to=NESTED_GUARD, do=known)
    for mac, addresses in port.virtual.items():
        holder = (f.IN_PORT.eq(port.number), f.ETH_SRC.eq(mac))
        for kind in _promised(mac, addresses):
            note = "from the VM, with a virtual MAC"
            yield go(CLASSIFIER, Band.ALLOW, note, holder, kind, to=VIRTUAL_GUARD, do=known)
    if port.addresses:
        moved = (RARP, BROADCAST_MAC, f.ARP_OP.eq(_REVERSE_REQUEST), f.ARP_SHA.eq(port.mac), f.ARP_THA.eq(port.mac))
        yield go(CLASSIFIER, Band.ALLOW, "the VM has moved", came, moved, to=DELIVER, do=known)
    yield drop(CLASSIFIER, Band.OTHERWISE, "not the NIC's MAC, or unknown protocol", came[0])


def standby_flows(standby: Standby, bridge: Bridge) -> Iterator[Flow]:
    """A closed port whose frames, as many as one port may show, are shown to the agent, which opens it."""
    show = within(Bound.SHOWN, standby, bridge, Controller())
    yield act(CLASSIFIER, Band.ALLOW, "the VM arrives", f.IN_PORT.eq(standby.number), do=show)


def _guarded(port: Port) -> Iterator[tuple[Term, ...]]:
    yield (IPV4,)
    if any(one.version == 4 for one in port.own):
        yield (ARP, f.ARP_SHA.eq(port.mac))
    if speaks_ipv6(port):
        yield (IPV6,)


def _promised(mac: int, blocks: tuple[Block, ...]) -> Iterator[tuple[Term, ...]]:
    versions = {one.version for one in blocks}
    if 4 in versions:
        yield (IPV4,)
        yield (ARP, f.ARP_SHA.eq(mac))
    if 6 in versions:
        yield (IPV6,)


def _sender_known(port: Port) -> tuple[Action, ...]:
    return (
        CtClear(),
        Load(f.SRC_PORT, port.number),
        Load(f.SRC_LOCAL, 1),
        Load(f.EGRESS_POLICY, port.policy),
        Load(f.SRC_POD, port.segment.number),
    )
