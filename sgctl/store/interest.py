# SPDX-License-Identifier: Apache-2.0
"""Which rows an agent needs, as monitor conditions: cost follows what is on this host, not the size of the cloud.

Conditions depend on rows that earlier conditions brought: NICs name groups, groups have rules, rules name groups. So
`conditions` is a pure function of what is here, asked again after each change; when it gives what the server has
already agreed to, all rounds are complete. Leaving shrinks them the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from sgctl.model import Account, Address, Cloud, Cut, Group, Handover, Host, Member, Nic, Pod, Range, Rule, Vm, Zone
from sgctl.store.columns import Json, Kind
from sgctl.store.replica import Replica

#: What an agent replicates; other tables are not even registered.
KINDS: tuple[Kind, ...] = (Cloud, Zone, Pod, Range, Account, Group, Rule, Vm, Nic, Address, Member, Host, Handover, Cut)
#: The kinds that conditions are worked out from. Members, the many, are not among them.
DECISIVE: frozenset[Kind] = frozenset({Pod, Group, Rule, Vm, Nic, Handover})

Conditions: TypeAlias = Mapping[Kind, Json]
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


def conditions(watch: Watch | None, replica: Replica) -> Conditions:
    """The condition per kind that follows from what is here now."""
    if watch is None:
        return dict.fromkeys(KINDS, _NONE)
    nics = {nic.id: nic for nic in replica.find(Nic, host=watch.host)}
    nics |= {id: nic for id in watch.nics if (nic := replica.get(Nic, id))}
    own = {group for nic in nics.values() for group in nic.groups}
    peers = {rule.peer for group in own for rule in replica.find(Rule, group=group) if rule.peer}
    accounts = {group.account for id in own | peers if (group := replica.get(Group, id))}
    vms = {nic.vm for nic in nics.values()}
    pods = {nic.pod for nic in nics.values()} | {vm.pod for id in vms if (vm := replica.get(Vm, id))}
    zones = {pod.zone for id in pods if (pod := replica.get(Pod, id))}
    left = {row.nic for row in replica.find(Handover, host=watch.host) if row.nic}
    hosts = {watch.host} | {nic.host for nic in nics.values() if nic.host}
    clauses: dict[Kind, list[Json]] = {
        Host: [["name", "==", name] for name in sorted(hosts)],
        Nic: [["host", "==", watch.host], *_any("_uuid", watch.nics | left)],
        Handover: [["host", "==", watch.host], *_any("nic", nics)],
        Address: _any("nic", nics),
        Member: [*_any("nic", nics), *_any("group", peers)],
        Vm: _any("_uuid", vms),
        Pod: _any("_uuid", pods),
        Range: _any("pod", pods),
        Zone: _any("_uuid", zones),
        Group: _any("_uuid", own | peers),
        Rule: _any("group", own),
        Account: _any("_uuid", accounts | {nic.account for nic in nics.values()}),
    }
    return {Cloud: _ALL, Cut: _ALL, **{kind: found or _NONE for kind, found in clauses.items()}}


def _any(column: str, ids: Iterable[str]) -> list[Json]:
    """Clauses, of which one must hold, in an order that makes equal conditions equal text."""
    return [[column, "==", ["uuid", id]] for id in sorted(ids)]
