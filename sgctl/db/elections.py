# SPDX-License-Identifier: Apache-2.0
"""How long members of a cluster wait for their leader before they elect another.

A member says nothing while it makes all rows ready for a relay, an API server or another member that begins: over TLS
85 us of processor time per NIC (ovsdb-server 3.1, tests/bench/SCALE.md). With ovsdb-server's own second, any of these
deposes the leader of a large cloud; and where two members are busy at once, the third one says that it has lost the
cluster, and its relays and API servers leave it, to ask the next one for all rows. So the timer grows with the
database. The price is paid when a leader dies: nothing can be written for so long. One that is stopped hands over.
"""

from __future__ import annotations

import re
from pathlib import Path

from sgctl.db.status import control, size

SHORTEST, LONGEST = 1000, 16_000
"""Milliseconds: ovsdb-server's default, and what is bearable after a leader's death."""
_US_PER_ATOM = 3
"""Half as much again as all of a database takes to be made ready; an atom is a value of a column, a NIC has 43 in all
tables together."""
_TIMER = re.compile(r"^Election timer: ([0-9]+)(.*)$", re.MULTILINE)
"""A line of `cluster/status`; more words say that a change is under way."""


def suited(atoms: int) -> int:
    """The timer for a database of this size, in milliseconds, by whole seconds."""
    seconds = -(-atoms * _US_PER_ATOM // 1_000_000)
    return min(max(SHORTEST, 1000 * seconds), LONGEST)


def adjust(state_dir: Path) -> bool:
    """Lengthen the timer if this member leads and the database has outgrown it; whether there is nothing (more) to do.

    ovsdb-server at most doubles it at a time. What operators have made longer stays.
    """
    told = control(state_dir, "cluster/status")
    found = _TIMER.search(told)
    if found is None or "\nRole: leader\n" not in told:
        return True
    if found[2]:
        return False
    now, wanted = int(found[1]), suited(size(state_dir))
    if now < wanted:
        control(state_dir, "cluster/change-election-timer", str(min(wanted, 2 * now)))
    return now >= wanted
