# SPDX-License-Identifier: Apache-2.0
"""A whole cloud: a zone of pods behind a router, hypervisors with `sgctl-manager`, accounts, and VMs that boot."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, Any

from devstack.lab.api import Account, first_admin
from devstack.lab.hypervisor import Hypervisor
from devstack.lab.manager import READY_TIMEOUT, Manager
from devstack.lab.namespace import PATIENCE, Lab, Namespace, wait_for
from devstack.lab.podserver import PodServer, Reservation
from devstack.lab.segment import Router, Segment, add_addresses
from devstack.lab.vm import VM

if TYPE_CHECKING:
    from devstack.lab.mobile import Mobile

MANAGEMENT = "10.255.0"
DATABASE_PORT = 6641
API_PORT = 8080


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod: 10.N.0.0/24 and fd00:N::/64, its gateway at 1, its DHCP and DNS server at 2, NICs from 10 to 239."""

    number: int
    segment: Segment
    server: PodServer
    id: str = ""
    zone: str = ""

    @property
    def networks(self) -> tuple[str, str]:
        """Its subnets."""
        return f"10.{self.number}.0.0/24", f"fd00:{self.number}::/64"

    def holds(self, address: str) -> bool:
        """Whether `address` is one of this pod's."""
        return any(ip_address(address) in ip_network(network) for network in self.networks)


@dataclass(frozen=True, slots=True)
class Order:
    """A VM to boot: whose, where, in which groups (none: the account's default).

    With `addresses` (prefix notation, one of each IP version) it does not ask DHCP; its gateways are at 1.
    """

    account: Account
    name: str
    hypervisor: Hypervisor
    pod: Pod
    groups: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Machine:
    """A VM that runs: the cloud's ids of it and of its NIC, and the port that it is plugged into."""

    order: Order
    vm: VM
    id: str
    nic: str
    mac: str
    port: str


class Cloud:
    """Built step by step: pods and hypervisors, `start`, accounts, `boot`."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.management = Segment(lab, "mgmt")
        self.desk = lab.namespace("desk")
        self.router = Router(lab)
        self.pods: list[Pod] = []
        self.hypervisors: list[Hypervisor] = []
        self.managers: dict[str, Manager] = {}
        self.accounts: dict[str, Account] = {}
        self.machines: dict[str, Machine] = {}
        self.mobiles: dict[str, Mobile] = {}
        self._manage(self.desk, 250)

    def _manage(self, namespace: Namespace, number: int) -> None:
        self.management.connect(namespace, "mgmt0")
        add_addresses(namespace, "mgmt0", [f"{MANAGEMENT}.{number}/24"])

    def add_pod(self) -> Pod:
        """Another pod behind the router, with its DHCP and DNS server."""
        number = len(self.pods) + 1
        segment = Segment(self.lab, f"pod{number}")
        gateways = (f"10.{number}.0.1", f"fd00:{number}::1")
        self.router.connect(segment, (f"{gateways[0]}/24", f"{gateways[1]}/64"))
        self.router.advertise(segment, f"fd00:{number}::/64")
        own = (f"10.{number}.0.2/24", f"fd00:{number}::2/64")
        pod = Pod(number, segment, PodServer(self.lab, segment, own, gateways=gateways))
        self.pods.append(pod)
        return pod

    def add_hypervisor(self, *pods: Pod) -> Hypervisor:
        """Another hypervisor, on the management network and with an uplink to each of `pods`."""
        hypervisor = Hypervisor(self.lab, f"hv{len(self.hypervisors) + 1}")
        self.hypervisors.append(hypervisor)
        self._manage(hypervisor.namespace, len(self.hypervisors))
        for pod in pods:
            hypervisor.add_uplink(pod.segment, f"eth{pod.number}")
        return hypervisor

    def add_outside(self, name: str = "outside", number: int = 200) -> VM:
        """A machine of the rest of the world, on a segment of its own behind the router."""
        segment = Segment(self.lab, name)
        gateways = (f"10.{number}.0.1", f"fd00:{number}::1")
        self.router.connect(segment, (f"{gateways[0]}/24", f"{gateways[1]}/64"))
        machine = VM(self.lab, name)
        machine.join(segment)
        machine.add_address(f"10.{number}.0.9/24")
        machine.add_address(f"fd00:{number}::9/64")
        for gateway in gateways:
            machine.add_gateway(gateway)
        return machine

    def start(self, *options: str) -> None:
        """Start a manager on every hypervisor: the first, with `options`, keeps the database and serves the API."""
        first, *others = self.hypervisors
        control = f"{MANAGEMENT}.1"
        serving = first.start_manager(
            f"--api-port={API_PORT}", *options, api_host=control, db_listen=f"ptcp:{DATABASE_PORT}:{control}",
            ready=False,
        )  # fmt: skip
        self.managers[first.name] = serving
        # While the first loads its applications, the others load theirs.
        wait_for("the database", lambda: serving.alive() and self._serves_database(), timeout=READY_TIMEOUT)
        for hypervisor in others:
            self.managers[hypervisor.name] = hypervisor.start_manager(
                db=f"tcp:{control}:{DATABASE_PORT}", apps=["sgctl.agent"], ready=False
            )
        for manager in self.managers.values():
            manager.wait_ready()
        admin = first_admin(self.managers[first.name].admin_file, self.desk)
        self.accounts["admin"] = admin

    def _serves_database(self) -> bool:
        """Whether the first hypervisor does."""
        with self.desk.entered(), socket.socket() as one:
            return one.connect_ex((f"{MANAGEMENT}.1", DATABASE_PORT)) == 0

    @property
    def admin(self) -> Account:
        """The root admin."""
        return self.accounts["admin"]

    def register(self, *, zones: int = 1) -> None:
        """Tell the API of the zones, their pods and the pods' addresses; the pods take turns in the zones."""
        resolver = self.pods[0].server.addresses[0].partition("/")[0]
        known = [self._register_zone(number, resolver) for number in range(1, zones + 1)]
        for index, pod in enumerate(self.pods):
            zone = known[index % zones]
            self.pods[index] = replace(pod, id=self._register_pod(pod, zone), zone=zone)

    def _register_zone(self, number: int, resolver: str) -> str:
        answer = self.admin.call(
            "createZone", name=f"zone{number}", networktype="Basic", securitygroupenabled="true", dns1=resolver,
            internaldns1=resolver,
        )  # fmt: skip
        return str(answer["zone"]["id"])

    def _register_pod(self, pod: Pod, zone: str) -> str:
        number, own = pod.number, [address.partition("/")[0] for address in pod.server.addresses]
        subnet = {"zoneid": zone, "gateway": f"10.{number}.0.1", "netmask": "255.255.255.0"}
        answer = self.admin.call(
            "createPod", name=pod.segment.name, startip=f"10.{number}.0.3", endip=f"10.{number}.0.9", **subnet,
            dhcpservers=",".join([*own, pod.server.link_local]), dnsservers=",".join(own),
        )  # fmt: skip
        identifier = str(answer["pod"]["id"])
        common = {"podid": identifier, "vlan": "untagged", "forvirtualnetwork": "false"}
        self.admin.call(
            "createVlanIpRange", startip=f"10.{number}.0.10", endip=f"10.{number}.0.239", **common, **subnet
        )
        self.admin.call(
            "createVlanIpRange", zoneid=zone, ip6cidr=f"fd00:{number}::/64", ip6gateway=f"fd00:{number}::1",
            startipv6=f"fd00:{number}::10", endipv6=f"fd00:{number}::ffff", **common,
        )  # fmt: skip
        return identifier

    def pod(self, number: int) -> Pod:
        """A registered pod."""
        return self.pods[number - 1]

    def create_account(self, name: str, groups: Iterable[str] = ()) -> Account:
        """A tenant with keys and security groups."""
        created = self.admin.call(
            "createAccount", accounttype="0", account=name, username=name, password=name, firstname=name, lastname=name,
            email=f"{name}@example.org",
        )["account"]  # fmt: skip
        keys = self.admin.call("registerUserKeys", id=str(created["user"][0]["id"]))["userkeys"]
        access = replace(self.admin.access, key=str(keys["apikey"]), secret=str(keys["secretkey"]))
        account = Account(name, access, self.desk)
        for group in groups:
            account.call("createSecurityGroup", name=group)
        self.accounts[name] = account
        return account

    def boot(self, orders: Sequence[Order]) -> list[Machine]:
        """Deploy VMs, plug them in, and wait until each has an IPv4 and an IPv6 address and gateway."""
        deployed = [self.deploy(order) for order in orders]
        self.reserve()
        machines = [self._plug(order, answer) for order, answer in zip(orders, deployed, strict=True)]
        asking = [machine.vm for machine in machines if not machine.order.addresses]
        for vm in asking:
            vm.start_dhcp()
            vm.start_dhcp6()
        for vm in asking:
            vm.finish_dhcp()
            vm.finish_dhcp6()
            vm.wait_for_gateway6()
        self.machines |= {machine.vm.name: machine for machine in machines}
        return machines

    def deploy(self, order: Order) -> dict[str, Any]:
        """Have a VM made, which nobody runs yet; the API's answer."""
        offering = str(order.account.all("listServiceOfferings", "serviceoffering")[0]["id"])
        template = str(order.account.all("listTemplates", "template", templatefilter="executable")[0]["id"])
        chosen = {"securitygroupnames": ",".join(order.groups)} if order.groups else {}
        for address in map(ip_interface, order.addresses):
            chosen["ip6address" if address.version == 6 else "ipaddress"] = str(address.ip)
        answer = order.account.call(
            "deployVirtualMachine", zoneid=order.pod.zone, podid=order.pod.id, name=order.name,
            serviceofferingid=offering, templateid=template, **chosen,
        )  # fmt: skip
        return dict(answer["virtualmachine"])

    def _plug(self, order: Order, answer: dict[str, Any]) -> Machine:
        vm = VM(self.lab, order.name)
        vm.wake()
        nic = answer["nic"][0]
        port = order.hypervisor.plug(vm, str(nic["id"]), str(nic["macaddress"]))
        for address in order.addresses:
            vm.add_address(address)
            vm.add_gateway(str(ip_interface(address).network.network_address + 1))
        return Machine(order, vm, str(answer["id"]), str(nic["id"]), str(nic["macaddress"]), port)

    def reserve(self) -> None:
        """Give each pod's server its NICs and all names that the API knows, as an orchestrator does."""
        known = [
            Reservation(str(vm["name"]), str(nic["macaddress"]), tuple(
                str(nic[key]) for key in ("ipaddress", "ip6address") if nic.get(key)
            ))
            for vm in self.admin.all("listVirtualMachines", "virtualmachine", listall="true")
            for nic in vm["nic"]
        ]  # fmt: skip
        for pod in self.pods:
            pod.server.reserve([one for one in known if pod.holds(one.addresses[0])], named=known)

    def wait_running(self, machines: Iterable[Machine], *, timeout: float = PATIENCE) -> None:
        """Wait until the API says of every VM that it runs, on the right host."""
        expected = {machine.id: machine.order.hypervisor.name for machine in machines}

        def running() -> bool:
            known = {vm["id"]: vm for vm in self.admin.all("listVirtualMachines", "virtualmachine", listall="true")}
            return all(
                known[vm]["state"] == "Running" and known[vm].get("hostname") == host for vm, host in expected.items()
            )

        wait_for("all VMs Running", running, timeout=timeout, step=0.2)

    def wait_port(self, hypervisor: Hypervisor, vm: str, state: str, *, timeout: float = PATIENCE) -> None:
        """Wait until the port of a VM on a hypervisor is in this state, as its agent says."""

        def reached() -> bool:
            status, answer = self.managers[hypervisor.name].get("/admin/ports")
            return status == 200 and any(one["vm"] == vm and one["state"] == state for one in answer["ports"])

        wait_for(f"{vm} {state} on {hypervisor.name}", reached, timeout=timeout)
