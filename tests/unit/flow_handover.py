# SPDX-License-Identifier: Apache-2.0
"""What an agent does for connections that no flow can name, done to a switch that is only a model."""

from __future__ import annotations

from flows import fields as f
from flows.conntrack_model import Write
from flows.flow import Load
from flows.packet import Packet
from flows.trace import Switch
from sgctl.handover import Carried, remade
from tests.unit.flow_world import BRIDGE


def enter(bridge: Switch, one: Carried) -> None:
    """Let the agent make the entry of a ticketed connection, as a PACKET_OUT does it."""
    action, frame = remade(one, BRIDGE.zone)
    talk = Packet.parse(frame).talk
    assert talk
    value, mask = 0, 0
    for load in action.execute:
        assert isinstance(load, Load) and load.to.of is f.CT_LABEL
        value, mask = value | load.value << load.to.first, mask | ((1 << load.to.width) - 1) << load.to.first
    label = Write(value, mask)
    bridge.conntrack.track(BRIDGE.zone, talk, commit=True, label=label)
