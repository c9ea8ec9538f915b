# SPDX-License-Identifier: Apache-2.0
"""What a VM costs its neighbours that makes the switch look at packets in many ways: ``python -m tests.bench.kinds``.

As root. On one hypervisor (userspace datapath, whose one thread serves all ports) two VMs talk in a connection that is
there, by TCP as fast as they can and by UDP one datagram after the other, while a third opens connections at a steady
rate: none, to one address and port, or to all combinations of an address that has so many bits in common with one that
the switch knows, and a port likewise. All in turn, again and again.
"""

from __future__ import annotations

import argparse
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from statistics import median

from devstack.lab import VM, Hypervisor, Lab
from devstack.lab.hypervisor import BRIDGE as NAME
from devstack.lab.namespace import Namespace, wait_for
from flows.flow import Flow
from flows.inputs import Port
from flows.meters import meters
from flows.packet import End, Packet
from flows.tables import TABLES
from flows.text import mac
from tests.functional.test_hostile_cache import ways
from tests.unit.flow_cast import ROUTER_MAC, client, client6
from tests.unit.flow_world import BRIDGE, CLIENT, HOST, TWIN, UNITS, UPLINK, flows_of

SERVICE = {"tcp": 80, "udp": 5300}
#: A member of a group that rules name, and the port of DHCP: the switch has flows about both.  Somebody else outside.
KNOWN = {4: (ip_address("10.3.0.77"), 68), 6: (ip_address("fd00:3::77"), 547)}
ONE = {4: "203.0.113.9", 6: "2001:db8:9::9"}
NONE, ALIKE, KINDS = "nobody", "one kind", "all kinds"
WARM = 3.0
MURMUR = 100
"""Packets that a VM may send by itself meanwhile."""

#: Frames from a file, so many per second in all, for ever; each time from another port, which the payload makes up for
#: in the checksum.
SENDER = """
import socket, struct, sys, time
data, rate, port, frames, at = open(sys.argv[2], "rb").read(), int(sys.argv[3]), int(sys.argv[4]), [], 0
while at < len(data):
    (size,) = struct.unpack_from("!H", data, at)
    frames.append(bytearray(data[at + 2 : at + 2 + size]))
    at += 2 + size
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((sys.argv[1], 0))
sent, began = 0, time.monotonic()
while True:
    due = int((time.monotonic() - began) * rate)
    for number in range(sent, due):
        frame, source = frames[number % len(frames)], 1024 + number % 60000
        struct.pack_into("!H", frame, port, source)
        struct.pack_into("!H", frame, port + 8, 65535 - source)
        out.send(frame)
    sent = due
    time.sleep(0.001)
"""
#: Takes all there is by TCP, and sends back what comes by UDP.
SINK = """
import select, socket, sys
tcp, udp = socket.create_server((sys.argv[1], int(sys.argv[2]))), socket.socket(type=socket.SOCK_DGRAM)
udp.bind((sys.argv[1], int(sys.argv[3])))
print("ready", flush=True)
taken = []
while True:
    for one in select.select([tcp, udp, *taken], [], [])[0]:
        if one is tcp:
            taken.append(tcp.accept()[0])
        elif one is udp:
            udp.sendto(*udp.recvfrom(2048))
        elif not one.recv(1 << 20):
            taken.remove(one)
"""
#: For each line of input, "bulk" or "echo" and seconds: bytes by TCP, and their rate per second; or the median and 99th
#: percentile of the microseconds that a datagram takes there and back.
SOURCE = """
import socket, statistics, sys, time
tcp, udp = socket.create_connection((sys.argv[1], int(sys.argv[2]))), socket.socket(type=socket.SOCK_DGRAM)
udp.connect((sys.argv[1], int(sys.argv[3])))
udp.settimeout(1)
piece = bytes(1 << 16)
for line in sys.stdin:
    what, seconds = line.split()
    began, count, times = time.monotonic(), 0, []
    until = began + float(seconds)
    while what == "bulk" and time.monotonic() < until:
        count += tcp.send(piece)
    while what == "echo" and time.monotonic() < until:
        start = time.perf_counter()
        try:
            udp.send(b"x")
            udp.recv(64)
        except TimeoutError:
            pass
        times.append(1e6 * (time.perf_counter() - start))
    times.sort()
    if what == "bulk":
        print(count, count / (time.monotonic() - began), flush=True)
    else:
        print(statistics.median(times), times[len(times) * 99 // 100], flush=True)
"""


@dataclass(frozen=True, slots=True)
class Used:
    """What the switch has taken of a processor, in seconds, and the packets that the adversary has sent meanwhile."""

    cpu: float
    sent: int


@dataclass(frozen=True, slots=True)
class Seen:
    """quiet: while the neighbours said nothing.  bulk: while they sent so many bytes by TCP, at this rate (per second).
    middle, late: microseconds that a datagram took there and back: the median, and the 99th percentile."""

    quiet: Used
    bulk: Used
    bytes: float
    rate: float
    middle: float
    late: float


def alike(version: int) -> list[bytes]:
    """To one address outside."""
    return [_datagram(version, int(ip_address(ONE[version])), 9)]


def kinds(version: int) -> list[bytes]:
    """To addresses with ever more bits in common with one that a rule is about, and ports likewise."""
    known, port = KNOWN[version]
    bits = known.max_prefixlen
    return [_datagram(version, int(known) ^ 1 << bit, port ^ 1 << one) for bit in range(bits) for one in range(16)]


def _datagram(version: int, far: int, port: int) -> bytes:
    near, kind = (client, IPv4Address) if version == 4 else (client6, IPv6Address)
    return Packet.udp(near, End(ROUTER_MAC, kind(far)), port, sport=0, payload=b"\xff\xff").frame


class Site:
    """The hypervisor with its flows, the neighbours and the adversary."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.hypervisor = lab, Hypervisor(lab, "hv1")
        self.hypervisor.vsctl("set-fail-mode", NAME, "secure")
        self.adversary, self.twin, self.host = (self._vm(one) for one in (CLIENT, TWIN, HOST))
        self._plug(VM(lab, "router"), "02:00:00:00:aa:fe", UPLINK)
        self._fill(flows_of())
        self._daemon = int((self.hypervisor.directory / "ovs-vswitchd.pid").read_text())

    def _vm(self, port: Port) -> VM:
        vm = VM(self.lab, f"vm{port.number}")
        self._plug(vm, mac(port.mac), port.number)
        for address in port.addresses:
            vm.add_address(f"{address}/{24 if address.version == 4 else 64}")
        return vm

    def _plug(self, vm: VM, address: str, number: int) -> None:
        port = self.hypervisor.plug(vm, "", address)
        self.hypervisor.vsctl("set", "Interface", port, f"ofport_request={number}")
        wait_for("its number", lambda: self.hypervisor.ofport(port) == number)

    def _fill(self, flows: Sequence[Flow]) -> None:
        self.hypervisor.ofctl("set-frags", NAME, "nx-match")
        for table in TABLES:
            if table.prefixes:
                row = f"flow_tables:{table.id}=@t"
                fields = f"prefixes={','.join(table.prefixes)}"
                self.hypervisor.vsctl("--id=@t", "create", "Flow_Table", fields, "--", "set", "Bridge", NAME, row)
        for spec in (spec for unit in UNITS for spec in meters(unit, BRIDGE)):
            band = f"band=type=drop,rate={spec.rate},burst_size={spec.burst}"
            self.hypervisor.ofctl("add-meter", NAME, f"meter={spec.number},pktps,burst,stats,{band}")
        self.hypervisor.set_flows(*map(str, flows))

    def control(self, *command: str) -> str:
        return self.hypervisor.appctl("-t", str(self.hypervisor.directory / "ovs-vswitchd.ctl"), *command)

    def ways(self) -> int:
        """In how many ways the switch looks at the adversary's packets now."""
        lines = self.control("dpctl/dump-flows", "-m").splitlines()
        return len(ways(line for line in lines if "in_port(tap1)" in line))

    def used(self) -> Used:
        """Since they began."""
        values = Path(f"/proc/{self._daemon}/stat").read_text().rpartition(")")[2].split()
        # /sys shows the devices of whoever has mounted it, /proc those of the reader.
        counters = self.adversary.namespace.run("cat", "/proc/net/dev").partition("eth0:")[2].split()
        return Used((int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK"), int(counters[9]))

    @contextmanager
    def use(self, found: list[Used]) -> Iterator[None]:
        """What is used meanwhile."""
        before = self.used()
        yield
        after = self.used()
        found.append(Used(after.cpu - before.cpu, after.sent - before.sent))


@contextmanager
def script(namespace: Namespace, text: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python program in a VM."""
    words = [sys.executable, "-I", "-S", "-c", text, *map(str, arguments)]
    process = namespace.popen(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def sending(site: Site, frames: Sequence[bytes], rate: int) -> Iterator[None]:
    """The adversary at work, long enough for the switch to know all its packets; nothing if there are no frames."""
    site.control("revalidator/purge")
    if not frames:
        yield
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"".join(struct.pack("!H", len(frame)) + frame for frame in frames))
        file.flush()
        source = 14 + (20 if frames[0][12:14] == b"\x08\x00" else 40)
        with script(site.adversary.namespace, SENDER, "eth0", file.name, rate, source):
            time.sleep(max(WARM, 2 * len(frames) / rate))
            yield


def look(site: Site, source: subprocess.Popen[str], seconds: float) -> Seen:
    """What the neighbours have now."""
    assert source.stdin and source.stdout
    used: list[Used] = []
    with site.use(used):
        time.sleep(seconds)
    with site.use(used):
        source.stdin.write(f"bulk {seconds}\n")
        count, rate = map(float, source.stdout.readline().split())
    source.stdin.write(f"echo {seconds}\n")
    middle, late = map(float, source.stdout.readline().split())
    return Seen(*used, count, rate, middle, late)


def measure(site: Site, version: int, rate: int, *, repeat: int, seconds: float) -> None:
    """Everything in turn, and what comes out."""
    cases = {NONE: [], ALIKE: alike(version), KINDS: kinds(version)}
    found: dict[str, list[Seen]] = {name: [] for name in cases}
    counted: dict[str, int] = {}
    address = str(HOST.addresses[0])
    with script(site.host.namespace, SINK, address, *SERVICE.values()) as sink:
        assert sink.stdout and sink.stdout.readline() == "ready\n"
        with script(site.twin.namespace, SOURCE, address, *SERVICE.values()) as source:
            for _ in range(repeat):
                for name, frames in cases.items():
                    with sending(site, frames, rate):
                        counted[name] = max(site.ways(), counted.get(name, 0))
                        found[name].append(look(site, source, seconds))
    alone = found[NONE]
    for name, some in found.items():
        print(f"IPv{version} {rate:6}/s {name:10} {counted[name]:4} ways: {told(some, alone)}", flush=True)


def told(some: Sequence[Seen], alone: Sequence[Seen]) -> str:
    """What the packets of the adversary cost, and what the neighbours have of what they have alone."""
    sent = sum(one.quiet.sent for one in some)
    idle = median(one.quiet.cpu for one in alone)
    each = sum(one.quiet.cpu - idle for one in some) / sent if sent > len(some) * MURMUR else 0.0
    left = median(one.bytes / one.bulk.cpu for one in some) / median(one.bytes / one.bulk.cpu for one in alone)
    rate, middle = (median(getattr(one, name) for one in some) for name in ("rate", "middle"))
    part, longer = rate / median(one.rate for one in alone), middle / median(one.middle for one in alone)
    return (
        f"{1e6 * each:5.1f} us of the switch for each packet; neighbours: {left:.2f} of the bytes per second of the "
        f"switch's processor, {part:.2f} of those per second ({rate / 1e6:.1f} MB), {longer:.2f} of the time there and "
        f"back ({middle:.0f} us)"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="+", default=[2000, 10_000])
    parser.add_argument("--versions", type=int, nargs="+", default=[4, 6])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    with Lab() as lab:
        site = Site(lab)
        for version in options.versions:
            for rate in options.rates:
                measure(site, version, rate, repeat=options.repeat, seconds=options.seconds)


if __name__ == "__main__":
    main()
