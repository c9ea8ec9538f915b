# SPDX-License-Identifier: Apache-2.0
"""What a VM with more connections than its quota may not do: begin another one. All that it has goes on.

Connections that it opened itself and those that it accepted from outside are counted apart, and refused apart. Those
between two VMs here count for who opened them, so that nobody is closed by being connected to.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows import fields as f
from flows.bands import Band
from flows.fields import ct_state
from flows.flow import Flow
from flows.inputs import Bridge, Overdrawn
from flows.make import drop
from flows.tables import COMMIT, STATE
from flows.terms import FOR_VM, FROM_VM, FROM_WIRE

_NEW = ct_state("+trk-inv-rpl-rel")
_VALID = ct_state("+trk-inv")
_UNKNOWN = f.MARKS.eq(0)
"""No end here has accepted it so far, so that it has no entry."""


def overdrawn_flows(one: Overdrawn, bridge: Bridge) -> Iterator[Flow]:
    """Drops before the bounds and rules of STATE, and before COMMIT remembers anything."""
    if one.opened:
        opens = (f.SRC_PORT.eq(one.number), FROM_VM, _NEW, _UNKNOWN)
        yield drop(STATE, Band.FIRST, "new, from a VM with more connections than its quota", opens)
    if one.accepted and bridge.uplinks:
        asked = (f.OUT_PORT.eq(one.number), FOR_VM, FROM_WIRE, f.RECEIVER_RESUMES.eq(0), _VALID, _UNKNOWN)
        yield drop(COMMIT, Band.FIRST, "from outside, to a VM with more connections than its quota", asked)
