# SPDX-License-Identifier: Apache-2.0
"""The few priorities of flows, by name."""

from __future__ import annotations

from enum import IntEnum


class Band(IntEnum):
    """Which flow of a table wins: the higher band.

    Only rules use numbers between, from OTHERWISE to REFUSE, and networks those between OTHERWISE and ALLOW, so
    that the most exact one wins (`flows.stages.rules`, `flows.terms.rank`); and what VMs have brought along those
    just above ALLOW, likewise (`flows.stages.resumed`).
    """

    MISS = 0
    """Nothing matched: a drop, in every table."""
    OTHERWISE = 1000
    """What is neither here nor refused: a default that is narrower than a miss."""
    ALLOW = 2000
    """The ordinary case."""
    REFUSE = 10000
    """Refused whatever would allow it."""
    RESUME = 15000
    """What a VM has brought along from another hypervisor."""
    EXCEPT = 20000
    """Exceptions from what is refused."""
    FIRST = 30000
    """Refused before anything else is looked at."""
