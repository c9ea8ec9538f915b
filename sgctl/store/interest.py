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
from operator import attrgetter
from typing import Any, NamedTuple

from sgctl.memo import Distinct, Each, Last
from sgctl.model import Account, Address, Cloud, Cut, Group, Handover, Host, Member, Nic, Pod, Range, Rule, Vm, Zone
from sgctl.store.columns import Json, Kind, tables
from sgctl.store.replica import Replica

#: What an agent replicates; other tables are not even registered.
KINDS: tuple[Kind, ...] = (Cloud, Zone, Pod, Range, Account, Group, Rule, Vm, Nic, Address, Member, Host, Handover, Cut)
#: The kinds that conditions are worked out from. Members, the many, are not among them.
DECISIVE: frozenset[Kind] = frozenset({Pod, Group, Rule, Nic, Handover})
#: Columns that an agent does not follow. A change of nothing else goes to no agent, and servers do not even look at
#: their agents for it: some count for the API, the others are what agents report.
UNSEEN: Mapping[Kind, frozenset[str]] = {
    Cloud: frozenset({"sequence", "allowances"}),
    Account: frozenset({"vms_named", "grown"}),
    Group: frozenset({"grown"}),
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
    """Works out the condition per kind from what is here now; long ones that are equal are the same object.

    Of hundreds of NICs and rules only those that have come, changed or gone are looked at.
    """

    def __init__(self) -> None:
        self._ids: Distinct[str] = Distinct(attrgetter("id"))
        self._ask, self._named = Last(self._to_ask), frozenset[str]()
        self._traits, self._about = Distinct(_Traits.of), Last(_About.of)
        self._peers: Distinct[str] = Distinct(attrgetter("peer"))
        self._clauses = Each(_clauses)

    def of(self, watch: Watch | None, replica: Replica, lent: frozenset[str] = frozenset()) -> Mapping[Kind, Json]:
        """The conditions that follow from this interest and these rows; none is needed for the NICs that are `lent`."""
        if watch is None:
            return dict.fromkeys(KINDS, _NONE)
        here = replica.find(Nic, host=watch.host)
        ids = self._ids(here)
        named, others = self._ask(watch, ids, lent)
        more = [nic for id in others if (nic := replica.get(Nic, id))]
        about = self._about(self._traits([*here, *more]))
        peers = self._peers([rule for group in about.groups for rule in replica.find(Rule, group=group)])
        groups = about.groups | peers
        accounts = about.accounts | {group.account for id in groups if (group := replica.get(Group, id))}
        zones = {pod.zone for id in about.pods if (pod := replica.get(Pod, id))}
        left = {row.nic for row in replica.find(Handover, host=watch.host) if row.nic}
        gone = {id for id in left if (nic := replica.get(Nic, id)) is None or nic.host != watch.host}
        moving = left.union(nic.id for nic in more)
        wanted: dict[Kind, tuple[Any, ...]] = {
            Nic: ("_uuid", named | gone if gone else named, watch.host),
            Handover: ("nic", ids | moving if moving else ids, watch.host),
            Address: ("nic", about.bare_nics),
            Member: ("group", peers),
            Vm: ("_uuid", about.bare_vms),
            Pod: ("_uuid", about.pods),
            Range: ("pod", about.pods),
            Zone: ("_uuid", zones),
            Group: ("_uuid", groups),
            Rule: ("group", about.groups),
            Account: ("_uuid", accounts),
        }
        hosts: Json = [["name", "==", name] for name in sorted(about.hosts | {watch.host})]
        found = zip(wanted, self._clauses(wanted.items()), strict=True)
        return {Cloud: _ALL, Cut: _ALL, Host: hosts, **dict(found)}

    def _to_ask(
        self, watch: Watch, here: frozenset[str], lent: frozenset[str]
    ) -> tuple[frozenset[str], tuple[str, ...]]:
        """The NICs to ask for by their ids, and those that count beside those that are here."""
        # Whoever is here already has been asked for by the host: so most conditions stay short. But who has been asked
        # for by name stays so: each change of a condition costs the server a look at every row of the table.
        named = self._named = watch.nics.difference(here, lent) | watch.nics & self._named
        return named, tuple(sorted((named | lent & watch.nics) - here))


class _Traits(NamedTuple):
    """What NICs may have in common; the bare ones, whose rows do not say all, also have an id and a VM."""

    groups: frozenset[str]
    pod: str
    account: str
    host: str
    bare: tuple[str, str] | None

    @classmethod
    def of(cls, nic: Nic) -> _Traits:
        return cls(nic.groups, nic.pod, nic.account, nic.host, None if nic.complete else (nic.id, nic.vm))


@dataclass(frozen=True, slots=True)
class _About:
    """What follows from the NICs alone."""

    groups: frozenset[str]
    pods: frozenset[str]
    accounts: frozenset[str]
    hosts: frozenset[str]
    bare_nics: frozenset[str]
    bare_vms: frozenset[str]

    @classmethod
    def of(cls, traits: frozenset[_Traits]) -> _About:
        bare = [one.bare for one in traits if one.bare]
        return cls(
            groups=frozenset().union(*(one.groups for one in traits)),
            pods=frozenset(one.pod for one in traits),
            accounts=frozenset(one.account for one in traits),
            hosts=frozenset(one.host for one in traits) - {""},
            bare_nics=frozenset(nic for nic, _ in bare),
            bare_vms=frozenset(vm for _, vm in bare),
        )


def _clauses(column: str, ids: Iterable[str], host: str = "") -> Json:
    """Clauses, of which one must hold, in an order that makes equal conditions equal text."""
    clauses: list[Json] = [["host", "==", host]] if host else []
    clauses += [[column, "==", ["uuid", id]] for id in sorted(ids)]
    return clauses or _NONE
