# SPDX-License-Identifier: Apache-2.0
"""Packets and new connections per second of one core: flows of a real agent beside pipelines written by hand.

python -m tests.bench.rates --fetch                       once: unpack Debian's DPDK build of Open vSwitch
python -m tests.bench.rates [--quick] [--repeat K] [--output FILE.json]

See PACKETS.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from statistics import median
from uuid import NAMESPACE_OID, uuid5

from flows import frames
from flows.packet import End
from sgctl.model import Address, Nic, member_id
from sgctl.store import Change, Database, Insert, Update
from tests.bench.cloud import GROUP_PORT, Machine, Size
from tests.bench.dpdk import DpdkSwitch, Load, default_root, fetch
from tests.bench.hypervisor import BRIDGE, PATIENCE, UPLINK
from tests.bench.shapes import Pair, one_pass, two_zones
from tests.bench.system import System
from tests.functional.vswitch_sandbox import eventually

SIZE = Size(ports=20, rules=20, members=1000)
CLIENT, SERVER = Machine("near", 0), Machine("near", 1)
ROUTER = 0x02FF00000001
SERVICE = 80
LEAST = 60
"""Bytes of a frame, its check sequence left out."""
WARM, SETTLE, LONG = 1.0, 0.3, 1.0
"""Seconds until all connections are there, then until the cache holds what they need, and of a measurement."""
OPENED, SLOW = 50_000, 10_000
"""New connections that are opened, with and without cached flows."""
LOST = 1000
MOST = 0.95
"""Of them, that must get there: a busy switch loses some of its feed before it counts them."""
OURS, FLOOR, ZONES = "sgctl", "one pass", "two zones"
Shape = Callable[[Pair], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Agent:
    """What a real agent has put into its switch, as ovs-ofctl lines, and the OpenFlow numbers of ports."""

    flows: tuple[str, ...]
    meters: tuple[str, ...]
    numbers: dict[str, int]


def address6(machine: Machine) -> str:
    """The IPv6 address that a machine gets here."""
    return f"fd00:10::{machine.number + 0x10:x}"


def agent() -> Agent:
    """Start everything, let an agent fill a switch, and read that back."""
    with System() as system:
        system.prepare(SIZE, 0)
        system.ports.plug({UPLINK: {"sgctl-role": "uplink"}})
        near = [Machine("near", number) for number in range(SIZE.ports)]
        system.plug(*near)
        system.ports.wait_numbered([machine.name for machine in near])
        system.cold(SIZE)()
        with Database(system.server.remote) as database:
            for machine in (CLIENT, SERVER):
                database.write(_address6(system, machine), deadline=PATIENCE)
        for proto in ("tcp", "udp"):
            for source in ("0.0.0.0/0", "::/0"):
                system.call(
                    "authorizeSecurityGroupIngress", securitygroupname="web", protocol=proto, startport=str(SERVICE),
                    endport=str(SERVICE), cidrlist=source,
                )  # fmt: skip
        system.start_agent()
        want = f"ipv6_src={address6(SERVER)}"
        eventually(lambda: want in system.sandbox.ofctl("dump-flows", BRIDGE), 60)
        lines = system.sandbox.ofctl("dump-flows", BRIDGE, "--no-stats", "--no-names").splitlines()
        meters = system.sandbox.ofctl("dump-meters", BRIDGE).splitlines()
        numbers = {str(one["name"]): int(one["ofport"]) for one in system.ports.interfaces()}
    return Agent(tuple(line.strip() for line in lines if "actions=" in line), tuple(_meters(meters)), numbers)


def _address6(system: System, machine: Machine) -> list[Change]:
    text, group = address6(machine), system.place.groups["web"]
    address = Address(id=str(uuid5(NAMESPACE_OID, f"bench address {text}")), address=text, nic=machine.nic)
    member = replace(machine.member(system.place, "web"), id=member_id(group, text), address=text)
    both = frozenset({machine.address, text})
    return [Insert(address), Insert(member), Update(Nic, machine.nic, {"addresses": both})]


def _meters(lines: Sequence[str]) -> Iterator[str]:
    """Meters that cost what they cost and never drop: what one port may use is not what is measured."""
    words = " ".join(line.strip() for line in lines)
    for number, rest in re.findall(r"meter=(\d+) (.*?)(?=meter=|$)", words):
        kind = "pktps" if "pktps" in rest else "kbps"
        yield f"meter={number},{kind},burst,stats,bands=type=drop,rate=100000000,burst_size=100000000"


def pair(of: Agent, version: int, proto: str) -> Pair:
    """The client and the server of a case."""
    client, server = (End.of(one.mac, one.address if version == 4 else address6(one)) for one in (CLIENT, SERVER))
    return Pair(client, server, of.numbers[CLIENT.name], of.numbers[SERVER.name], SERVICE, proto)


def frame(a: End, b: End, proto: str, sport: int, dport: int, flags: str = "PA") -> bytes:
    """A smallest frame; TCP's repeats the same bytes of a connection, within any window."""
    ends = (a.ip, b.ip, sport, dport)
    number, payload = (frames.TCP, frames.tcp(*ends, flags)) if proto == "tcp" else (frames.UDP, frames.udp(*ends))
    return frames.ethernet(b.mac, a.mac, *frames.ip(a.ip, b.ip, number, payload)).ljust(LEAST, b"\0")


def conversation(of: Pair, connections: int) -> dict[int, list[bytes]]:
    """Both directions of so many connections."""
    ports = range(1024, 1024 + connections)
    there = [frame(of.client, of.server, of.proto, port, of.service) for port in ports]
    back = [frame(of.server, of.client, of.proto, of.service, port) for port in ports]
    return {of.client_port: there, of.server_port: back}


def population(of: Agent, clients: int) -> dict[int, list[bytes]]:
    """Members of a group elsewhere, one connection each, and the server's answers."""
    server = End.of(SERVER.mac, SERVER.address)
    far = [End(ROUTER, ip_address(Machine("far", number).address)) for number in range(clients)]
    return {
        of.numbers[UPLINK]: [frame(one, server, "tcp", 40000, GROUP_PORT) for one in far],
        of.numbers[SERVER.name]: [frame(server, one, "tcp", GROUP_PORT, 40000) for one in far],
    }


def opening(of: Pair, connections: int) -> dict[int, list[bytes]]:
    """First packets of so many connections, each from another port; the first one's again and again at the beginning,
    for the switch loses some when a port comes up."""
    ports = [*[1024] * LOST, *range(1025, 1024 + connections)]
    opens = [frame(of.client, of.server, of.proto, port, of.service, "S") for port in ports]
    return {of.client_port: opens, of.server_port: []}


@dataclass(frozen=True, slots=True)
class Result:
    """One measurement: what one core does per second, and what it then holds.

    sent: packets that left per packet that came.
    """

    case: str
    connections: int
    shape: str
    rate: float
    cycles: float
    megaflows: int
    entries: int
    upcalls: int
    sent: float

    def __str__(self) -> str:
        return (
            f"{self.case:26}{self.connections:6} {self.shape:10}{self.rate / 1e6:7.3f} M/s {self.cycles:8.0f} cycles "
            f"{self.megaflows:6} megaflows {self.entries:6} entries {self.upcalls:6} upcalls {self.sent:.2f} sent"
        )


class Bench:
    """Runs cases and keeps what came out."""

    def __init__(self, switch: DpdkSwitch, of: Agent) -> None:
        self.switch, self.agent = switch, of
        self.found: list[Result] = []
        self._hertz = switch.hertz()
        agents: Shape = lambda _: of.flows  # noqa: E731
        self._shapes = {OURS: (agents, of.meters), FLOOR: (one_pass, ()), ZONES: (two_zones, ())}

    def established(self, version: int, proto: str, connections: int) -> None:
        """Packets per second in connections that are there."""
        of = pair(self.agent, version, proto)
        traffic = conversation(of, connections)
        for name, (shape, meters) in self._shapes.items():
            self.switch.load(shape(of), meters)
            self._flow(f"established {proto}/IPv{version}", name, connections, traffic)

    def members(self, clients: int) -> None:
        """Packets per second between a group's members elsewhere and a VM."""
        self.switch.load(self.agent.flows, self.agent.meters)
        self._flow("members elsewhere", OURS, clients, population(self.agent, clients))

    def _flow(self, case: str, shape: str, connections: int, traffic: dict[int, list[bytes]]) -> None:
        with self.switch.ports(traffic):
            time.sleep(WARM)
            self.switch.appctl("revalidator/purge")
            time.sleep(SETTLE)
            self._note(case, shape, connections, self.switch.measure(LONG))

    def opened(self, version: int, proto: str, connections: int, *, cached: bool) -> None:
        """New connections per second."""
        of = pair(self.agent, version, proto)
        case = f"opened {proto}/IPv{version}" + ("" if cached else ", no cache")
        for name, (shape, meters) in self._shapes.items():
            self.switch.load(shape(of), meters)
            if cached:
                with self.switch.ports(opening(of, 100), once=True):
                    eventually(lambda: self.switch.connections() >= 100)
                self.switch.appctl("dpctl/flush-conntrack")
            else:
                self.switch.appctl("upcall/disable-megaflows")
            try:
                self._open(case, name, of, connections)
            finally:
                self.switch.appctl("upcall/enable-megaflows")

    def _open(self, case: str, shape: str, of: Pair, connections: int) -> None:
        zones = 2 if shape == ZONES else 1
        with self.switch.ports(opening(of, connections), once=True):
            self._wait_opened(round(MOST * zones * connections))
            self._note(case, shape, connections, self.switch.so_far())

    def _wait_opened(self, least: int) -> None:
        """Wait until at least so many connections are there, and no more come."""
        seen = 0

        def over() -> bool:
            nonlocal seen
            before, seen = seen, self.switch.connections()
            return before == seen >= least

        eventually(over, 60)

    def _note(self, case: str, shape: str, connections: int, load: Load) -> None:
        result = Result(
            case, connections, shape, self._hertz / load.cycles, load.cycles, len(self.switch.megaflows()),
            self.switch.connections(), load.upcalls, load.sent / load.received,
        )  # fmt: skip
        self.found.append(result)
        print(result, flush=True)


def table(found: Sequence[Result]) -> Iterator[str]:
    """Medians in million per second, and of the ratios of measurements made one after the other; in Markdown."""
    yield f"| case | connections | {OURS} | {FLOOR} | {ZONES} | {OURS} / {FLOOR} | {OURS} / {ZONES} | megaflows |"
    yield "|---|---|---|---|---|---|---|---|"
    for case, connections in dict.fromkeys((one.case, one.connections) for one in found):
        rows = [one for one in found if (one.case, one.connections) == (case, connections)]
        rates = {name: [one.rate / 1e6 for one in rows if one.shape == name] for name in (OURS, FLOOR, ZONES)}
        middle = {name: median(some) for name, some in rates.items() if some}
        shown = [f"{middle[name]:.3f}" if name in middle else "" for name in rates]
        ratios = [_ratio(rates[OURS], rates[name]) for name in (FLOOR, ZONES)]
        most = max(one.megaflows for one in rows if one.shape == OURS)
        yield f"| {case} | {connections} | {' | '.join(shown)} | {' | '.join(ratios)} | {most} |"


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    return f"{median(one / other for one, other in zip(ours, theirs, strict=True)):.2f}" if theirs else ""


def run(bench: Bench, *, quick: bool) -> None:
    """All cases."""
    for proto in ("udp", "tcp"):
        for version in (4, 6):
            for connections in (1000,) if quick else (1, 1000, 10_000):
                bench.established(version, proto, connections)
    bench.members(SIZE.members)
    for proto in ("udp", "tcp"):
        for version in (4, 6):
            bench.opened(version, proto, OPENED, cached=True)
        bench.opened(4, proto, SLOW, cached=False)


def main() -> None:
    """Measure, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fetch", action="store_true", help="unpack the DPDK build below --root first")
    parser.add_argument("--root", type=Path, default=default_root())
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="1000 connections only")
    parser.add_argument("--output", type=Path, help="also write the rows there")
    options = parser.parse_args()
    if options.fetch:
        fetch(options.root)
    filled = agent()
    print(f"{len(filled.flows)} flows of a real agent", flush=True)
    with DpdkSwitch(options.root) as switch:
        bench = Bench(switch, filled)
        for _ in range(options.repeat):
            run(bench, quick=options.quick)
    print("\n".join(table(bench.found)))
    if options.output:
        options.output.write_text(json.dumps([asdict(one) for one in bench.found], indent=1) + "\n")


if __name__ == "__main__":
    main()
