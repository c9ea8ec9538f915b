# SPDX-License-Identifier: Apache-2.0
"""Which rows an agent needs, as monitor conditions: cost follows what is on this host, not the size of the cloud.

Conditions depend on rows that earlier conditions brought: NICs name groups, groups have rules, rules name groups. So
`Conditions.of` is asked again after each change; when it gives what the server has already agreed to, all rounds are
complete. Leaving shrinks them the same way.

For each table whose condition changes the server looks at every row of it, twice (tests/bench/SCALE.md). That is why
a NIC's row says all about the NIC: only of NICs whose rows do not (`Nic.complete`) VM and addresses are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

from sgctl.memo import Last
from sgctl.model import Account, Address, Cloud, Cut, Group, Handover, Host, Member, Nic, Pod, Range, Rule, Vm, Zone
from sgctl.store.columns import Json, Kind, tables
from sgctl.store.replica import Replica

#: What an agent replicates; other tables are not even registered.
KINDS: tuple[Kind, ...] = (Cloud, Zone, Pod, Range, Account, Group, Rule, Vm, Nic, Address, Member, Host, Handover, Cut)
#: The kinds that conditions are worked out from. Members, the many, are not among them.
DECISIVE: frozenset[Kind] = frozenset({Pod, Group, Rule, Nic, Handover})
#: Columns that an agent does not follow. A change of nothing else goes to no agent, and servers do not even look at
#: their agents for it: one counts barriers, the others are what agents report, and answer barriers with.
UNSEEN: Mapping[Kind, frozenset[str]] = {
    Cloud: frozenset({"sequence", "allowances"}),
    Host: frozenset({"address", "version", "started", "applied"}),
}

_ALL: Json = [True]
_NONE: Json = [False]


@dataclass(frozen=True, slots=True)
class Watch:
    """A hypervisor by name, and the ids of the NICs that its ports name."""

    host: str
    nics: frozenset[str]


class Interest:
    """What an agent wants to see; given to `Database` and changed at any time."""

    def __init__(self) -> None:
        self.watched: Watch | None = None
        self.on_watch: Callable[[], None] = lambda: None

    def watch(self, *, host: str, nics: frozenset[str]) -> None:
        """See what concerns this host and these NICs; `insync` is False from now until all of that is here."""
        if not host:
            raise ValueError("a host without a name would be interested in every NIC that has no host")
        watch = Watch(host, frozenset(nics))
        if watch != self.watched:
            self.watched = watch
            self.on_watch()


def seen(kind: Kind) -> list[str]:
    """The columns of a table that an agent follows."""
    unseen = UNSEEN.get(kind, frozenset())
    return [name for name in tables()[kind].columns if name not in unseen]


class Conditions:
    """Works out the condition per kind from what is here now; equal conditions are the same object."""

    def __init__(self) -> None:
        self._here, self._about = Last(self._nics), Last(_About.of)
        self._named: frozenset[str] = frozenset()
        self._handovers, self._bare_clauses = Last(_handovers), Last(partial(_any, "nic"))
        self._vm_clauses = Last(partial(_any, "_uuid"))

    def of(self, watch: Watch | None, replica: Replica, lent: frozenset[str] = frozenset()) -> Mapping[Kind, Json]:
        """The conditions that follow from this interest and these rows; none is needed for the NICs that are `lent`."""
        if watch is None:
            return dict.fromkeys(KINDS, _NONE)
        about, named = self._here(watch, replica, lent, replica.revision(Nic))
        peers = {rule.peer for group in about.groups for rule in replica.find(Rule, group=group) if rule.peer}
        groups = about.groups | peers
        accounts = about.accounts | {group.account for id in groups if (group := replica.get(Group, id))}
        zones = {pod.zone for id in about.pods if (pod := replica.get(Pod, id))}
        left = {row.nic for row in replica.find(Handover, host=watch.host) if row.nic}
        gone = {id for id in left if (nic := replica.get(Nic, id)) is None or nic.host != watch.host}
        clauses: dict[Kind, list[Json]] = {
            Host: [["name", "==", name] for name in sorted(about.hosts | {watch.host})],
            Nic: [["host", "==", watch.host], *_any("_uuid", named | gone)],
            Handover: self._handovers(watch.host, about.nics | left if left else about.nics),
            Address: self._bare_clauses(about.bare_nics),
            Member: _any("group", peers),
            Vm: self._vm_clauses(about.bare_vms),
            Pod: _any("_uuid", about.pods),
            Range: _any("pod", about.pods),
            Zone: _any("_uuid", zones),
            Group: _any("_uuid", groups),
            Rule: _any("group", about.groups),
            Account: _any("_uuid", accounts),
        }
        return {Cloud: _ALL, Cut: _ALL, **{kind: found or _NONE for kind, found in clauses.items()}}

    def _nics(
        self, watch: Watch, replica: Replica, lent: frozenset[str], _revision: int
    ) -> tuple[_About, frozenset[str]]:
        """What follows from the NICs that are here or named by local ports, and those to ask for by their ids."""
        here = replica.find(Nic, host=watch.host)
        ids = [nic.id for nic in here]
        # Whoever is here already has been asked for by the host: so most conditions stay short. But who has been asked
        # for by name stays so: each change of a condition costs the server a look at every row of the table.
        named = self._named = watch.nics.difference(ids, lent) | watch.nics & self._named
        others = sorted((named | lent & watch.nics).difference(ids))
        return self._about((*here, *(nic for id in others if (nic := replica.get(Nic, id))))), named


@dataclass(frozen=True, slots=True)
class _About:
    """What follows from the NICs alone; the bare ones are those whose rows do not say all."""

    groups: frozenset[str]
    pods: frozenset[str]
    accounts: frozenset[str]
    hosts: frozenset[str]
    nics: frozenset[str]
    bare_nics: frozenset[str]
    bare_vms: frozenset[str]

    @classmethod
    def of(cls, nics: tuple[Nic, ...]) -> _About:
        return cls(
            groups=frozenset().union(*set(map(attrgetter("groups"), nics))),
            pods=frozenset(map(attrgetter("pod"), nics)),
            accounts=frozenset(map(attrgetter("account"), nics)),
            hosts=frozenset(map(attrgetter("host"), nics)) - {""},
            nics=frozenset(map(attrgetter("id"), nics)),
            bare_nics=frozenset(nic.id for nic in nics if not nic.complete),
            bare_vms=frozenset(nic.vm for nic in nics if not nic.complete),
        )


def _handovers(host: str, nics: frozenset[str]) -> list[Json]:
    return [["host", "==", host], *_any("nic", nics)]


def _any(column: str, ids: Iterable[str]) -> list[Json]:
    """Clauses, of which one must hold, in an order that makes equal conditions equal text."""
    return [[column, "==", ["uuid", id]] for id in sorted(ids)]
