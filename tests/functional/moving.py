# SPDX-License-Identifier: Apache-2.0
"""What the tests of moving VMs share: a cloud of hypervisors in one pod, a VM that moves, and its conversations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from devstack.lab import VM, Lab
from devstack.lab.agent import Stream
from devstack.lab.cloud import Cloud, Order
from devstack.lab.hypervisor import Hypervisor
from devstack.lab.mobile import Mobile
from devstack.lab.namespace import PATIENCE, wait_for
from tests.faults.strain import Strain
from tests.functional.promised import WORLD, allow, check_recompute, wait_in_force

GAP = 0.3
"""Seconds that a conversation may stand still when a VM moves, on a machine that does nothing else (`bearable`)."""
OPENING = 100.0
"""Milliseconds that opening a port may take on a machine that runs other tests too; by itself it takes about three."""


@contextmanager
def moving_cloud(lab: Lab, *, hypervisors: int = 2, options: Sequence[str] = ()) -> Iterator[Cloud]:
    """Hypervisors in one pod; afterwards, without VMs, a recompute from nothing must find nothing to change."""
    cloud = Cloud(lab)
    pod = cloud.add_pod()
    for _ in range(hypervisors):
        cloud.add_hypervisor(pod)
    cloud.start(*options)
    cloud.register()
    yield cloud
    # What is brought along and not used expires by itself, at any moment: it goes with the ports.
    for moved in cloud.mobiles.values():
        for hypervisor, _ in list(moved.ports.values()):
            moved.unplug(hypervisor)
    wait_in_force(*cloud.managers.values())
    check_recompute(cloud)


def mobile(cloud: Cloud, account: str, name: str, host: int, *groups: str) -> Mobile:
    """A VM that can move, running on the hypervisor with this number."""
    hypervisor = cloud.hypervisors[host - 1]
    moved = Mobile(cloud, Order(cloud.accounts[account], name, hypervisor, cloud.pod(1), groups))
    cloud.wait_port(hypervisor, name, "active")
    return moved


def conversations(client: VM, server: VM, *, versions: tuple[int, ...] = (4, 6)) -> dict[str, Stream]:
    """Conversations of every kind from one VM to another."""
    return {
        f"{proto}{version}": client.stream(proto, server.address(version), port)
        for version in versions
        for proto, port in (("tcp", 80), ("udp", 53), ("icmp", 0))
    }


def settle(streams: dict[str, Stream], *, answers: int = 20, within: float = PATIENCE) -> None:
    """Wait until each has got so many further answers."""
    before = {name: stream.report().received for name, stream in streams.items()}
    for name, stream in streams.items():
        wanted = before[name] + answers
        wait_for(f"{name} goes on", lambda one=stream, n=wanted: one.report().received >= n, timeout=within)


def opening_times(cloud: Cloud, hypervisor: Hypervisor) -> list[float]:
    """Milliseconds from the first frame to the open port, of all NICs that have come to a hypervisor."""
    text = cloud.managers[hypervisor.name].log.read_text()
    return [float(value) for value in re.findall(r"opened ([\d.]+) ms after the first frame", text)]


def bearable(name: str, *, still: float, strain: float, gap: float = GAP) -> float:
    """Seconds that a conversation may stand still, by its name, when a VM moves on this machine.

    gap: those on one that does nothing else.  still: what the conversations of VMs that do not move have seen at the
    same time.  strain: how many times longer a little work takes than the time it has a processor. TCP waits twice as
    long before it tries again.
    """
    beyond = still + gap * (strain - 1)
    return gap + beyond * (2 if "tcp" in name else 1)


@dataclass(frozen=True, slots=True)
class Still:
    """Conversations of VMs that stay where they are: what the machine, and the switches, cost by themselves."""

    streams: Mapping[str, Stream]
    strain: Strain

    def begin(self) -> None:
        """Look at gaps from now on."""
        for stream in self.streams.values():
            stream.report(clear=True)
        self.strain.ratio()

    def judge(self, gaps: Mapping[str, float], *, gap: float = GAP) -> float:
        """AssertionError if one of the gaps of those who move is longer than can be borne. The seconds that this
        machine cost by itself."""
        still, strain = max(one.report().gap for one in self.streams.values()), self.strain.ratio()
        long = {name: one for name, one in gaps.items() if one >= bearable(name, still=still, strain=strain, gap=gap)}
        assert not long, f"{long}; of those who stay {still:.2f} s, strain {strain:.1f}"
        return still + gap * (strain - 1)


@contextmanager
def staying(cloud: Cloud, account: str, group: str) -> Iterator[Still]:
    """Two VMs of a group of their own, on the first two hypervisors, that talk all the while."""
    allow(cloud.accounts[account], group, "tcp/80", "udp/53", "icmp", cidr=WORLD)
    one, other = (mobile(cloud, account, f"{group}{host}", host, group).vm for host in (1, 2))
    for proto, port in (("tcp", 80), ("udp", 53)):
        other.serve(proto, port)
    wait_for("those who stay", lambda: one.probe("tcp", other.address(), 80) == "open")
    strain = Strain()
    try:
        yield Still(conversations(one, other, versions=(4,)), strain)
    finally:
        strain.stop()
