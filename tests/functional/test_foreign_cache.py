# SPDX-License-Identifier: Apache-2.0
"""What the switch has cached does not outlive flows that somebody else has added or deleted, either.

Open vSwitch's userspace datapath leaves some of it as it was, now and then (`sgctl.agent.renewals`); here all of it,
for its revalidators are paused. When the agent has noticed other flows, or lost the switch meanwhile, all is forgotten.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from devstack.lab import Hypervisor, Lab, Manager
from devstack.lab.agent import Sniffer
from devstack.lab.cloud import Machine
from devstack.lab.hypervisor import BRIDGE
from devstack.lab.namespace import wait_for
from flows.tables import INGRESS_RULES
from tests.functional.promised import WORLD, allow, boot, order, promised_cloud, wait_in_force
from tests.functional.scene import VOLLEY
from tests.functional.test_stale_cache import SOURCES

OPEN, SHUT = tuple(range(2000, 2300, 2)), tuple(range(3000, 3700, 3))
"""The ports that rules let everybody in to, by a rule each, and those that nothing does."""
COOKIE = "cookie=0x99"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two VMs of one hypervisor, one of which is a stranger to the other."""

    host: Hypervisor
    manager: Manager
    stranger: Machine
    other: Machine
    ear: Sniffer

    def says(self, ports: Sequence[int]) -> int:
        """How many of its datagrams to these ports arrive, each of which would begin a connection; a TCP segment, which
        is let in, comes behind them."""
        self.ear.frames(clear=True)
        ends = self.stranger.vm.address(), self.other.vm.address()
        head = Ether(src=self.stranger.mac, dst=self.other.mac) / IP(src=ends[0], dst=ends[1])
        frames = [bytes(head / UDP(sport=next(SOURCES), dport=port) / b"<said>") for port in ports]
        frames.append(bytes(head / TCP(sport=next(SOURCES), dport=80) / b"<said><last>"))
        for start in range(0, len(frames), VOLLEY):
            self.stranger.vm.send(frames[start : start + VOLLEY], interval=0.0005)
        wait_for("the last one to arrive", partial(self.ear.frames, b"<last>"), step=0.02)
        return len(self.ear.frames()) - 1

    def control(self, command: str) -> str:
        """Ask ovs-vswitchd."""
        return self.host.appctl("-t", str(self.host.directory / "ovs-vswitchd.ctl"), command)

    def change(self, *mods: str) -> None:
        """Somebody changes flows at the console, in one go."""
        self.host.ofctl("--bundle", "add-flows", BRIDGE, "-", stdin="\n".join(mods) + "\n")

    def let_in(self) -> None:
        """Somebody's flows let the stranger in by all shut ports."""
        come, go = (self.host.ofport(one.port) for one in (self.stranger, self.other))
        match = f"table=0,priority=65535,{COOKIE},in_port={come},udp,nw_dst={self.other.vm.address()}"
        self.change(*(f"add {match},tp_dst={port},actions=output:{go}" for port in SHUT))

    def wait_foreign(self, cookies: int) -> None:
        """Wait until the agent has noticed so many cookies that are not its own."""

        def noticed() -> bool:
            status, text = self.manager.get("/metrics")  # There are none while the switch is lost.
            return status == 200 and f"sgctl_foreign_cookies {cookies}.0\n" in text

        wait_for("it to notice", noticed, step=0.02)
        self.manager.wait_ready()

    @contextmanager
    def held(self) -> Iterator[None]:
        """The agent does nothing meanwhile."""
        self.manager.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.manager.process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def pair(module_lab: Lab) -> Iterator[Pair]:
    with promised_cloud(module_lab, pods=1) as cloud:
        host, shop = cloud.hypervisors[0], cloud.create_account("shop", ("web", "clients"))
        allow(shop, "web", "tcp/80", *(f"udp/{port}" for port in OPEN), cidr=WORLD)
        boot(cloud, order(cloud, shop, "stranger", 1, "clients"), order(cloud, shop, "other", 1, "web"))
        machines = cloud.machines["stranger"], cloud.machines["other"]
        yield Pair(host, cloud.managers[host.name], *machines, machines[1].vm.sniff(only=b"<said>"))


@pytest.fixture(autouse=True)
def paused(pair: Pair) -> Iterator[None]:
    """Open vSwitch changes nothing that it has cached."""
    pair.control("revalidator/pause")
    yield
    pair.control("revalidator/resume")
    pair.change(f"delete {COOKIE}/-1")
    pair.wait_foreign(0)


@pytest.fixture
def let_in(pair: Pair) -> Iterator[None]:
    """The stranger has come in by flows that are gone, which the agent does not know yet, and still comes in."""
    assert pair.says(SHUT) == 0
    pair.let_in()
    pair.wait_foreign(1)
    assert pair.says(SHUT) == len(SHUT)
    with pair.held():
        pair.change(f"delete {COOKIE}/-1")
        assert pair.says(SHUT) == len(SHUT)
        yield


@pytest.mark.usefixtures("let_in")
def test_what_somebodys_flows_let_in_ends_with_them(pair: Pair) -> None:
    pair.manager.process.send_signal(signal.SIGCONT)
    pair.wait_foreign(0)
    assert pair.says(SHUT) == 0


@pytest.mark.usefixtures("let_in")
def test_so_it_does_where_the_agent_has_lost_the_switch(pair: Pair) -> None:
    """Somebody tells the switch of another controller; the agent takes it back, and reads anew what is there."""
    pair.host.vsctl("set-controller", BRIDGE, "tcp:127.0.0.1:9")
    pair.manager.process.send_signal(signal.SIGCONT)
    pair.wait_foreign(0)
    assert pair.says(SHUT) == 0


def test_what_is_refused_without_our_flows_is_let_in_again(pair: Pair) -> None:
    assert pair.says(OPEN) == len(OPEN)
    with pair.held():
        pair.change(f"delete table={INGRESS_RULES.id},udp")
        assert pair.says(OPEN) == len(OPEN)
        pair.control("revalidator/purge")
        assert pair.says(OPEN) == 0
    wait_in_force(pair.manager)
    pair.manager.wait_ready()
    assert pair.says(OPEN) == len(OPEN)
