# SPDX-License-Identifier: Apache-2.0
"""Who has more connections than his quota of the bridge's conntrack zone; pure.

A connection counts for the NIC here that opened it, and for the one that accepted it only if it came from outside: then
nobody else here is to blame. So a server that others here connect to is not closed by them, and one that is flooded
from outside can still be reached by its neighbours, and open connections itself.

As long as half of the zone is free nobody is bounded. Beyond, the quota shrinks with what is left: whatever the number
of those who work together, some room remains for the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address, ip_network

from flows.inputs import Network, Overdrawn, Port
from sgctl.world import Decision, Overdraft, PortState, Refusal, State

PRESSURE = 0.5
"""Which part of the zone is in use before anybody is bounded."""
RELIEF = 0.9
"""Part of its quota below which a NIC is not bounded any more, and of `PRESSURE` below which nobody is."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How many connections a NIC may have in each of the two ways (`most`), of those of the zone (`room`)."""

    most: int
    room: int

    def now(self, used: int) -> int:
        """The quota while so many connections of the zone are in use."""
        left = max(0, self.room - used) / (self.room * (1 - PRESSURE))
        return round(self.most * min(1.0, left))

    def pressing(self, used: int, *, before: bool) -> bool:
        """Whether quotas are held; `before`: they have been."""
        return used >= self.room * PRESSURE * (RELIEF if before else 1.0)

    def judge(
        self, used: int, counts: Mapping[str, tuple[int, int]], before: Mapping[str, Overdraft]
    ) -> dict[str, Overdraft]:
        """Who has too many, by NIC. counts: opened, and accepted from outside."""
        quota = self.now(used)
        found = {}
        for nic, (opened, accepted) in counts.items():
            was = before.get(nic, Overdraft(opened=False, accepted=False))
            one = Overdraft(opened=_over(opened, quota, was.opened), accepted=_over(accepted, quota, was.accepted))
            if one.opened or one.accepted:
                found[nic] = one
        return found


def _over(count: int, quota: int, before: bool) -> bool:
    return count > quota * (RELIEF if before else 1.0)


class Owners:
    """The NICs of ports by their addresses, and by the networks promised to them; a shared one has several."""

    def __init__(self, ports: Iterable[Port]) -> None:
        self._known: dict[str, tuple[str, ...]] = {}
        self._networks: list[tuple[Network, str]] = []
        for port in ports:
            for block in port.held:
                network = ip_network(block)
                if network.num_addresses > 1:
                    self._networks.append((network, port.nic))
                    continue
                address = str(network.network_address)
                self._known[address] = (*self._known.get(address, ()), port.nic)
        self._search = lru_cache(maxsize=1 << 14)(self._inside)

    def of(self, address: str) -> tuple[str, ...]:
        """Whose an address is, as `ip_address` writes it; nobody's if it is outside."""
        known = self._known.get(address, ())
        return known if known or not self._networks else self._search(address)

    def _inside(self, address: str) -> tuple[str, ...]:
        found = ip_address(address)
        return tuple(nic for network, nic in self._networks if found in network)


def overdraw(decision: Decision, overdrafts: Mapping[str, Overdraft], refused: Mapping[str, Refusal]) -> Decision:
    """The decision in which these NICs' open ports begin no more connections, and say so."""
    if not overdrafts:
        return decision
    ports = [unit for unit in decision.units.values() if isinstance(unit, Port) and unit.nic in overdrafts]
    bounded = [Overdrawn(one.nic, one.number, *overdrafts[one.nic].ways) for one in ports]
    told = tuple(_told(port, overdrafts.get(port.nic or "")) for port in decision.ports)
    return replace(decision, ports=told).plus(bounded, refused)


def _told(port: PortState, overdraft: Overdraft | None) -> PortState:
    if overdraft is None or port.state is not State.ACTIVE:
        return port
    return replace(port, reason="; ".join(filter(None, (port.reason, overdraft.reason))))
