# SPDX-License-Identifier: Apache-2.0
"""A VM that can be plugged into several hypervisors at once, and runs on one of them: what live migration looks like.

Its network card ends in a namespace of its own, `wire`, on a Linux bridge with two legs: the card, and the tap of the
hypervisor where the VM runs. The other hypervisors' taps end there too, and hang loose. So the VM keeps its addresses,
connections and processes when it moves, and the new port exists long before, as libvirt makes it.
"""

import socket
from ipaddress import ip_interface

from devstack.lab.cloud import Cloud, Machine, Order
from devstack.lab.hypervisor import BRIDGE, Hypervisor
from devstack.lab.namespace import CommandFailed
from devstack.lab.segment import wire
from devstack.lab.vm import VM

RARP = 0x8035


class Mobile:
    """The mover of one VM; `machine` is the VM as the cloud knows it."""

    def __init__(self, cloud: Cloud, order: Order) -> None:
        """Have the VM made, plugged into the hypervisor of the order, and run there with its addresses."""
        self.cloud = cloud
        answer = cloud.deploy(order)
        card = answer["nic"][0]
        self.vm = VM(cloud.lab, order.name)
        self.vm.wake()
        self.mac = str(card["macaddress"])
        self.nic = str(card["id"])
        self.wires = cloud.lab.namespace(f"{order.name}-w"[-12:].lstrip("-"))
        self.wires.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
        self.wires.ip("link add bridge type bridge forward_delay 0 mcast_snooping 0", "link set bridge up")
        wire(self.vm.namespace, "eth0", self.wires, "card", mac=self.mac, far_quiet=True)
        self.wires.ip("link set card master bridge")
        self.ports: dict[str, tuple[Hypervisor, str]] = {}
        self.host: Hypervisor | None = None
        self._made = 0
        port = self.plug(order.hypervisor)
        self.machine = Machine(order, self.vm, str(answer["id"]), self.nic, self.mac, port)
        cloud.machines[order.name] = self.machine
        cloud.mobiles[order.name] = self
        self.run_on(order.hypervisor)
        self._configure(str(card["ipaddress"]), str(card.get("ip6address") or ""), order.pod.number)

    def _configure(self, address: str, address6: str, pod: int) -> None:
        addresses = [f"{address}/24", *([f"{address6}/64"] if address6 else [])]
        for one in addresses:
            self.vm.add_address(one)
            self.vm.add_gateway(str(ip_interface(one).network.network_address + 1))

    def plug(self, hypervisor: Hypervisor) -> str:
        """Make a port for the VM on a hypervisor, in which it does not run yet; the port's name."""
        self._made += 1
        port = f"{self.vm.name[:8]}t{self._made}"
        wire(self.wires, hypervisor.name, hypervisor.namespace, port, quiet=True, far_quiet=True)
        settings = {"iface-id": self.nic, "attached-mac": self.mac, "iface-status": "active", "vm-name": self.vm.name}
        hypervisor.vsctl(
            "add-port", BRIDGE, port, "--", "set", "Interface", port,
            *(f'external_ids:{name}="{value}"' for name, value in settings.items()),
        )  # fmt: skip
        self.ports[hypervisor.name] = (hypervisor, port)
        return port

    def unplug(self, hypervisor: Hypervisor) -> None:
        """Remove the VM's port from a hypervisor."""
        _, port = self.ports.pop(hypervisor.name)
        hypervisor.unplug(port)
        if self.host is hypervisor:
            self.host = None

    def lose(self, hypervisor: Hypervisor) -> None:
        """The hypervisor is gone, and the port with it."""
        self.ports.pop(hypervisor.name)
        self.wires.ip(f"link set {hypervisor.name} nomaster")
        self.host = None

    def run_on(self, hypervisor: Hypervisor, *, announce: bool = True) -> None:
        """Let the VM run on a hypervisor that has a port for it; QEMU would announce it with RARPs."""
        old = [f"link set {self.host.name} nomaster"] if self.host is not None else []
        self.wires.ip(*old, f"link set {hypervisor.name} master bridge")
        self.host = hypervisor
        if announce:
            self.announce()

    def announce(self) -> None:
        """Send the RARP with which QEMU says where a guest runs now."""
        if self.host is None:
            raise CommandFailed(f"{self.vm.name} does not run")
        mac = bytes.fromhex(self.mac.replace(":", ""))
        body = b"\0\x01\x08\0\x06\x04\0\x03" + mac + bytes(4) + mac + bytes(4)
        with self.wires.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind((self.host.name, 0))
            sender.send((b"\xff" * 6 + mac + RARP.to_bytes(2, "big") + body).ljust(60, b"\0"))

    def migrate(self, hypervisor: Hypervisor, *, wait: bool = True) -> None:
        """A whole live migration: the port appears, the VM moves, the old port goes."""
        old = self.host
        if hypervisor.name not in self.ports:
            self.plug(hypervisor)
        if wait:
            self.cloud.wait_port(hypervisor, self.vm.name, "standby")
        self.run_on(hypervisor)
        if old is not None and old is not hypervisor:
            self.cloud.wait_port(hypervisor, self.vm.name, "active")
            self.unplug(old)
