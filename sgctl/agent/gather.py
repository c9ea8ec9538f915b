# SPDX-License-Identifier: Apache-2.0
"""What a hypervisor knows, put together: the SG database's rows, the local ports, and who is alive.

Each source counts as it was when it was last in sync. So a database or a switch that is away changes nothing, and a
half-loaded replica is never taken for the truth; what is still there goes on being followed. A database that is empty
all at once, or another cloud's, counts as away: somebody has started it in a wrong place, or without its disk, and to
follow it would cut off every VM of every hypervisor.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from time import monotonic, time
from typing import Any, TypeAlias

from sgctl.binding import nic_id
from sgctl.config import Settings
from sgctl.heartbeat import lost_after
from sgctl.localport import LocalPort, VSwitch
from sgctl.memo import Along, Distinct, Last
from sgctl.model import Account, Address, Cloud, Group, Host, Member, Nic, Pod, Range, Row, Rule, Vm, Zone
from sgctl.services import Services
from sgctl.store import Changes, Replica
from sgctl.world import World

LOG = logging.getLogger(__name__)
Kind: TypeAlias = type[Row]
CONCERNS: frozenset[Kind] = frozenset({Account, Address, Group, Member, Nic, Pod, Range, Rule, Vm, Zone})
_BY_ID: Mapping[str, Kind] = {"accounts": Account, "zones": Zone, "pods": Pod, "nics": Nic, "groups": Group}
_LISTED: Mapping[str, Kind] = {"ranges": Range, "rules": Rule, "members": Member}
"""How the tables of the database are called in a `World`, where they are by id or not."""
_OF_NICS: frozenset[Kind] = frozenset({Nic, Vm, Address})


@dataclass(frozen=True, slots=True)
class Known:
    """What one look at the database showed: the rows as a world without ports, and the last barrier for this host."""

    rows: World
    sequence: int


class Reader:
    """Reads all rows that concern a hypervisor, table by table; those that have not changed stay the same objects."""

    def __init__(self, host: str, replica: Replica) -> None:
        self._host, self._replica = host, replica
        self._rows = World(host=host)
        self._vms, self._addresses = Along(_vm_of), Along(_addresses_of)
        self._by_id = Last(_together)

    def read(self, changed: frozenset[Kind]) -> Known:
        """What is there now; these tables may have changed since the last time."""
        replica = self._replica
        reread: dict[str, Any] = {name: replica.by_id(kind) for name, kind in _BY_ID.items() if kind in changed}
        reread |= {name: tuple(replica.all(kind)) for name, kind in _LISTED.items() if kind in changed}
        if not changed.isdisjoint(_OF_NICS):
            reread |= self._of_nics()
        self._rows = replace(self._rows, **reread)
        return Known(self._rows, last_barrier(self._host, replica))

    def _of_nics(self) -> dict[str, Any]:
        """VMs and addresses, from NICs' own rows where these say all."""
        nics, rows = tuple(self._replica.all(Nic)), self._replica.all(Address)
        if rows:
            complete = {nic.id for nic in nics if nic.complete}
            rows = [row for row in rows if row.nic not in complete]
        addresses = chain(rows, chain.from_iterable(self._addresses(nics)))
        return {"vms": self._by_id(self._replica.by_id(Vm), self._vms(nics)), "addresses": tuple(addresses)}


def _vm_of(nic: Nic) -> tuple[str, Vm] | None:
    """The VM of a NIC with its id, as far as agents need to know it, from the NIC's row alone."""
    if not nic.complete:
        return None
    vm = Vm(id=nic.vm, name=nic.vm_name, account=nic.account, zone="", pod=nic.pod, wanted=nic.wanted)
    return vm.id, vm


def _addresses_of(nic: Nic) -> tuple[Address, ...]:
    """The same of its addresses."""
    told = sorted(nic.addresses) if nic.complete else ()
    return tuple(Address(id=f"{nic.id} {text}", address=text, nic=nic.id) for text in told)


def _together(rows: dict[str, Vm], told: Iterable[tuple[str, Vm] | None]) -> dict[str, Vm]:
    return rows | dict(filter(None, told))


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
        self._reader = Reader(services.settings.host, self._replica)
        self._known: Known | None = None
        self._made, self._strange = 0, ""
        self._vswitch: VSwitch | None = None
        self._outdated: frozenset[Kind] = CONCERNS
        self._beats = True
        self._named = Distinct(named_nic)
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
        return not self._outdated and self.insync

    @property
    def insync(self) -> bool:
        """Whether the database is being followed."""
        return self._replica.insync and not self._strange

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
        if not self._replica.insync or self._is_strange():
            return
        if self._outdated:
            changed, self._outdated = self._outdated, frozenset()
            self._known = self._reader.read(changed)
        if self._beats:
            self._beats = False
            self._heartbeats.observe(self._replica.all(Host))
            assert self._known is not None
            self._known = replace(self._known, sequence=last_barrier(self._settings.host, self._replica))
        self._live = self._heartbeats.live()

    def _is_strange(self) -> bool:
        """Whether this is not the database of the cloud that has been followed, which is known by when it was made."""
        made = max((cloud.created for cloud in self._replica.all(Cloud)), default=0)
        self._made = self._made or made
        strange = "" if made == self._made else "another cloud's" if made else "empty, nobody has set it up"
        if strange and strange != self._strange:
            LOG.error("the database is %s: what is in force stays. If that is meant, restart this agent to follow it",
                      strange)  # fmt: skip
        elif self._strange and not strange:
            LOG.info("the database is that of our cloud again")
        self._strange = strange
        return bool(strange)

    def world(self) -> World | None:
        """The world, without what the agent itself remembers; None as long as a source was never in sync."""
        if self._known is None or self._vswitch is None:
            return None
        return replace(self._known.rows, ports=self._vswitch.ports, uplinks=self._settings.uplinks)


def named_nic(port: LocalPort) -> str | None:
    """The NIC that a local port names, if its iface-id can be one."""
    return nic_id(port.iface_id) if port.iface_id else None
