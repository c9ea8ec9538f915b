# SPDX-License-Identifier: Apache-2.0
"""What the tests of moving VMs share: a cloud of hypervisors in one pod, a VM that moves, and its conversations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from devstack.lab import VM, Lab
from devstack.lab.agent import Stream
from devstack.lab.cloud import Cloud, Order
from devstack.lab.hypervisor import Hypervisor
from devstack.lab.mobile import Mobile
from devstack.lab.namespace import wait_for
from tests.functional.promised import check_recompute, wait_in_force

GAP = 0.3
"""Seconds that a conversation may stand still when a VM moves."""
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
    wait_in_force(cloud)
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


def settle(streams: dict[str, Stream], *, answers: int = 20, within: float = 10.0) -> None:
    """Wait until each has got so many further answers."""
    before = {name: stream.report().received for name, stream in streams.items()}
    for name, stream in streams.items():
        wanted = before[name] + answers
        wait_for(f"{name} goes on", lambda one=stream, n=wanted: one.report().received >= n, timeout=within)


def opening_times(cloud: Cloud, hypervisor: Hypervisor) -> list[float]:
    """Milliseconds from the first frame to the open port, of all NICs that have come to a hypervisor."""
    text = cloud.managers[hypervisor.name].log.read_text()
    return [float(value) for value in re.findall(r"opened ([\d.]+) ms after the first frame", text)]
