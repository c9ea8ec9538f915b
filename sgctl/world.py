# SPDX-License-Identifier: Apache-2.0
"""The inputs and the outcome of `sgctl.policy`: what one hypervisor knows, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias

from flows.inputs import Allowed, Connection, Limits, Pieces, Unit
from sgctl.localport import LocalPort
from sgctl.memo import Layers
from sgctl.model import Account, Address, Group, Member, Nic, Pod, Range, Rule, Vm, Zone


@dataclass(frozen=True, slots=True)
class Ending:
    """What a NIC has brought along that ends within the same few seconds."""

    connections: tuple[Connection, ...]
    pieces: tuple[Pieces, ...] = ()


Brought: TypeAlias = Mapping[str, Mapping[int, Ending]]
"""By NIC, what it has brought along by the time by which all of it has expired."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """That the switch did not take a unit's flows; another unit of the same owner gets another chance."""

    unit: Unit
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdraft:
    """Of which connections a NIC has more than its quota: those that it opened, those accepted from outside."""

    opened: bool
    accepted: bool

    @property
    def ways(self) -> tuple[bool, bool]:
        """Both."""
        return self.opened, self.accepted

    @property
    def reason(self) -> str:
        """What of it, for people."""
        ways = {(True, False): "opens no more", (False, True): "accepts no more from outside"}
        return f"more connections than its quota: {ways.get(self.ways, 'opens and accepts no more')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that the flows of one hypervisor depend on.

    host: its name.  ports: the interfaces of its bridge.  uplinks: names of uplinks from the configuration, in order
    of preference.  claimed: NICs that this hypervisor takes over, because their guests have spoken here, while the
    database may still name another.  refused: units that the switch would not take, by owner.
    brought: by NIC, the connections that it brings along from other hypervisors.
    limits: what each port may use of what all share.  overdrafts: NICs that have used more of it than their quota.
    The rest are the rows of the SG database that these ports concern.
    """

    host: str
    ports: tuple[LocalPort, ...] = ()
    uplinks: tuple[str, ...] = ()
    claimed: frozenset[str] = frozenset()
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    brought: Brought = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    overdrafts: Mapping[str, Overdraft] = field(default_factory=dict)
    accounts: Mapping[str, Account] = field(default_factory=dict)
    zones: Mapping[str, Zone] = field(default_factory=dict)
    pods: Mapping[str, Pod] = field(default_factory=dict)
    vms: Mapping[str, Vm] = field(default_factory=dict)
    nics: Mapping[str, Nic] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    ranges: tuple[Range, ...] = ()
    addresses: tuple[Address, ...] = ()
    rules: tuple[Rule, ...] = ()
    members: tuple[Member, ...] = ()


class State(StrEnum):
    """What is done with a port's frames."""

    ACTIVE = "active"
    STANDBY = "standby"
    CLOSED = "closed"
    UPLINK = "uplink"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortState:
    """What became of one local port, and why, for people; reason is empty where there is nothing to say.

    allowed: what its NIC has been promised beside its addresses.
    """

    name: str
    ofport: int | None
    state: State
    reason: str = ""
    nic: str | None = None
    vm: str | None = None
    vmid: str | None = None
    account: str | None = None
    mac: str | None = None
    addresses: tuple[str, ...] = ()
    allowed: tuple[Allowed, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What follows from a `World`.

    units: what flows are built from, by owner.  ports: one state per local port.  standby: those of them that wait.
    problems: what was left out, and why.
    rules, policies, identities: what the numbers in registers and labels stand for (rule id, group ids).
    """

    units: Layers[Unit]
    ports: tuple[PortState, ...]
    standby: frozenset[PortState] = frozenset()
    problems: tuple[str, ...] = ()
    rules: Mapping[int, str] = field(default_factory=dict)
    policies: Mapping[int, frozenset[str]] = field(default_factory=dict)
    identities: Mapping[int, frozenset[str]] = field(default_factory=dict)

    def plus(self, units: Iterable[Unit], refused: Mapping[str, Refusal]) -> Decision:
        """The decision with more units; those that the switch would not take are problems."""
        more, problems = {}, []
        for unit in units:
            refusal = refused.get(unit.owner)
            if refusal is not None and refusal.unit == unit:
                problems.append(f"{unit.owner}: {refusal.reason}")
            else:
                more[unit.owner] = unit
        if not more and not problems:
            return self
        return replace(self, units=self.units.plus(more), problems=(*self.problems, *problems))
