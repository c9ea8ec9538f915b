# SPDX-License-Identifier: Apache-2.0
"""NICs that come and go: whose connections the switch must forget, and what to do when a guest moves here.

During a live migration two hypervisors have a port with the NIC's iface-id. The one that is not active waits on
standby until the guest's first frame shows that it runs there now; the agent then *claims* the NIC: the port opens at
once, the database learns of it, and the physical network is told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from time import monotonic

from flows.inputs import Block, Ip, Port, Unit
from sgctl.addresses import block_text
from sgctl.agent.announce import announcements
from sgctl.agent.applied import Applied
from sgctl.agent.gather import named_nics
from sgctl.memo import changes
from sgctl.world import Decision, State, World

LOG = logging.getLogger(__name__)
HOLD_OFF = 0.25
"""Seconds after a NIC has moved away in which frames at its old port are not taken for its return."""


class Moves:
    """Which NICs this hypervisor has claimed, and when it lost one."""

    def __init__(self) -> None:
        self._claimed: set[str] = set()
        self._lost: dict[str, float] = {}
        self._between: tuple[Decision | None, Decision | None] = (None, None)
        self._ports: tuple[list[Port], list[Port]] = ([], [])

    def claim(self, applied: Applied | None, frames: Iterable[int]) -> None:
        """Claim the NICs of standby ports (OpenFlow numbers) that have sent frames."""
        if applied is None:
            return
        standby = {port.ofport: port.nic for port in applied.decision.ports if port.state is State.STANDBY}
        for number in set(frames):
            nic = standby.get(number)
            if nic and nic not in self._claimed and monotonic() - self._lost.get(nic, -HOLD_OFF) >= HOLD_OFF:
                LOG.info("NIC %s speaks on OpenFlow port %d: it has moved here", nic, number)
                self._claimed.add(nic)

    def claimed(self, world: World) -> frozenset[str]:
        """The claims that the database does not show yet."""
        if not self._claimed:
            return frozenset()
        named = named_nics(world.ports)
        done = {nic for nic in self._claimed if nic not in named or _host(world, nic) == world.host}
        self._claimed -= done
        return frozenset(self._claimed)

    def opened(
        self, world: World, decision: Decision, before: Decision | None, held: Callable[[Port], Collection[Block]]
    ) -> list[str]:
        """Addresses that a port gets newly here, and that did not move here: no earlier owner's connections count.

        held: the addresses for which a port has flows in the switch, asked when nothing has been decided before.
        """
        closed, opened = self._changed(before, decision)
        old = _addresses(closed)
        if before is None:
            old = {(address, unit.nic) for unit in opened for address in held(unit)}
        return [
            block_text(address)
            for unit in opened
            if _host(world, unit.nic) in ("", world.host)
            for address in unit.held
            if (address, unit.nic) not in old and not _is_shared(address, before)
        ]

    def left(self, world: World, decision: Decision, before: Decision | None) -> list[str]:
        """Addresses that no local port has any more, and that did not move to another hypervisor."""
        if before is None:
            return []
        closed, opened = self._changed(before, decision)
        now = {address for address, _ in _addresses(opened)}
        old = (pair for pair in _addresses(closed) if pair[0] not in now)
        gone = [(address, nic) for address, nic in old if not _is_shared(address, decision)]
        if not gone:
            return []
        standby = {port.nic for port in decision.ports if port.state is State.STANDBY}
        self._lost |= {nic: monotonic() for nic in standby & {nic for _, nic in gone} if nic}
        texts = (block_text(address) for address, nic in gone if nic not in standby and not _elsewhere(world, nic))
        return list(dict.fromkeys(texts))

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
            gone, come = changes(before.units if before else {}, decision.units)
            self._ports, self._between = (_only_ports(gone), _only_ports(come)), (before, decision)
        return self._ports


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
