# SPDX-License-Identifier: Apache-2.0
"""What a hypervisor knows, put together: the SG database's rows, the local ports, and who is alive.

Each source counts as it was when it was last in sync. So a database or a switch that is away changes nothing, and a
half-loaded replica is never taken for the truth; what is still there goes on being followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from time import monotonic, time
from typing import Any, TypeAlias

from sgctl.binding import nic_id
from sgctl.config import Settings
from sgctl.heartbeat import lost_after
from sgctl.localport import LocalPort, VSwitch
from sgctl.memo import Last
from sgctl.model import Account, Address, Cloud, Group, Host, Member, Nic, Pod, Range, Row, Rule, Vm, Zone
from sgctl.services import Services
from sgctl.store import Changes, Replica
from sgctl.world import World, by_id

Kind: TypeAlias = type[Row]
CONCERNS: frozenset[Kind] = frozenset({Account, Address, Group, Member, Nic, Pod, Range, Rule, Vm, Zone})
_TABLES: Mapping[str, tuple[Kind, Callable[[list[Any]], Any]]] = {
    "accounts": (Account, by_id), "zones": (Zone, by_id), "pods": (Pod, by_id), "nics": (Nic, by_id),
    "groups": (Group, by_id), "ranges": (Range, tuple), "rules": (Rule, tuple), "members": (Member, tuple),
}  # fmt: skip
"""How the tables of the database are called in a `World`, and what they are there."""
_OF_NICS: frozenset[Kind] = frozenset({Nic, Vm, Address})


@dataclass(frozen=True, slots=True)
class Known:
    """What one look at the database showed: the rows as a world without ports, and the last barrier for this host."""

    rows: World
    sequence: int

    @classmethod
    def read(cls, host: str, replica: Replica, before: Known | None, changed: frozenset[Kind]) -> Known:
        """All rows that concern this hypervisor; tables that have not changed since `before` are taken from there."""
        reread = {
            name: shape(replica.all(kind)) for name, (kind, shape) in _TABLES.items() if kind in changed or not before
        }
        if before is None or not changed.isdisjoint(_OF_NICS):
            reread |= _of_nics(replica)
        rows = replace(before.rows if before else World(host=host), **reread)
        return cls(rows, last_barrier(host, replica))


def _of_nics(replica: Replica) -> dict[str, Any]:
    """VMs and addresses, from NICs' own rows where these say all."""
    complete = {nic.id: told_by(nic) for nic in replica.all(Nic) if nic.complete}
    rows = [row for row in replica.all(Address) if row.nic not in complete]
    told = {vm.id: vm for vm, _ in complete.values()}
    addresses = chain(rows, *(found for _, found in complete.values()))
    return {"vms": by_id(replica.all(Vm)) | told, "addresses": tuple(addresses)}


@lru_cache(maxsize=1 << 14)
def told_by(nic: Nic) -> tuple[Vm, tuple[Address, ...]]:
    """The VM and the addresses of a NIC, as far as agents need to know them, from the NIC's row alone."""
    vm = Vm(id=nic.vm, name=nic.vm_name, account=nic.account, zone="", pod=nic.pod, wanted=nic.wanted)
    return vm, tuple(Address(id=f"{nic.id} {text}", address=text, nic=nic.id) for text in sorted(nic.addresses))


def last_barrier(host: str, replica: Replica) -> int:
    """The last barrier that the agent of this host is asked about."""
    asking: list[Cloud | Host] = [*replica.all(Cloud), *replica.find(Host, name=host)]
    return max((row.asked for row in asking), default=0)


class Heartbeats:
    """Who is alive, by this machine's clock: whoever's heartbeat has moved as lately as it has promised."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}
        self._until: dict[str, float] = {}

    def observe(self, hosts: Iterable[Host]) -> None:
        """Note heartbeats. At the first sight of a host, the time that it has written itself must do."""
        now = monotonic()
        for host in hosts:
            known = self._seen.get(host.name)
            if known is None:
                self._seen[host.name] = (host.seen, now - max(0.0, time() - host.seen / 1000))
            elif known[0] != host.seen:
                self._seen[host.name] = (host.seen, now)
            self._until[host.name] = self._seen[host.name][1] + lost_after(host) / 1000

    def live(self) -> frozenset[str]:
        """The names of hosts that are alive."""
        now = monotonic()
        return frozenset(name for name, until in self._until.items() if until >= now)


class Gatherer:
    """Holds the last good look at each source."""

    def __init__(self, services: Services) -> None:
        self._settings: Settings = services.settings
        self._database, self._replica = services.database, services.database.replica
        self._interest = services.interest
        self._heartbeats = Heartbeats()
        self._live: frozenset[str] = frozenset()
        self._known: Known | None = None
        self._vswitch: VSwitch | None = None
        self._outdated: frozenset[Kind] = CONCERNS
        self._beats = True
        self._named, self._others = Last(named_nics), Last(_without)
        self._replica.on_change(self._note)

    @property
    def settings(self) -> Settings:
        """The options of this process."""
        return self._settings

    @property
    def known(self) -> Known | None:
        """The database as it was when it was last in sync; None if it never was."""
        return self._known

    @property
    def current(self) -> bool:
        """Whether both the database and the local switch's database are as fresh as can be."""
        return not self._outdated and self._replica.insync

    @property
    def insync(self) -> bool:
        """Whether the database is being followed."""
        return self._replica.insync

    @property
    def live(self) -> frozenset[str]:
        """The hosts that were alive when the database was last in sync; they can be asked."""
        return self._live

    @property
    def loading(self) -> bool:
        """Whether rows that have just become of interest are on their way: better to wait than to misjudge a port."""
        return self._known is not None and self._database.connected and not self._replica.insync

    def _note(self, changes: Changes) -> None:
        """The database has changed; rows of no concern are not looked at."""
        kinds = {kind for kind, _ in changes}
        self._beats |= not kinds.isdisjoint({Host, Cloud})
        self._outdated |= kinds & CONCERNS

    def look(self, vswitch: VSwitch | None) -> None:
        """Take over what is in sync now; `vswitch` is None where the local switch's database is not."""
        if vswitch is not None:
            self._vswitch = vswitch
            if self._interest is not None:
                self._interest.watch(host=self._settings.host, nics=self._named(vswitch.ports))
        if not self._replica.insync:
            return
        if self._outdated:
            changed, self._outdated = self._outdated, frozenset()
            self._known = Known.read(self._settings.host, self._replica, self._known, changed)
        if self._beats:
            self._beats = False
            self._heartbeats.observe(self._replica.all(Host))
            assert self._known is not None
            self._known = replace(self._known, sequence=last_barrier(self._settings.host, self._replica))
        self._live = self._heartbeats.live()

    def world(self) -> World | None:
        """The world, without what the agent itself remembers; None as long as a source was never in sync."""
        if self._known is None or self._vswitch is None:
            return None
        settings = self._settings
        ports = self._others(self._vswitch.ports, settings.bridge)
        return replace(self._known.rows, ports=ports, uplinks=settings.uplinks)


def _without(ports: Iterable[LocalPort], bridge: str) -> tuple[LocalPort, ...]:
    return tuple(port for port in ports if port.name != bridge)


def named_nics(ports: Iterable[LocalPort]) -> frozenset[str]:
    """The NICs that local ports name, as far as their iface-id can be one."""
    return frozenset(filter(None, (nic_id(port.iface_id) for port in ports if port.iface_id)))
