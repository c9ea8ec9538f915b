# SPDX-License-Identifier: Apache-2.0
"""What the tests of moving VMs share: a cloud of hypervisors in one pod, a VM that moves, and its conversations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from devstack.lab import VM, Lab, Manager
from devstack.lab.agent import Stream
from devstack.lab.cloud import Cloud, Order
from devstack.lab.hypervisor import Hypervisor
from devstack.lab.mobile import Mobile
from devstack.lab.namespace import wait_for
from tests.functional.promised import check_recompute, in_force

GAP = 0.3
"""Seconds that a conversation may stand still when a VM moves."""
OPENING = 100.0
"""Milliseconds that opening a port may take on a machine that runs other tests too; by itself it takes about three."""


@contextmanager
def moving_cloud(lab: Lab, *, hypervisors: int = 2, options: Sequence[str] = ()) -> Iterator[Cloud]:
    """Hypervisors in one pod; afterwards a recompute from nothing must find nothing to change."""
    cloud = Cloud(lab)
    pod = cloud.add_pod()
    for _ in range(hypervisors):
        cloud.add_hypervisor(pod)
    cloud.start(*options)
    cloud.register()
    yield cloud
    for name, manager in cloud.managers.items():
        try:
            wait_for(f"{name}: all is settled", lambda one=manager: settled(one), timeout=90, step=0.5)
        except TimeoutError as error:
            raise TimeoutError("\n".join([str(error), *brought(manager)])) from error
    check_recompute(cloud)


def settled(manager: Manager) -> bool:
    """Whether what VMs have brought along is used or over, and the switch holds the desired flows and no others."""
    return in_force(manager) and not brought(manager)


def brought(manager: Manager) -> list[str]:
    """What VMs have brought along to a hypervisor and not used, or will bring."""
    status, answer = manager.get("/admin/flows?table=RESUMED_SENDER")
    flows = answer["flows"] if status == 200 else []
    return [f"{flow['match']} ({flow['owner']})" for flow in flows if flow["owner"].startswith("resumed/")]


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
