# SPDX-License-Identifier: Apache-2.0
"""The DHCP and DNS server of a pod: dnsmasq in a namespace of its own, told of each NIC."""

import signal
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_interface

from devstack.lab.namespace import Lab, checked_name, wait_for
from devstack.lab.segment import Segment, add_addresses, add_gateways, skip_duplicate_detection

DOMAIN = "lab"
LEASE_TIME = "1h"
SERVER_MAC = "02:53:00:00:00:02"


def link_local(mac: str) -> str:
    """The IPv6 address that an interface with this MAC makes itself (EUI-64)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + identifier))


@dataclass(frozen=True, slots=True)
class Reservation:
    """What the server knows of a NIC; the addresses carry no prefix length."""

    name: str
    mac: str
    addresses: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse whatever could become a line of its own in dnsmasq's files."""
        checked_name(self.name)
        if len(bytes.fromhex(self.mac.replace(":", ""))) != 6:
            raise ValueError(f"{self.mac!r} is not a MAC")
        for address in self.addresses:
            ip_address(address)

    def dhcp_host(self) -> str:
        """The line for dnsmasq's --dhcp-hostsfile."""
        addresses = [f"[{address}]" if ":" in address else address for address in self.addresses]
        return ",".join([self.mac, *addresses, self.name])

    def hosts(self) -> list[str]:
        """The lines for a hosts file."""
        return [f"{address} {self.name}.{DOMAIN} {self.name}" for address in self.addresses]


class PodServer:
    """dnsmasq with static leases only, authoritative for its pod, without an upstream resolver."""

    def __init__(
        self, lab: Lab, segment: Segment, addresses: Iterable[str], *, gateways: Iterable[str], mac: str = SERVER_MAC
    ) -> None:
        """Serve on `addresses` (prefix notation); `gateways` are the pod's router's, only the IPv4 one is announced."""
        self.addresses = tuple(addresses)
        self.link_local = link_local(mac)
        self.namespace = lab.namespace(f"dns-{segment.name}")
        self.directory = lab.subdirectory(f"dns-{segment.name}")
        self.log = self.directory / "dnsmasq.log"
        skip_duplicate_detection(self.namespace)
        segment.connect(self.namespace, "eth0", mac=mac)
        add_addresses(self.namespace, "eth0", self.addresses)
        add_gateways(self.namespace, gateways)
        self._write([], [])
        (self.directory / "dnsmasq.conf").write_text("\n".join(self._settings(list(gateways))) + "\n")
        self._process = self._start()

    def _settings(self, gateways: list[str]) -> list[str]:
        own = [ip_interface(address) for address in self.addresses]
        lines = [
            "interface=eth0", "except-interface=lo", "bind-interfaces", "user=root", "no-resolv", "no-hosts", "no-ping",
            "dhcp-authoritative", "log-facility=-", "pid-file=", "dhcp-lease-max=10000",
            f"local=/{DOMAIN}/", f"domain={DOMAIN}",
            f"addn-hosts={self.directory}/hosts", f"dhcp-hostsfile={self.directory}/reservations",
            f"dhcp-leasefile={self.directory}/leases",
        ]  # fmt: skip
        lines += [f"dhcp-option=option:router,{gateway}" for gateway in gateways if ":" not in gateway]
        for interface in own:
            network = interface.network
            if interface.version == 4:
                lines.append(f"dhcp-range={network.network_address},static,{network.netmask},{LEASE_TIME}")
                lines.append(f"dhcp-option=option:dns-server,{interface.ip}")
            else:
                lines.append(f"dhcp-range={network.network_address},static,{network.prefixlen},{LEASE_TIME}")
                lines.append(f"dhcp-option=option6:dns-server,[{interface.ip}]")
        return lines

    def _start(self) -> subprocess.Popen[str]:
        with self.log.open("w") as log:
            process = self.namespace.popen(
                "dnsmasq", "--no-daemon", f"--conf-file={self.directory}/dnsmasq.conf",
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

        def serving() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"dnsmasq has ended:\n{self.log.read_text()}")
            return "read " in self.log.read_text()

        wait_for(f"{self.namespace.name}: dnsmasq", serving)
        return process

    def _write(self, reservations: Sequence[Reservation], named: Sequence[Reservation]) -> None:
        (self.directory / "reservations").write_text("".join(f"{one.dhcp_host()}\n" for one in reservations))
        (self.directory / "hosts").write_text("".join(f"{line}\n" for one in named for line in one.hosts()))

    def reserve(self, reservations: Sequence[Reservation], *, named: Sequence[Reservation] | None = None) -> None:
        """Know exactly these NICs from now on, and the names of `named` (if not the same); returns when it does."""
        before = self.log.read_text().count("read ")
        self._write(reservations, reservations if named is None else named)
        self._process.send_signal(signal.SIGHUP)
        wait_for("dnsmasq reads its files", lambda: self.log.read_text().count("read ") >= before + 2)
