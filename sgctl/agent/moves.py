# SPDX-License-Identifier: Apache-2.0
"""NICs that come and go: whose connections the switch must forget, and what to do when a guest moves here.

During a live migration two hypervisors have a port with the NIC's iface-id. The one that is not active waits on
standby until the guest's first frame shows that it runs there now; the agent then *claims* the NIC: the port opens at
once, the database learns of it, and the physical network is told.

A port that its NIC has left may be that of a guest which has come back, or of one that was started elsewhere while this
hypervisor was cut off, and still runs here. QEMU's announcement (RARP) tells of the former; at any other frame the
hypervisor that has the NIC is asked first (`sgctl.agent.contests`). So it is with ports whose past is not known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from time import monotonic
from typing import NamedTuple, TypeAlias

from flows.inputs import Block, Ip, Port, Unit
from sgctl.addresses import block_text
from sgctl.agent.announce import announcements
from sgctl.agent.applied import Applied
from sgctl.agent.gather import named_nic
from sgctl.memo import Layers, changes
from sgctl.world import Decision, PortState, World

LOG = logging.getLogger(__name__)
HOLD_OFF = 0.25
"""Seconds after a NIC has moved away in which frames at its old port are not taken for its return, unless they
announce it."""
CACHED = 1.0
"""Seconds after which Open vSwitch has dropped the cached flows of flows that are gone: it sweeps twice a second."""
_RARP = b"\x80\x35"
_Place: TypeAlias = tuple[str, int | None]
"""A port's name and OpenFlow number."""


class Shown(NamedTuple):
    """A frame of a port on standby: its OpenFlow number, and the MAC that it announces if it is QEMU's RARP."""

    port: int
    announces: str

    @classmethod
    def of(cls, port: int, data: bytes) -> Shown:
        """What a frame says."""
        return cls(port, data[6:12].hex(":") if data[12:14] == _RARP else "")


class Moves:
    """Which NICs this hypervisor has claimed, and when it lost one."""

    def __init__(self) -> None:
        self._claimed: set[str] = set()
        self._doubted: dict[str, _Place] = {}
        self._contested: set[str] = set()
        self._lost: dict[str, tuple[_Place, float]] = {}
        self._left: dict[tuple[Block, str], float] = {}
        self._between: tuple[Decision | None, Decision | None] = (None, None)
        self._ports: tuple[list[Port], list[Port]] = ([], [])

    def claim(self, applied: Applied | None, frames: Iterable[Shown], live: Collection[str]) -> bool:
        """Claim the NICs of standby ports that have sent frames; `live` are the hosts that can be asked.

        True if one has to be.
        """
        if applied is None:
            return False
        standby = {port.ofport: port for port in applied.decision.standby}
        for frame in dict.fromkeys(frames):
            port = standby.get(frame.port)
            nic = port.nic if port is not None else None
            if port is None or not nic or nic in self._claimed:
                continue
            announced = frame.announces == (port.mac or "").lower()
            if not announced and self._has_just_left(nic, _place(port)):
                continue
            doubted = not announced and self._doubted.get(nic) == _place(port)
            if doubted and _host(applied.world, nic) in live:
                self._contested.add(nic)
                continue
            LOG.info("NIC %s speaks on OpenFlow port %d: it has moved here", nic, frame.port)
            self._claimed.add(nic)
        return bool(self._contested)

    def _has_just_left(self, nic: str, place: _Place) -> bool:
        known = self._lost.get(nic)
        return known is not None and known[0] == place and monotonic() - known[1] < HOLD_OFF

    def take_contested(self) -> frozenset[str]:
        """NICs that have spoken where it is not known whether they are there, since the last time."""
        found = frozenset(self._contested)
        self._contested -= found
        return found

    def claimed(self, world: World) -> frozenset[str]:
        """The claims that the database does not show yet."""
        if not self._claimed:
            return frozenset()
        named = set(map(named_nic, world.ports))
        done = {nic for nic in self._claimed if nic not in named or _host(world, nic) == world.host}
        self._claimed -= done
        return frozenset(self._claimed)

    def opened(
        self, world: World, decision: Decision, before: Decision | None, held: Callable[[Port], Collection[Block]]
    ) -> list[str]:
        """Addresses that a port gets newly here, and that did not move here: no earlier owner's connections count.

        Whoever has waited here has moved here, though the other hypervisor has given the NIC up before we claimed it:
        those who stay here have accepted connections with it.

        held: the addresses for which a port has flows in the switch, asked when nothing has been decided before.
        """
        closed, opened = self._changed(before, decision)
        old = _addresses(closed)
        if before is None:
            old = {(address, unit.nic) for unit in opened for address in held(unit)}
        waited = {port.nic for port in before.standby} if before else set()
        return [
            block_text(address)
            for unit in opened
            if unit.nic not in waited and _host(world, unit.nic) in ("", world.host)
            for address in unit.held
            if (address, unit.nic) not in old and not _is_shared(address, before)
        ]

    def left(self, world: World, decision: Decision, before: Decision | None) -> list[str]:
        """Addresses that no local port has any more, and that did not move to another hypervisor."""
        standby = {port.nic: _place(port) for port in decision.standby if port.nic}
        if before is None:
            self._doubted = standby
            return []
        closed, opened = self._changed(before, decision)
        now = {address for address, _ in _addresses(opened)}
        old = (pair for pair in _addresses(closed) if pair[0] not in now)
        gone = [(address, nic) for address, nic in old if not _is_shared(address, decision)]
        lost = {unit.nic: standby[unit.nic] for unit in closed if unit.nic in standby}
        self._doubted = {nic: place for nic, place in self._doubted.items() if standby.get(nic) == place} | lost
        self._lost = {nic: known for nic, known in self._lost.items() if nic in standby}
        self._lost |= {nic: (place, monotonic()) for nic, place in lost.items()}
        mine = [(address, nic) for address, nic in gone if nic not in standby and not _elsewhere(world, nic)]
        self._left |= dict.fromkeys(mine, monotonic())
        return list(dict.fromkeys(block_text(address) for address, _ in mine))

    def shared(self, decision: Decision, before: Decision | None) -> set[str]:
        """Addresses that ports get newly here, which NICs elsewhere may hold as well."""
        return {block_text(address) for unit in self._changed(before, decision)[1] for address in unit.shared}

    def left_before(self, world: World, decision: Decision) -> list[str]:
        """Those that `left` has named, once more a little later, unless somebody has them again.

        Until Open vSwitch has dropped its cached flows too, a packet on its way could begin a connection anew.
        """
        due = [pair for pair, since in self._left.items() if monotonic() - since >= CACHED]
        if not due:
            return []
        for pair in due:
            del self._left[pair]
        held = {address for address, _ in _addresses(_only_ports(decision.units.values()))}
        still = (address for address, nic in due if address not in held and not _elsewhere(world, nic))
        return list(dict.fromkeys(map(block_text, still)))

    def announcements(self, world: World, decision: Decision, before: Decision | None) -> Iterator[bytes]:
        """The frames that tell the network of NICs that have come from another hypervisor."""
        bridge = decision.units["bridge"]
        if before is None or not getattr(bridge, "uplinks", ()):
            return
        for unit in self._changed(before, decision)[1]:
            if unit.owner not in before.units and _host(world, unit.nic) not in ("", world.host):
                yield from announcements(unit.mac, (*unit.addresses, *_announced(unit, 0)))
                for mac in unit.nested:
                    yield from announcements(mac, _announced(unit, mac))

    def _changed(self, before: Decision | None, decision: Decision) -> tuple[list[Port], list[Port]]:
        """The open ports that only the one and only the other decision has; all others have the same addresses."""
        if self._between[0] is not before or self._between[1] is not decision:
            gone, come = changes(before.units if before else Layers(), decision.units)
            self._ports, self._between = (_only_ports(gone), _only_ports(come)), (before, decision)
        return self._ports


def _place(port: PortState) -> _Place:
    return port.name, port.ofport


def _only_ports(units: Iterable[Unit]) -> list[Port]:
    return [unit for unit in units if isinstance(unit, Port)]


def _addresses(ports: Iterable[Port]) -> set[tuple[Block, str]]:
    return {(address, unit.nic) for unit in ports for address in unit.held}


def _is_shared(address: Block, decision: Decision | None) -> bool:
    """Whether open ports hold what several may hold: its connections are theirs, whoever else comes or goes."""
    return decision is not None and f"shared/{block_text(address)}" in decision.units


def _announced(unit: Port, mac: int) -> list[Ip]:
    """The single addresses that a VM or a guest inside it has been promised alone; who has another, says so itself."""
    networks = (one.network for one in unit.allowed if one.mac == mac and not one.shared)
    return [one.network_address for one in networks if one.prefixlen == one.max_prefixlen]


def _host(world: World, nic: str) -> str:
    row = world.nics.get(nic)
    return row.host if row else ""


def _elsewhere(world: World, nic: str) -> bool:
    row = world.nics.get(nic)
    return row is not None and row.host not in ("", world.host) and row.state == "up"
