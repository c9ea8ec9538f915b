# SPDX-License-Identifier: Apache-2.0
"""What the switch has cached does not outlive the flows that it followed from.

Rules that were narrow, then wide, then gone leave narrow and wide cached flows behind, of which Open vSwitch 3.1's
userspace datapath does not change the narrow ones (`sgctl.agent.renewals`). The agent makes it forget them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from uuid import uuid4

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet import UDP as Datagram
from scapy.layers.l2 import Ether

from devstack.lab import Hypervisor, Lab, Manager
from devstack.lab.cloud import Machine
from devstack.lab.namespace import wait_for
from flows.inputs import Policy, Rule, Service
from flows.packet import Packet
from sgctl.agent.metrics import Metrics
from sgctl.agent.renewals import Renewals
from sgctl.openflow.control import Control
from tests.functional.dummyswitch import DummySwitch
from tests.functional.promised import WORLD, admin, allow, boot, order, promised_cloud
from tests.functional.scene import VOLLEY
from tests.functional.test_promise_closed import seen_by_the_switch
from tests.unit.flow_cast import caged, caged6, client, client6, server, server6
from tests.unit.flow_world import CAGED, CLIENT, POLICIES, SERVER, UDP, UNITS, WEB, flows_of, rule

PORTS = tuple(range(1000, 1280, 7))
BETWEEN = tuple(port + 3 for port in PORTS[::4])
ALL = (*BETWEEN, *PORTS)
MANY = tuple(range(2000, 2500, 2))
ANYWHERE = ("0.0.0.0/0", "::/0")


def narrow(ports: Sequence[int]) -> tuple[Rule, ...]:
    """A rule for each port."""
    return tuple(rule(port, Service(UDP, port, port), cidr) for port in ports for cidr in ANYWHERE)


WIDE = tuple(rule(1, Service(), cidr) for cidr in ANYWHERE)
NONE: tuple[Rule, ...] = ()
MENDED = (3, 2)
"""The first version of Open vSwitch that is said to change cached flows that overlap."""
SOURCES = count(20000)


@pytest.fixture
def real() -> Iterator[DummySwitch]:
    switch = DummySwitch(range(1, 13))
    try:
        yield switch
    finally:
        switch.close()


def renewal(real: DummySwitch) -> Callable[[], None]:
    """What the agent does after a change."""
    renewals = Renewals(Control(real.rundir), Metrics())
    renewals.userspace = True

    def renew() -> None:
        renewals.note()
        renewals.renew()

    return renew


def patience(real: DummySwitch) -> None:
    """Let Open vSwitch do what it does by itself."""
    for _ in range(2):  # The round that goes on now may have begun before.
        real.control("revalidator/wait")


def hold(real: DummySwitch, rules: Sequence[Rule], afterwards: Callable[[], None]) -> None:
    """These rules are all that lets somebody in to the server, and everybody may send to the one beside it."""
    let_in = {WEB: tuple(rules), CAGED.policy: WIDE}
    policies = tuple(replace(one, ingress=let_in.get(one.number, one.ingress)) for one in POLICIES)
    real.replace(flows_of((*(unit for unit in UNITS if not isinstance(unit, Policy)), *policies)))
    afterwards()


def arrive(real: DummySwitch, ports: Sequence[int], version: int) -> int:
    """How many of these datagrams arrive at the server, each of which would begin a connection."""
    near, far, beside = (client, server, caged) if version == 4 else (client6, server6, caged6)
    real.sent()
    for to in (beside, far):
        for port in ports:
            real.receive(Packet.udp(near, to, port, sport=next(SOURCES)).frame, CLIENT.number)
        found = real.sent()
        if to is beside:
            assert len(found[CAGED.number]) == len(ports)
    return len(found.get(SERVER.number, ()))


def history(real: DummySwitch, version: int, afterwards: Callable[[], None]) -> Iterator[tuple[int, int]]:
    """How many arrive and should, as rules come and go."""
    some, both = len(BETWEEN), len(BETWEEN) + len(PORTS)
    for rules, ports, expected in (
        (NONE, ALL, 0), (narrow(PORTS), PORTS, len(PORTS)), (WIDE, ALL, both), (narrow(BETWEEN), ALL, some),
        (NONE, ALL, 0), (narrow(PORTS), ALL, len(PORTS)), (WIDE, ALL, both), (NONE, ALL, 0),
    ):  # fmt: skip
        hold(real, rules, afterwards)
        yield arrive(real, ports, version), expected


@pytest.mark.parametrize("version", [4, 6])
def test_cached_decisions_follow_the_rules(real: DummySwitch, version: int) -> None:
    for seen, expected in history(real, version, renewal(real)):
        assert seen == expected


def test_without_renewals_they_would_not(real: DummySwitch) -> None:
    """As long as they have to be: the test above finds what it is there for."""
    release = tuple(map(int, real.control("version").split()[-1].split(".")[:2]))
    wrong = [seen for seen, expected in history(real, 4, partial(patience, real)) if seen > expected]
    assert wrong or release >= MENDED


@dataclass(frozen=True, slots=True)
class Pair:
    """Two VMs of one hypervisor, of which one lets in datagrams to many ports by as many rules."""

    host: Hypervisor
    manager: Manager
    talker: Machine
    listener: Machine

    def say(self) -> None:
        """Begin a connection to each port."""
        talker, listener = self.talker, self.listener
        head = Ether(src=talker.mac, dst=listener.mac) / IP(src=talker.vm.address(), dst=listener.vm.address())
        frames = [bytes(head / Datagram(sport=next(SOURCES), dport=port) / b"<said>") for port in MANY]
        for start in range(0, len(frames), VOLLEY):
            talker.vm.send(frames[start : start + VOLLEY], interval=0.0005)

    def label(self, value: str, state: str) -> None:
        """Have the talker's port say that it is this NIC's, until the agent says that it is in this state."""
        self.host.vsctl("set", "Interface", self.talker.port, f'external_ids:iface-id="{value}"')

        def there() -> bool:
            ports = admin(self.manager, "/admin/ports")["ports"]
            return any((port["name"], port["state"]) == (self.talker.port, state) for port in ports)

        wait_for(f"the port to be {state}", there, step=0.005)


@pytest.fixture
def pair(lab: Lab) -> Iterator[Pair]:
    with promised_cloud(lab, pods=1) as cloud:
        host, shop = cloud.hypervisors[0], cloud.create_account("shop", ("web", "clients"))
        allow(shop, "web", *(f"udp/{port}" for port in MANY), cidr=WORLD)
        boot(cloud, order(cloud, shop, "talker", 1, "clients"), order(cloud, shop, "listener", 1, "web"))
        yield Pair(host, cloud.managers[host.name], cloud.machines["talker"], cloud.machines["listener"])


def at_least(count: Callable[[], int], wanted: int) -> bool:
    return count() >= wanted


def test_a_closed_port_says_nothing_more(pair: Pair) -> None:
    """As soon as its agent calls it closed, however much it has just said."""
    ear = pair.listener.vm.sniff(only=b"<said>")
    for attempt in range(1, 4):
        pair.say()
        said = attempt * len(MANY)
        wait_for("all to arrive", partial(at_least, ear.total, said))
        pair.label(str(uuid4()), "closed")
        seen = seen_by_the_switch(pair.host)
        pair.say()
        wait_for("the switch to see them", partial(at_least, partial(seen_by_the_switch, pair.host), seen + len(MANY)))
        assert ear.total() == said
        pair.label(pair.talker.nic, "active")
