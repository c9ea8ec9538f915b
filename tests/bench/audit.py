# SPDX-License-Identifier: Apache-2.0
"""No figure is met by skipping work: the flows that were timed are the right ones.

- From the rows of the database and the ports of the switch all flows are computed anew, in this process, and compared
  with those in the switch by ovs-ofctl: none is missing, superfluous or different.
- Random packets get, from the packet walker on these flows, the verdict that the rules promise: `trace_oracle` knows
  nothing of flows.  The switch's own ofproto/trace takes the same tables and flows.
- Random packets from the uplink reach the VMs on whose wires the benchmark listens, or not, as promised.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from flows.flow import Flow
from flows.inputs import Bridge, Limits
from flows.learned import LEARNED
from flows.packet import End, Packet
from flows.pipeline import build
from flows.trace import Switch
from sgctl.agent.gather import CONCERNS, Reader
from sgctl.config import OPTIONS
from sgctl.localport import LocalPort
from sgctl.policy import decide
from sgctl.protection import limit
from sgctl.reconcile import Compiler
from sgctl.store import Replica
from tests.bench import packets
from tests.bench.cloud import CIDR_PORT, GROUP_PORT, NEAR, PODS, Machine, Size, cidr
from tests.bench.hypervisor import BRIDGE, UPLINK, Hypervisor
from tests.functional.dummyswitch import Control, traced_by, traced_in
from tests.unit.trace_cloud import Cloud, Guest, Spec, packet
from tests.unit.trace_oracle import may_open

WALKED, TRACED, SENT = 300, 40, 100
ROUTER = 0x0200000000FE
HOST = "hv1"
LISTENER = Machine("near", 1)


def desired(hypervisor: Hypervisor, replica: Replica) -> Mapping[int, Flow]:
    """What the switch should hold, by cookie, computed from nothing."""
    rows = Reader(HOST, replica).read(CONCERNS).rows
    decision = decide(replace(rows, ports=tuple(_local_ports(hypervisor)), limits=_default_limits()))
    bridge = decision.units["bridge"]
    assert isinstance(bridge, Bridge)
    return Compiler(lambda unit: build(unit, bridge)).compile(decision.units)


def _default_limits() -> Limits:
    """Of each port, as an agent has them that is told nothing else."""
    options = {option.name: option.default for option in OPTIONS}
    kinds = ("connections", "fragments", "frames")
    return Limits(**{kind: limit(f"--limit-{kind}", options[f"limit-{kind}"]) for kind in kinds})


def _local_ports(hypervisor: Hypervisor) -> Iterator[LocalPort]:
    for row in hypervisor.ports.interfaces():
        ids = dict(row["external_ids"][1])
        if row["name"] != BRIDGE:
            yield LocalPort(
                uuid=row["_uuid"][1], name=row["name"], ofport=row["ofport"], iface_id=ids.get("iface-id"),
                attached_mac=ids.get("attached-mac"), role=ids.get("sgctl-role", ""),
            )  # fmt: skip


def compare(hypervisor: Hypervisor, flows: Mapping[int, Flow]) -> None:
    """The switch holds these flows and no others but what it has learned from packets itself."""
    file = hypervisor.directory / "desired.txt"
    file.write_text("".join(f"cookie={flow.cookie:#x},{flow}\n" for flow in flows.values()))
    learned = f"cookie={LEARNED >> 48:#x}"
    different = [line for line in hypervisor.sandbox.differences(BRIDGE, file) if learned not in line]
    assert not different, "\n".join([f"{len(different)} flows differ", *different[:10]])


def promised(size: Size) -> Cloud:
    """What was asked for, in the words of the oracle, after all events have left it as it was."""
    web = [Spec("ingress", "tcp", CIDR_PORT + n, CIDR_PORT + n, cidr(n)) for n in range(size.rules)]
    web += [Spec("ingress", "tcp", GROUP_PORT + n, GROUP_PORT + n, "bench/sources") for n in range(size.group_rules)]
    web.append(Spec("ingress", "udp", GROUP_PORT, GROUP_PORT, NEAR))
    near = [Machine("near", number) for number in range(size.ports)]
    far = [Machine("far", number) for number in range(size.members)]
    vms = {one.name: Guest(HOST, ("bench/web",), (one.address,)) for one in near}
    vms |= {one.name: Guest("elsewhere", ("bench/sources",), (one.address,)) for one in far}
    pods = {name: (f"10.{number}.0.0/16",) for name, number in PODS.items()}
    return Cloud(pods, {"bench/web": tuple(web), "bench/sources": ()}, vms)


@dataclass(frozen=True, slots=True)
class Question:
    """May `service` be opened from this address to this VM, and in by which port does the packet come?"""

    service: str
    source: str
    local: Machine | None
    target: Machine

    def packet(self, sport: int) -> Packet:
        """It as a packet; what is not local comes from the router."""
        source = packets.end(self.local) if self.local else End(ROUTER, ip_address(self.source))
        name, _, port = self.service.partition("/")
        if name == "icmp":
            return packet(self.service, source, packets.end(self.target))
        make = Packet.tcp if name == "tcp" else Packet.udp
        return make(source, packets.end(self.target), int(port), sport=sport)


def questions(rng: random.Random, size: Size, targets: list[Machine], *, local: bool) -> Iterator[Question]:
    """Without end: half of them just what some rule allows, the others the same with another source or service."""
    while True:
        target, here = rng.choice(targets), rng.choice([Machine("near", rng.randrange(size.ports)), None])
        number, group = rng.randrange(size.rules), rng.randrange(size.group_rules)
        allowed = [
            (f"tcp/{CIDR_PORT + number}", str(ip_network(cidr(number))[rng.randrange(1, 60000)])),
            (f"tcp/{GROUP_PORT + group}", Machine("far", rng.randrange(size.members)).address),
        ]
        service, source = rng.choice(allowed)
        if rng.random() < 0.25:
            service = rng.choice((rng.choice(allowed)[0], f"tcp/{GROUP_PORT + size.group_rules}", "icmp/8,0", "tcp/22"))
        elif rng.random() < 0.33:
            source = rng.choice((rng.choice(allowed)[1], Machine("far", 60000).address, "8.8.8.8"))
        if local and here is not None and here != target:
            yield Question(rng.choice((service, f"udp/{GROUP_PORT}")), here.address, here, target)
        else:
            yield Question(service, source, None, target)


class Tracer:
    """ofproto/trace of the hypervisor's switch."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._control = Control(hypervisor.sandbox.directory / "ovs-vswitchd.ctl")

    def trace(self, frame: bytes, port: int, *states: str) -> str:
        """What it says of a frame, with a conntrack state for each ct that it meets."""
        options = [word for state in states for word in ("--ct-next", state)]
        return self._control("ofproto/trace", *options, BRIDGE, f"in_port={port}", frame.hex())

    def close(self) -> None:
        """End it."""
        self._control.close()


def walk(hypervisor: Hypervisor, flows: Mapping[int, Flow], size: Size, rng: random.Random) -> dict[str, float]:
    """Random packets through the walker, some of them through ofproto/trace too."""
    numbers = {row["name"]: row["ofport"] for row in hypervisor.ports.interfaces()}
    cloud, model, allowed = promised(size), Switch(flows.values(), ports=set(numbers.values())), 0
    tracer = Tracer(hypervisor)
    asked = questions(rng, size, [Machine("near", number) for number in range(size.ports)], local=True)
    for number, question in zip(range(WALKED), asked, strict=False):
        one, port = question.packet(30000 + number), numbers[question.local.name if question.local else UPLINK]
        model.forget()
        walked, answer = (
            model.walk(one, port),
            may_open(cloud, question.service, question.source, question.target.address),
        )
        assert walked.outputs == ((numbers[question.target.name],) if answer else ()), f"{question}: {walked.reason}"
        allowed += answer
        if number < TRACED:
            assert traced_by(tracer, one, port, walked) == traced_in(walked), question  # type: ignore[arg-type]
    tracer.close()
    assert WALKED / 10 < allowed < WALKED * 9 / 10, f"{allowed} of {WALKED} questions are allowed: not a fair sample"
    return {"audit: packets walked": WALKED, "audit: of them allowed": allowed, "audit: traced by the switch": TRACED}


def send(hypervisor: Hypervisor, size: Size, rng: random.Random) -> dict[str, float]:
    """Random packets from the uplink, each with one of a member after it, which is allowed."""
    cloud, asked = promised(size), []
    for number, question in zip(range(SENT), questions(rng, size, [LISTENER], local=False), strict=False):
        control = Question(f"tcp/{GROUP_PORT}", Machine("far", 0).address, None, LISTENER).packet(1000 + number)
        answer = may_open(cloud, question.service, question.source, LISTENER.address)
        asked.append((question.packet(30000 + number).frame, control.frame, answer))
    with packets.wires(hypervisor, UPLINK, LISTENER) as way:  # type: ignore[arg-type]
        return {"audit: packets from the uplink": packets.judge(way, asked)}


def audit(hypervisor: Hypervisor, replica: Replica, size: Size) -> dict[str, float]:
    """All of it; raises AssertionError with the first thing that is wrong."""
    flows = desired(hypervisor, replica)
    compare(hypervisor, flows)
    rng = random.Random(size.ports)
    found = walk(hypervisor, flows, size, rng) | send(hypervisor, size, rng)
    return {"audit: flows compared": len(flows), **found}
