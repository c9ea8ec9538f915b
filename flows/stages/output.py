# SPDX-License-Identifier: Apache-2.0
"""DELIVER and OUTPUT: send the packet to its port, or by the first uplink.

OUTPUT takes only what conntrack has just called valid: OVS up to 3.5 emits fragments that timed out, of whatever VM,
within other packets' batches, and those are not. Nothing leaves by the way it came in.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows import fields as f
from flows.bands import Band
from flows.flow import Flow, Output, OutputBits, Terms
from flows.inputs import Bridge
from flows.make import act
from flows.stages.connections import VALID
from flows.tables import DELIVER, OUTPUT, Table
from flows.terms import FOR_VM, FOR_WIRE, FROM_VM


def bridge_flows(bridge: Bridge) -> Iterator[Flow]:
    """To a VM from anywhere, to the wire from VMs only."""
    yield from _send(DELIVER, bridge, ())
    yield from _send(OUTPUT, bridge, VALID)


def _send(table: Table, bridge: Bridge, valid: Terms) -> Iterator[Flow]:
    yield act(table, Band.ALLOW, "to the VM", FOR_VM, valid, do=(OutputBits(f.OUT_PORT),))
    if bridge.uplinks:
        wire = (Output(bridge.uplinks[0]),)
        yield act(table, Band.ALLOW, "to the wire", FROM_VM, FOR_WIRE, valid, do=wire)
