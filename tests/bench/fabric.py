# SPDX-License-Identifier: Apache-2.0
"""What is asked of everybody that is measured: sgctl, OVN, Neutron, each on a hypervisor of its own.

A method returns when its call does; whether and when flows change is the stopwatch's business. `finish` is called
outside of the measured time.
"""

from __future__ import annotations

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

    def prepare(self, size: Size, spare: int) -> None:
        """The members elsewhere, and as many VMs there that are no members; the group `more`."""
        raise NotImplementedError

    def start_agent(self) -> None:
        """Start the agent and wait until it is in sync; it ends with the hypervisor."""
        raise NotImplementedError

    def restart_agent(self) -> Restart:
        """Stop and start it, and wait until it is in sync."""
        raise NotImplementedError

    def cold(self, size: Size) -> Callable[[], None]:
        """What sends one transaction: all VMs of this hypervisor in the group `web`, and its rules."""
        raise NotImplementedError

    def add_rule(self, number: int) -> None:
        """A rule about a CIDR of its own."""
        raise NotImplementedError

    def remove_rule(self, number: int) -> None:
        """Revoke it."""
        raise NotImplementedError

    def allow_datagrams(self) -> None:
        """A rule for UDP between the VMs of this hypervisor."""
        raise NotImplementedError

    def join(self, machine: Machine) -> None:
        """A VM elsewhere comes into the group `sources`, which rules name."""
        raise NotImplementedError

    def leave(self, machine: Machine) -> None:
        """It leaves the group."""
        raise NotImplementedError

    def add_rule_row(self, number: int) -> None:
        """As `add_rule`, but straight into the database: where there is an API, what it adds can be seen."""
        raise NotImplementedError

    def remove_rule_row(self, number: int) -> None:
        """Revoke it in the same way."""
        raise NotImplementedError

    def join_row(self, machine: Machine) -> None:
        """As `join`, but straight into the database."""
        raise NotImplementedError

    def leave_row(self, machine: Machine) -> None:
        """The same way out."""
        raise NotImplementedError

    def deploy(self, machine: Machine) -> None:
        """A new VM in the group `web`, not yet plugged in."""
        raise NotImplementedError

    def plug_one(self, machine: Machine) -> None:
        """Plug it in."""
        self.plug(machine)

    def unplug_one(self, machine: Machine) -> None:
        """Pull it out."""
        self.ports.unplug(machine.name)

    def add_address(self, machine: Machine) -> None:
        """A secondary address for a running VM."""
        raise NotImplementedError

    def remove_address(self, machine: Machine) -> None:
        """It loses it."""
        raise NotImplementedError

    def regroup(self, machine: Machine, *, more: bool) -> None:
        """A running VM comes into the group `more` too, or leaves it."""
        raise NotImplementedError

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
