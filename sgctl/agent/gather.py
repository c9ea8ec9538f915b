# SPDX-License-Identifier: Apache-2.0
"""What a hypervisor knows, put together: the SG database's rows, the local ports, and who is alive.

Each source counts as it was when it was last in sync. So a database or a switch that is away changes nothing, and a
half-loaded replica is never taken for the truth; what is still there goes on being followed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from time import monotonic, time
from uuid import UUID

from sgctl.config import Settings
from sgctl.localport import LocalPort, VSwitch
from sgctl.model import Account, Address, Cloud, Group, Host, Member, Nic, Pod, Range, Rule, Vm, Zone
from sgctl.services import Services
from sgctl.store import Changes, Replica
from sgctl.world import World, by_id

CONCERNS = frozenset({Account, Address, Cloud, Group, Member, Nic, Pod, Range, Rule, Vm, Zone})
STALE_AFTER = 30.0
"""Seconds without a heartbeat after which another hypervisor does not count as alive."""


@dataclass(frozen=True, slots=True)
class Known:
    """What one look at the database showed: the rows as a world without ports, and the cloud's sequence."""

    rows: World
    sequence: int

    @classmethod
    def read(cls, host: str, replica: Replica) -> Known:
        """All rows that concern this hypervisor."""
        rows = World(
            host=host,
            accounts=by_id(replica.all(Account)),
            zones=by_id(replica.all(Zone)),
            pods=by_id(replica.all(Pod)),
            vms=by_id(replica.all(Vm)),
            nics=by_id(replica.all(Nic)),
            groups=by_id(replica.all(Group)),
            ranges=tuple(replica.all(Range)),
            addresses=tuple(replica.all(Address)),
            rules=tuple(replica.all(Rule)),
            members=tuple(replica.all(Member)),
        )
        sequence = max((cloud.sequence for cloud in replica.all(Cloud)), default=0)
        return cls(rows, sequence)


class Heartbeats:
    """Who is alive, by this machine's clock: whoever's heartbeat has moved lately."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def observe(self, hosts: Iterable[Host]) -> None:
        """Note heartbeats. At the first sight of a host, the time that it has written itself must do."""
        now = monotonic()
        for host in hosts:
            known = self._seen.get(host.name)
            if known is None:
                self._seen[host.name] = (host.seen, now - max(0.0, time() - host.seen / 1000))
            elif known[0] != host.seen:
                self._seen[host.name] = (host.seen, now)

    def live(self) -> frozenset[str]:
        """The names of hosts that are alive."""
        oldest = monotonic() - STALE_AFTER
        return frozenset(name for name, (_, at) in self._seen.items() if at >= oldest)


class Gatherer:
    """Holds the last good look at each source."""

    def __init__(self, services: Services) -> None:
        self._settings: Settings = services.settings
        self._database, self._replica = services.database, services.database.replica
        self._interest = services.interest
        self._heartbeats = Heartbeats()
        self._known: Known | None = None
        self._vswitch: VSwitch | None = None
        self._outdated = self._beats = True
        self._replica.on_change(self._note)

    @property
    def known(self) -> Known | None:
        """The database as it was when it was last in sync; None if it never was."""
        return self._known

    @property
    def current(self) -> bool:
        """Whether both the database and the local switch's database are as fresh as can be."""
        return not self._outdated and self._replica.insync

    @property
    def loading(self) -> bool:
        """Whether rows that have just become of interest are on their way: better to wait than to misjudge a port."""
        return self._known is not None and self._database.connected and not self._replica.insync

    def _note(self, changes: Changes) -> None:
        """The database has changed; rows of no concern are not looked at."""
        kinds = {kind for kind, _ in changes}
        self._beats |= Host in kinds
        self._outdated |= not kinds or not kinds.isdisjoint(CONCERNS)

    def look(self, vswitch: VSwitch | None) -> None:
        """Take over what is in sync now; `vswitch` is None where the local switch's database is not."""
        if vswitch is not None:
            self._vswitch = vswitch
            if self._interest is not None:
                self._interest.watch(host=self._settings.host, nics=named_nics(vswitch.ports))
        if not self._replica.insync:
            return
        if self._beats:
            self._beats = False
            self._heartbeats.observe(self._replica.all(Host))
        if self._outdated:
            self._outdated = False
            self._known = Known.read(self._settings.host, self._replica)

    def world(self) -> World | None:
        """The world, without what the agent itself remembers; None as long as a source was never in sync."""
        if self._known is None or self._vswitch is None:
            return None
        settings = self._settings
        ports = tuple(port for port in self._vswitch.ports if port.name != settings.bridge)
        live = self._heartbeats.live() - {settings.host}
        return replace(self._known.rows, ports=ports, uplinks=settings.uplinks, live=live)


def named_nics(ports: Iterable[LocalPort]) -> frozenset[str]:
    """The NICs that local ports name, as far as their iface-id can be one."""
    found = set()
    for port in ports:
        try:
            found.add(str(UUID(port.iface_id or "")))
        except ValueError:
            continue
    return frozenset(found)
