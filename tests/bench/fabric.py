# SPDX-License-Identifier: Apache-2.0
"""What is asked of everybody that is measured: sgctl, OVN, Neutron, each on a hypervisor of its own.

A method returns when its call does; whether and when flows change is the stopwatch's business. `finish` is called
outside of the measured time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from tests.bench.cloud import Machine, Size
from tests.bench.hypervisor import Hypervisor


@dataclass(frozen=True, slots=True)
class Restart:
    """When (perf_counter) the agent's process was started, and when it said that it was in sync; other figures."""

    started: float
    insync: float
    parts: dict[str, float] = field(default_factory=dict)


class Fabric(Hypervisor):
    """Security groups on a hypervisor.

    quiet: seconds without a change of flows after which an event is over.  agent: its process on the hypervisor.
    events: the methods of `tests.bench.events.Course` that it can go through.
    Methods that only some of these events need are there for all, and fail where they are not among its own.
    most_ports: of the largest case that is worth the wait.
    """

    name: ClassVar[str]
    quiet: ClassVar[float]
    agent: ClassVar[str]
    most_ports: ClassVar[int] = 1000
    events: ClassVar[tuple[str, ...]] = (
        "rules", "members", "ports", "addresses", "groups", "memory", "datagrams", "restart_agent", "restart_switch",
        "audit",
    )  # fmt: skip

    @classmethod
    def installed(cls) -> bool:
        """Whether what it needs is on this machine."""
        return True

    @abstractmethod
    def prepare(self, size: Size, spare: int) -> None:
        """The members elsewhere, and as many VMs there that are no members; the group `more`."""

    @abstractmethod
    def start_agent(self) -> None:
        """Start the agent and wait until it is in sync; it ends with the hypervisor."""

    def restart_agent(self) -> Restart:
        """Stop and start it, and wait until it is in sync."""
        raise self._cannot()

    @abstractmethod
    def cold(self, size: Size) -> Callable[[], None]:
        """What sends one transaction: all VMs of this hypervisor in the group `web`, and its rules."""

    @abstractmethod
    def add_rule(self, number: int) -> None:
        """A rule about a CIDR of its own."""

    @abstractmethod
    def remove_rule(self, number: int) -> None:
        """Revoke it."""

    @abstractmethod
    def allow_datagrams(self) -> None:
        """A rule for UDP between the VMs of this hypervisor."""

    @abstractmethod
    def join(self, machine: Machine) -> None:
        """A VM elsewhere comes into the group `sources`, which rules name."""

    @abstractmethod
    def leave(self, machine: Machine) -> None:
        """It leaves the group."""

    def add_rule_row(self, number: int) -> None:
        """As `add_rule`, but straight into the database: where there is an API, what it adds can be seen."""
        raise self._cannot()

    def remove_rule_row(self, number: int) -> None:
        """Revoke it in the same way."""
        raise self._cannot()

    def join_row(self, machine: Machine) -> None:
        """As `join`, but straight into the database."""
        raise self._cannot()

    def leave_row(self, machine: Machine) -> None:
        """The same way out."""
        raise self._cannot()

    @abstractmethod
    def deploy(self, machine: Machine) -> None:
        """A new VM in the group `web`, not yet plugged in."""

    def plug_one(self, machine: Machine) -> None:
        """Plug it in."""
        self.plug(machine)

    def unplug_one(self, machine: Machine) -> None:
        """Pull it out."""
        self.ports.unplug(machine.name)

    def add_address(self, machine: Machine) -> None:
        """A secondary address for a running VM."""
        raise self._cannot()

    def remove_address(self, machine: Machine) -> None:
        """It loses it."""
        raise self._cannot()

    def regroup(self, machine: Machine, *, more: bool) -> None:
        """A running VM comes into the group `more` too, or leaves it."""
        raise self._cannot()

    def _cannot(self) -> Exception:
        return AssertionError(f"{self.name} goes through {', '.join(self.events)} only")

    def finish(self) -> None:
        """Wait until what was asked for last has come to its end everywhere."""

    def verify(self) -> None:
        """Check that the switch holds the flows that it should hold now; raises AssertionError."""

    def audit(self, size: Size) -> dict[str, float]:
        """Check that the flows are what they should be, and say what was checked; raises AssertionError."""
        return {}

    def log(self) -> str:
        """The end of what its agent has to say, for whoever looks for a fault."""
        return ""
