# SPDX-License-Identifier: Apache-2.0
"""A VM: a namespace with a network card, a DHCP client and an agent that sends and receives for it."""

import base64
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path

from devstack.lab.agent import PROBE_TIMEOUT, PROBE_TRIES, RESOLVE_TIMEOUT, Guest, Sniffer, Stream, probe_request
from devstack.lab.namespace import CommandFailed, Lab, checked_name, wait_for
from devstack.lab.segment import Segment, add_addresses, add_gateways

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Lease:
    """What the DHCP server gave: address in prefix notation, gateway, DNS server (each may be empty)."""

    address: str
    gateway: str
    dns: str


class VM:
    """A namespace that plays a VM. `Hypervisor.plug` gives it `eth0`; any process in it is the tenant's."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.name = checked_name(name)
        self.namespace = lab.namespace(name)
        self.directory = lab.subdirectory(name)
        self.addresses: list[str] = []
        self._guest: Guest | None = None
        self._clients: dict[str, subprocess.Popen[bytes]] = {}

    def __repr__(self) -> str:
        return f"<VM {self.name}>"

    def join(self, segment: Segment, *, device: str = "eth0", mac: str | None = None) -> None:
        """Be a machine on the physical network instead, behind no hypervisor."""
        segment.connect(self.namespace, device, mac=mac)

    @property
    def guest(self) -> Guest:
        """The agent in this VM, started when first needed, or by `wake`."""
        return self.wake()

    def wake(self) -> Guest:
        """Start the agent, which takes a moment, before anybody waits for it."""
        if self._guest is None:
            self._guest = Guest(self.namespace)
        return self._guest

    def address(self, version: int = 4) -> str:
        """The first address of that IP version, without its prefix length; LookupError if there is none."""
        for address in self.addresses:
            if (interface := ip_interface(address)).version == version:
                return str(interface.ip)
        raise LookupError(f"{self.name} has no IPv{version} address")

    def add_address(self, address: str, *, device: str = "eth0") -> None:
        """Use `address` (prefix notation) as the guest's administrator would; nobody is asked."""
        add_addresses(self.namespace, device, [address])
        self.addresses.append(address)

    def remove_address(self, address: str, *, device: str = "eth0") -> None:
        """Stop using it."""
        self.namespace.ip(f"address del {address} dev {device}")
        self.addresses.remove(address)

    def add_gateway(self, gateway: str) -> None:
        """Send what is not local to `gateway`."""
        add_gateways(self.namespace, [gateway])

    def start_dhcp(self, *, device: str = "eth0", seconds: int = 30) -> None:
        """Start a DHCPv4 client (busybox), which tries for `seconds`; `finish_dhcp` takes its lease."""
        self._start(
            "dhcp4", device, ["busybox", "udhcpc", "-f", "-q", "-n", "-t", str(seconds), "-T", "1", "-i", device,
            "-s", str(HERE / "udhcpc.sh")],
        )  # fmt: skip

    def wait_for_link_local(self, *, device: str = "eth0") -> None:
        """Wait until duplicate address detection has passed the link-local address (1-2 s after plugging)."""

        def usable() -> bool:
            text = self.exec("ip", "-6", "address", "show", "dev", device, "scope", "link")
            return "inet6" in text and "tentative" not in text

        wait_for(f"{self.name}: link-local address", usable, step=0.1)

    def wait_for_gateway6(self) -> None:
        """Wait until a router advertisement has given the VM an IPv6 gateway."""
        wait_for(f"{self.name}: IPv6 gateway", lambda: self.exec("ip", "-6", "route", "show", "default"), step=0.1)

    def start_dhcp6(self, *, device: str = "eth0") -> None:
        """Start a DHCPv6 client (ISC dhclient) with a DUID made of its MAC; `finish_dhcp6` takes its lease."""
        self.wait_for_link_local(device=device)
        leases = self.directory / f"dhclient6.{device}.leases"
        leases.touch()
        self._start(
            "dhcp6", device, ["dhclient", "-6", "-1", "-d", "-D", "LL", "--no-pid", "-lf", str(leases),
            "-e", f"LEASE={self._lease_file('dhcp6', device)}", "-sf", str(HERE / "dhclient6.sh"), device],
        )  # fmt: skip

    def _start(self, kind: str, device: str, command: list[str]) -> None:
        self._clients[kind + device] = self.namespace.popen(
            *command, env={**os.environ, "LEASE": str(self._lease_file(kind, device))},
            stdout=self._log_file(kind, device).open("w"), stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def _lease_file(self, kind: str, device: str) -> Path:
        return self.directory / f"{kind}.{device}"

    def _log_file(self, kind: str, device: str) -> Path:
        return self.directory / f"{kind}.{device}.log"

    def _take_lease(self, kind: str, device: str, seconds: float) -> Lease:
        """The lease that the client has configured; CommandFailed with its words if it has given up."""
        client = self._clients[kind + device]
        file = self._lease_file(kind, device)

        def ended() -> bool:
            return client.poll() is not None or file.exists()

        try:
            wait_for(f"{self.name}: {kind}", ended, timeout=seconds)
            lease = Lease(*file.read_text().split("\n")[:3])
        except (TimeoutError, FileNotFoundError) as error:
            raise CommandFailed(f"{self.name}: no lease\n{self._log_file(kind, device).read_text()}") from error
        self.addresses.append(lease.address)
        return lease

    def finish_dhcp(self, *, device: str = "eth0", seconds: float = 40.0) -> Lease:
        """The DHCPv4 lease, waited for; CommandFailed with the client's words if it got none."""
        return self._take_lease("dhcp4", device, seconds)

    def finish_dhcp6(self, *, device: str = "eth0", seconds: float = 40.0) -> Lease:
        """The DHCPv6 lease, waited for; CommandFailed with the client's words if it got none."""
        return self._take_lease("dhcp6", device, seconds)

    def dhcp(self, *, device: str = "eth0", seconds: int = 30) -> Lease:
        """Get an address as a booting guest does."""
        self.start_dhcp(device=device, seconds=seconds)
        return self.finish_dhcp(device=device)

    def serve(self, proto: str, port: int) -> None:
        """Echo on a tcp or udp port from now on."""
        self.guest.call("serve", proto=proto, port=port)

    def probe(
        self, proto: str, address: str, port: int = 0, *,
        timeout: float = PROBE_TIMEOUT, size: int = 32, source_port: int = 0, tries: int = PROBE_TRIES,
    ) -> str:  # fmt: skip
        """Try an exchange of `size` bytes: open, refused, reset, unreachable or timeout. `proto`: tcp, udp, icmp."""
        return str(self.guest.call("probe", **probe_request(
            proto, address, port, timeout=timeout, size=size, source_port=source_port, tries=tries,
        )))  # fmt: skip

    def ping(self, address: str, *, timeout: float = PROBE_TIMEOUT, size: int = 32, tries: int = PROBE_TRIES) -> bool:
        """Whether an echo comes back."""
        return self.probe("icmp", address, timeout=timeout, size=size, tries=tries) == "open"

    def resolve(
        self, server: str, name: str, *, kind: str = "A", proto: str = "udp", timeout: float = RESOLVE_TIMEOUT
    ) -> list[str]:
        """The A or AAAA records of `name`, asked of `server`; GuestError if it does not answer."""
        found = self.guest.call("resolve", server=server, name=name, kind=kind, proto=proto, timeout=timeout)
        return [str(address) for address in found]

    def stream(
        self, proto: str, address: str, port: int = 0, *,
        interval: float = 0.01, timeout: float = 30.0, source_port: int = 0,
    ) -> Stream:  # fmt: skip
        """Start a conversation that sends something every `interval` seconds."""
        number = self.guest.call(
            "stream", proto=proto, address=address, port=port, interval=interval, timeout=timeout,
            source_port=source_port,
        )  # fmt: skip
        return Stream(self.guest, number)

    def sniff(self, *, device: str = "eth0", promiscuous: bool = True, only: bytes = b"") -> Sniffer:
        """Keep what arrives at `device` from now on and holds the bytes `only`."""
        return self.guest.sniff(device, promiscuous=promiscuous, only=only)

    def send(self, frames: Iterable[bytes], *, device: str = "eth0", interval: float = 0.0) -> None:
        """Send raw Ethernet frames (``bytes(packet)`` of scapy's)."""
        encoded = [base64.b64encode(bytes(frame)).decode() for frame in frames]
        self.guest.call("send", device=device, frames=encoded, interval=interval)

    def exec(self, *argv: str | Path, env: Mapping[str, str] | None = None, timeout: float = 30.0) -> str:
        """The output of a command in the VM."""
        return self.namespace.run(*argv, env=env, timeout=timeout)

    def close(self) -> None:
        """The VM is destroyed, with all that runs in it."""
        if self._guest is not None:
            self._guest.close()
        self.namespace.close()
