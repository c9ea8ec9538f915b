# SPDX-License-Identifier: Apache-2.0
"""Whether the rows of a running database agree with each other."""

from __future__ import annotations

from sgctl.contradictions import Contradiction, contradictions
from sgctl.db.status import reader
from sgctl.errors import Unavailable
from sgctl.store import Database
from sgctl.tls import Tls

_SECONDS = 60.0


def look(remotes: str, tls: Tls | None) -> list[Contradiction]:
    """What contradicts, all as of one moment; SgctlError if the rows cannot be had."""
    with Database(reader(remotes), tls=tls, leader_only=False) as database:
        if not database.wait_insync(_SECONDS):
            raise Unavailable(f"the database {database.remotes} has not told its rows within {_SECONDS:.0f} s")
    # From here on nobody changes the replica.
    return sorted(contradictions(database.replica))
