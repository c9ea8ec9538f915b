# SPDX-License-Identifier: Apache-2.0
"""The gates of a part of the pipeline: flows that no packet matches, for what they look at (`flows.renewals`)."""

from __future__ import annotations

from collections.abc import Iterator

from flows import fields as f
from flows.bands import Band
from flows.flow import Flow
from flows.make import drop
from flows.renewals import Renewal


def renewal_flows(one: Renewal) -> Iterator[Flow]:
    """Above all others, or packets that another flow takes would not be looked at by it."""
    for gate in one.part.gates:
        never = f.PKT_MARK.masked(one.bits, one.bits)
        yield drop(gate, Band.NEVER, "no packet: renews what the switch has cached", never)
