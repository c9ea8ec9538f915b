# SPDX-License-Identifier: Apache-2.0
"""The cloud that the faults happen to: who talks to whom, and who must not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from uuid import uuid4

from devstack.lab import VM, Hypervisor, Lab, Manager
from devstack.lab.api import Account
from devstack.lab.cloud import Cloud, Machine
from tests.functional.promised import allow, boot, order, revoke, two_hypervisors, wait_in_force

OPEN = (("tcp", 80), ("udp", 53), ("icmp", 0))
"""What clients may ask of the server."""
REVOKED = 90
"""The TCP port whose rule is taken away as soon as connections to it are open."""
NEWCOMER_MAC = "02:cc:00:00:00:01"
STRAY_MAC = "02:aa:00:00:00:01"
SETTLING = 60.0
"""Seconds in which everything must be in order again after a fault."""


@dataclass(slots=True)
class Scene:
    """Server and a client are on the first hypervisor, a client on the second; another tenant has a VM on each.

    The flapper is the server's colleague whose port suffers, the ghost one whose device goes, which nobody watches.
    The newcomer has just been plugged in, and no NIC is known by its iface-id.  The stray is on the wire, behind no
    hypervisor.
    """

    cloud: Cloud
    newcomer: VM
    stray: VM

    @property
    def tenant(self) -> Account:
        """The owner of the server and its clients."""
        return self.cloud.accounts["shop"]

    @property
    def hypervisors(self) -> list[Hypervisor]:
        """Both."""
        return self.cloud.hypervisors

    @property
    def keeper(self) -> Manager:
        """The manager that also keeps the database and serves the API."""
        return self.cloud.managers["hv1"]

    def manager(self, number: int) -> Manager:
        """The manager of a hypervisor."""
        return self.cloud.managers[f"hv{number}"]

    def machine(self, name: str) -> Machine:
        """A VM with its NIC and port."""
        return self.cloud.machines[name]

    def vm(self, name: str) -> VM:
        """Anybody by name."""
        return {"newcomer": self.newcomer, "stray": self.stray}.get(name) or self.cloud.machines[name].vm

    def settle(self, *, timeout: float = SETTLING) -> None:
        """Wait until the agents are in sync and the switches hold what is desired, nothing less and nothing more."""
        wait_in_force(*self.cloud.managers.values(), timeout=timeout)


@contextmanager
def scene(lab: Lab) -> Iterator[Scene]:
    """Build it."""
    cloud = two_hypervisors(lab, pods=1)
    shop = cloud.create_account("shop", ("web", "clients", "team", "extra"))
    evil = cloud.create_account("evil", ("open",))
    allow(shop, "web", *(f"{proto}/{port}" if port else proto for proto, port in OPEN), peers=["shop/clients"])
    boot(
        cloud, order(cloud, shop, "server", 1, "web"), order(cloud, shop, "near", 1, "clients"),
        order(cloud, shop, "far", 2, "clients"), order(cloud, shop, "flapper", 1, "web"),
        order(cloud, shop, "ghost", 1, "web"), order(cloud, evil, "mallory", 1, "open"),
        order(cloud, evil, "morgan", 2, "open"),
    )  # fmt: skip
    server = cloud.machines["server"].vm
    for proto, port in (*OPEN[:2], ("tcp", REVOKED)):
        server.serve(proto, port)
    newcomer = VM(lab, "newcomer")
    cloud.hypervisors[0].plug(newcomer, str(uuid4()), NEWCOMER_MAC)
    stray = VM(lab, "stray")
    stray.join(cloud.pod(1).segment, mac=STRAY_MAC)
    found = Scene(cloud, newcomer, stray)
    found.settle()
    yield found


@contextmanager
def admitted(scene: Scene) -> Iterator[None]:
    """Meanwhile clients may open connections to the port whose rule is taken away afterwards."""
    rules = allow(scene.tenant, "web", f"tcp/{REVOKED}", peers=["shop/clients"])
    scene.settle()
    yield
    revoke(scene.tenant, rules)
    scene.settle()


def dice(seed: int) -> Random:
    """A source of chance whose seed is told, so that what went wrong can be done again."""
    print(f"seed {seed}")
    return Random(seed)
