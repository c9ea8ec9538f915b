# SPDX-License-Identifier: Apache-2.0
"""The cloud in which VMs move about: three hypervisors, and a database that is on none of them.

Two VMs move, `ada` and `bea`.  Their clients are one on each of the first two hypervisors; `former` on the third is a
client whose rule is gone; another tenant has a VM on each.  The third hypervisor's agent uses a relay of the database.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from devstack.lab import Hypervisor, Lab, Manager
from devstack.lab.api import Account, first_admin
from devstack.lab.cloud import API_PORT, DATABASE_PORT, MANAGEMENT, Cloud, Order
from devstack.lab.mobile import Mobile
from devstack.lab.namespace import wait_for
from sgctl.db.talk import Talk, TalkError
from tests.functional.promised import allow, revoke, wait_in_force

HOSTS = 3
CONTROL, RELAY = f"{MANAGEMENT}.251", f"{MANAGEMENT}.252"
MOVERS = ("ada", "bea")
CLIENTS = ("north", "south")
STRANGERS = ("evil1", "evil2", "evil3")
SETTLING = 60.0
"""Seconds in which everything must be in order again after a move, on a machine that does much else."""
OPEN = ("tcp/80", "udp/53")
KEPT = ("tcp/90", "udp/90", "icmp")
"""What is allowed for as long as it takes to open connections."""


class Fleet(Cloud):
    """Agents on the hypervisors; API, database and relay on machines of their own."""

    def start(self, *options: str) -> None:
        """Start all managers; the API's gets `options`."""
        self.control = self._central(
            "control", 251, f"--api-port={API_PORT}", f"--api-host={CONTROL}",
            f"--db-listen=ptcp:{DATABASE_PORT}:{CONTROL}", *options, "sgctl.api",
        )  # fmt: skip
        self.control.wait_ready()
        self.relay = self._central(
            "relay", 252, f"--db-relay-of=tcp:{CONTROL}:{DATABASE_PORT}", f"--db-listen=ptcp:{DATABASE_PORT}:{RELAY}",
            "sgctl.db",
        )  # fmt: skip
        for hypervisor in self.hypervisors:
            address = RELAY if hypervisor is self.hypervisors[-1] else CONTROL
            self.managers[hypervisor.name] = hypervisor.start_manager(
                db=f"tcp:{address}:{DATABASE_PORT}", apps=["sgctl.agent"], ready=False
            )
        for manager in self.managers.values():
            manager.wait_ready()
        self.accounts["admin"] = first_admin(self.control.admin_file, self.desk)

    def _central(self, name: str, number: int, *options: str) -> Manager:
        namespace = self.lab.namespace(name)
        self._manage(namespace, number)
        return Manager(self.lab, namespace, name, [f"--host={name}", *options])

    @property
    def cloud(self) -> Fleet:
        """Itself: what `changes` looks for."""
        return self

    @property
    def tenant(self) -> Account:
        """The owner of the VMs that move and of their clients."""
        return self.accounts["shop"]

    def agent(self, hypervisor: Hypervisor) -> Manager:
        """The agent of a hypervisor."""
        return self.managers[hypervisor.name]

    def elsewhere(self, name: str) -> list[Hypervisor]:
        """Where a VM is not."""
        return [one for one in self.hypervisors if one is not self.mobiles[name].host]

    def settle(self, *, timeout: float = SETTLING) -> None:
        """Wait until the agents are in sync and the switches hold what is desired, nothing less and nothing more;
        and until all know where the VMs are that may move.

        Agents behind a relay cannot know that it looks for a database that is long back.
        """
        self.control.wait_ready(timeout=timeout)
        wait_for("the relay to reach the database", self._relayed, timeout=timeout, step=0.1)
        wait_in_force(*self.managers.values(), timeout=timeout)
        wait_for("each VM to be known where it is", self.placed, timeout=timeout, step=0.1)

    def _relayed(self) -> bool:
        try:
            with Talk(f"unix:{self.relay.directory}/sg.sock") as talk:
                standing = talk.standing()
        except TalkError:
            return False
        return standing is not None and standing.connected

    def placed(self) -> bool:
        """Whether the database says of each VM that may move and runs that it is where it is, and the agents agree."""
        known = self.admin.all("listVirtualMachines", "virtualmachine", listall="true")
        places = {str(vm["name"]): (vm.get("hostname"), vm["state"]) for vm in known}
        running = [self.mobiles[name] for name in MOVERS]
        return all(
            places[one.vm.name] == (one.host.name, "Running") and self.states(one.vm.name) == _expected(one)
            for one in running
            if one.host is not None
        )

    def states(self, name: str) -> dict[str, str]:
        """The states of a VM's ports by hypervisor, as the agents say."""
        found = {}
        for host, manager in self.managers.items():
            status, answer = manager.get("/admin/ports")
            for one in answer["ports"] if status == 200 else ():
                if one["vm"] == name:
                    found[host] = str(one["state"])
        return found


def _expected(mobile: Mobile) -> dict[str, str]:
    """The states that a VM's ports should have."""
    return {host: "active" if mobile.host is where else "standby" for host, (where, _) in mobile.ports.items()}


@contextmanager
def fleet(lab: Lab, *, options: Sequence[str] = ()) -> Iterator[Fleet]:
    """Build it."""
    made = Fleet(lab)
    pod = made.add_pod()
    for _ in range(HOSTS):
        made.add_hypervisor(pod)
    made.start(*options)
    made.register()
    shop = made.create_account("shop", ("web", "clients", "former", "team"))
    made.create_account("evil", ("open",))
    for group, peers in (("web", ("clients", "web")), ("clients", ("web", "clients"))):
        allow(shop, group, *OPEN, peers=[f"shop/{peer}" for peer in peers])
    allow(shop, "web", *OPEN, peers=["shop/clients", "shop/web"], egress=True)
    for number, (name, group) in enumerate((*((name, "web") for name in MOVERS), ("former", "former"))):
        _ship(made, "shop", name, number, group)
    for number, name in enumerate(CLIENTS):
        _ship(made, "shop", name, number, "clients")
    for number, name in enumerate(STRANGERS):
        _ship(made, "evil", name, number, "open")
    for name in (*MOVERS, *CLIENTS):
        for proto, port in (("tcp", 80), ("udp", 53), ("tcp", 90), ("udp", 90)):
            made.mobiles[name].vm.serve(proto, port)
    made.settle()
    yield made


def _ship(fleet: Fleet, account: str, name: str, number: int, group: str) -> None:
    """A VM on a hypervisor."""
    order = Order(fleet.accounts[account], name, fleet.hypervisors[number], fleet.pod(1), (group,))
    Mobile(fleet, order)
    fleet.wait_port(order.hypervisor, name, "active", timeout=SETTLING)


@contextmanager
def admitted(fleet: Fleet) -> Iterator[None]:
    """Meanwhile connections may be opened whose rules are gone afterwards, at both ends and in both directions."""
    shop = fleet.tenant
    ingress = allow(shop, "web", *KEPT, peers=["shop/clients", "shop/web"])
    ingress += allow(shop, "clients", *KEPT, peers=["shop/web"])
    ingress += allow(shop, "web", "tcp/80", peers=["shop/former"])
    egress = allow(shop, "web", *KEPT, peers=["shop/clients", "shop/web"], egress=True)
    fleet.settle()
    yield
    revoke(shop, ingress)
    revoke(shop, egress, egress=True)
    fleet.settle()
