# SPDX-License-Identifier: Apache-2.0
"""The pipeline: from one unit to its flows.

    CLASSIFIER ─▶ guards ─▶ LOCATE ─▶ SERVICES ─▶ DESTINATION ─▶ CONNTRACK ⟲ STATE ─▶ peers, rules ─▶ COMMIT ⟲ OUTPUT
    who are you?  is it    who is it  ARP, ND,    is the address  known?              allowed out,    remember  deliver
                  yours?   for?       DHCP        behind it?                          allowed in?

`flows.tables` declares the tables, `flows.stages` fills them. The switch should hold, for one bridge, the flows of
the bridge itself and of each pod, port, policy, peer and part of the ports on it.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.bands import Band
from flows.flow import Flow, claim
from flows.inputs import (
    Audience,
    Bridge,
    Fanout,
    Moved,
    Overdrawn,
    Peer,
    Policy,
    Port,
    Resumed,
    Segment,
    Shared,
    Standby,
    Unit,
    Virtual,
)
from flows.make import drop
from flows.stages import (
    classifier,
    connections,
    guards,
    neighbours,
    output,
    peers,
    place,
    quotas,
    resumed,
    rules,
    services,
    virtual,
)
from flows.tables import TABLES


def build(unit: Unit, bridge: Bridge, scope: int = 0) -> tuple[Flow, ...]:
    """All flows that `unit` owns on `bridge`: a function of these two values alone.

    Each flow has its owner, and a note: why it is there, or the reason of its drop. With a `scope`, the owner's part of
    cookies, it also has its cookie.
    """
    if isinstance(unit, Resumed):
        return tuple(resumed.resumed_flows(unit, scope))
    owner = unit.owner
    return tuple([claim(flow, owner, scope) for flow in _flows(unit, bridge)])


def _flows(unit: Unit, bridge: Bridge) -> Iterator[Flow]:
    match unit:
        case Bridge():
            yield from _bridge(unit)
        case Segment():
            yield from place.pod_flows(unit)
            yield from services.pod_flows(unit)
            yield from rules.pod_flows(unit)
        case Port():
            yield from _port(unit, bridge)
        case Shared():
            yield from neighbours.shared_flows(unit, bridge)
        case Virtual():
            yield from virtual.virtual_flows(unit, bridge)
        case Audience():
            yield from neighbours.audience_flows(unit, bridge)
        case Moved():
            yield from resumed.moved_flows(unit, bridge)
        case Overdrawn():
            yield from quotas.overdrawn_flows(unit, bridge)
        case Standby():
            yield from classifier.standby_flows(unit, bridge)
        case Policy():
            yield from rules.policy_flows(unit)
        case Peer():
            yield from peers.peer_flows(unit)
        case Fanout():
            yield from services.fanout_flows(unit)


def _bridge(bridge: Bridge) -> Iterator[Flow]:
    for table in TABLES:
        yield drop(table, Band.MISS, table.miss)
    for stage in (classifier, guards, place, virtual, services, neighbours, resumed, connections, peers, rules, output):
        yield from stage.bridge_flows(bridge)


def _port(port: Port, bridge: Bridge) -> Iterator[Flow]:
    yield from classifier.port_flows(port)
    yield from guards.port_flows(port, bridge)
    yield from place.port_flows(port)
    yield from virtual.port_flows(port, bridge)
    yield from services.port_flows(port, bridge)
    yield from neighbours.port_flows(port, bridge)
    yield from connections.port_flows(port, bridge)
