# SPDX-License-Identifier: Apache-2.0
"""NICs that local ports name: looked up by their ids, so that no condition has to change for a VM that comes.

A server finds a row by its id at once, but looks at every row of a table when a condition on that table changes. A NIC
that nobody has is going to be bound to this host within milliseconds, and the condition on the host then brings its
row: until then the row that was looked up is good. It is not good for long, nor if the binding cannot be written: then
it is asked for by a condition after all, as are NICs that another host has and those that do not exist (yet). So is one
that this host had when it was looked up, if it has left before the condition on the host counted: no row tells of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sgctl.model import Nic
from sgctl.store.changes import Operation
from sgctl.store.columns import Json, tables, where
from sgctl.store.interest import Watch, seen
from sgctl.store.replica import Replica

GRACE = 5.0
"""Seconds for which a row is good without the server's word."""


def look_up(ids: Iterable[str]) -> list[Operation]:
    """The question for these NICs."""
    columns = ["_uuid", *seen(Nic)]
    return [{"op": "select", "table": Nic.TABLE, "where": where(id), "columns": columns} for id in ids]


def answered(results: Json) -> list[Nic]:
    """The NICs that there are; none if the question was not answered."""
    found = []
    for result in results or ():
        for row in result.get("rows", ()):
            columns = {name: value for name, value in row.items() if name != "_uuid"}
            found.append(tables()[Nic].insert(row["_uuid"][1], columns))
    return [nic for nic in found if isinstance(nic, Nic)]


class Plugged:
    """Who has been looked up, and for which of them no condition is needed yet."""

    def __init__(self) -> None:
        self._looked_up: frozenset[str] = frozenset()
        self._lent: dict[str, float] = {}
        self._bound: frozenset[str] = frozenset()

    @property
    def lent(self) -> frozenset[str]:
        """The NICs that no condition has to name for now."""
        return frozenset(self._lent)

    def strangers(self, watch: Watch, replica: Replica) -> list[str]:
        """The NICs that are to be looked up."""
        self._looked_up &= watch.nics
        return sorted(id for id in watch.nics - self._looked_up if replica.get(Nic, id) is None)

    def take(self, host: str, asked: Iterable[str], found: Iterable[Nic], now: float) -> Mapping[str, Nic]:
        """Note an answer; the rows to go by. What is bound to this host already comes by itself."""
        self._looked_up |= frozenset(asked)
        good = [nic for nic in found if nic.host == host or (not nic.host and nic.complete)]
        self._lent |= {nic.id: now + GRACE for nic in good}
        self._bound |= {nic.id for nic in good if nic.host}
        return {nic.id: nic for nic in good if not nic.host}

    def shown(self, ids: Iterable[str]) -> None:
        """The server has told of these NICs."""
        for id in ids:
            self._lent.pop(id, None)
        self._bound = self._bound.intersection(self._lent)

    def departed(self) -> bool:
        """No longer lend those that were bound to this host, now that the server has told of all that are: they have
        left since. True if there are any."""
        found = self._bound
        self.shown(found)
        return bool(found)

    def unplugged(self, watch: Watch | None, replica: Replica) -> Mapping[str, None]:
        """The rows to drop, because nobody has bound their NICs and no port names them any more."""
        gone = self._lent.keys() - (watch.nics if watch else frozenset())
        self.shown(gone)
        return {id: None for id in gone if replica.get(Nic, id) is not None}

    def expire(self, ids: Iterable[str] | None = None) -> None:
        """The rows of these NICs, or of all, are not good any more."""
        for id in self._lent.keys() & (self._lent if ids is None else ids):
            self._lent[id] = 0.0

    def left(self, now: float) -> float | None:
        """Seconds until the next row stops being good; None if there is none."""
        return max(min(self._lent.values()) - now, 0.0) if self._lent else None

    def expired(self, now: float) -> frozenset[str]:
        """The NICs that a condition has to name from now on."""
        found = frozenset(id for id, until in self._lent.items() if until <= now)
        self.shown(found)
        return found
