# SPDX-License-Identifier: Apache-2.0
"""EGRESS_PEER and INGRESS_PEER: which set of groups, that local rules name, is the other end in?

One flow per address, or network that a VM has been promised, and direction, however many rules, policies and ports
there are.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows import fields as f
from flows.bands import Band
from flows.flow import Flow, Load
from flows.inputs import Bridge, Peer
from flows.make import go
from flows.tables import COMMIT, EGRESS_PEER, EGRESS_RULES, INGRESS_PEER, INGRESS_RULES
from flows.terms import FAMILY, FOR_VM, FOR_WIRE, IPV4, IPV6, destination, rank, source


def bridge_flows(_: Bridge) -> Iterator[Flow]:
    """Strangers, and what leaves the hypervisor: its receiver's rules are another hypervisor's business."""
    yield go(INGRESS_PEER, Band.EXCEPT, "let out", FOR_WIRE, to=COMMIT)
    brought = (FOR_VM, f.RECEIVER_RESUMES.eq(1))
    yield go(INGRESS_PEER, Band.EXCEPT, "its receiver has accepted it", brought, to=COMMIT)
    for family in (IPV4, IPV6):
        yield go(EGRESS_PEER, Band.OTHERWISE, "no group that rules name", family, to=EGRESS_RULES)
        yield go(INGRESS_PEER, Band.OTHERWISE, "no group that rules name", family, to=INGRESS_RULES)


def peer_flows(peer: Peer) -> Iterator[Flow]:
    """An address or a network with an identity. The most exact wins, should they overlap."""
    priority = rank(peer.address)
    family = FAMILY[peer.address.version]
    if peer.egress_identity:
        known = (Load(f.EGRESS_IDENTITY, peer.egress_identity),)
        terms = (family, destination(peer.address))
        yield go(EGRESS_PEER, priority, "groups of the destination", terms, to=EGRESS_RULES, do=known)
    if peer.ingress_identity:
        known = (Load(f.INGRESS_IDENTITY, peer.ingress_identity),)
        terms = (family, source(peer.address))
        yield go(INGRESS_PEER, priority, "groups of the source", terms, to=INGRESS_RULES, do=known)
