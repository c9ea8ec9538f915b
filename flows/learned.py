# SPDX-License-Identifier: Apache-2.0
"""The cookies of flows that the switch learns.

Nobody owns these flows: they come from packets, and go by themselves, so they are neither desired nor foreign.
"""

from __future__ import annotations

LEARNED = 0xFFFF_0000_0000_0000
"""The bits that all of them have; no owner's cookie has its 16 upper bits set."""
DHCP = LEARNED | 1
"""That of the flows in DHCP_WAITING, which expire."""


def learned(cookie: int) -> bool:
    """True if the switch itself has made flows with this cookie."""
    return cookie & LEARNED == LEARNED


def of_holder(mac: int, pod: int) -> int:
    """That of the flow in HOLDER about a virtual MAC, whose two lower bytes are all that tells it from others, in a
    pod. It goes with the last flow that learns it."""
    return LEARNED | (mac & 0xFFFF) << 32 | pod
