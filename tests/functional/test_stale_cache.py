# SPDX-License-Identifier: Apache-2.0
"""What the switch has cached does not outlive the rules that it followed from.

Rules that were narrow, then wide, then gone leave narrow and wide cached flows behind, of which Open vSwitch 3.1's
userspace datapath does not change the narrow ones (`flows.renewals`). The agent makes it forget them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count

import pytest

from flows.inputs import Policy, Rule, Service
from flows.packet import Packet
from flows.renewals import PARTS, Renewal
from tests.functional.dummyswitch import DummySwitch
from tests.unit.flow_cast import caged, caged6, client, client6, server, server6
from tests.unit.flow_world import CAGED, CLIENT, POLICIES, SERVER, UDP, UNITS, WEB, flows_of, rule

PORTS = tuple(range(1000, 1280, 7))
BETWEEN = tuple(port + 3 for port in PORTS[::4])
ALL = (*BETWEEN, *PORTS)
ANYWHERE = ("0.0.0.0/0", "::/0")
NARROW, OTHERS = (
    tuple(rule(port, Service(UDP, port, port), cidr) for port in ports for cidr in ANYWHERE)
    for ports in (PORTS, BETWEEN)
)
WIDE = tuple(rule(1, Service(), cidr) for cidr in ANYWHERE)
NONE: tuple[Rule, ...] = ()
MENDED = (3, 2)
"""The first version of Open vSwitch that is said not to need renewals."""
SOURCES, TURNS = count(20000), count()


@pytest.fixture
def real() -> Iterator[DummySwitch]:
    switch = DummySwitch(range(1, 13))
    try:
        yield switch
    finally:
        switch.close()


def hold(real: DummySwitch, rules: Sequence[Rule], *, renewed: bool) -> None:
    """These rules are all that lets somebody in to the server, and everybody may send to the one beside it."""
    let_in = {WEB: tuple(rules), CAGED.policy: WIDE}
    policies = tuple(replace(one, ingress=let_in.get(one.number, one.ingress)) for one in POLICIES)
    units = [*(unit for unit in UNITS if not isinstance(unit, Policy | Renewal)), *policies]
    turn = next(TURNS)
    real.replace(flows_of((*units, *(Renewal(part, turn) for part in PARTS if renewed))))
    for _ in range(2):  # The round that goes on now may have begun before.
        real.control("revalidator/wait")


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


def history(real: DummySwitch, version: int, *, renewed: bool) -> Iterator[tuple[int, int]]:
    """How many arrive and should, as rules come and go."""
    some, both = len(BETWEEN), len(BETWEEN) + len(PORTS)
    for rules, ports, expected in (
        (NONE, ALL, 0), (NARROW, PORTS, len(PORTS)), (WIDE, ALL, both), (OTHERS, ALL, some), (NONE, ALL, 0),
        (NARROW, ALL, len(PORTS)), (WIDE, ALL, both), (NONE, ALL, 0),
    ):  # fmt: skip
        hold(real, rules, renewed=renewed)
        yield arrive(real, ports, version), expected


@pytest.mark.parametrize("version", [4, 6])
def test_cached_decisions_follow_the_rules(real: DummySwitch, version: int) -> None:
    for seen, expected in history(real, version, renewed=True):
        assert seen == expected


def test_without_renewals_they_would_not(real: DummySwitch) -> None:
    """As long as they have to be: the test above finds what it is there for."""
    release = tuple(map(int, real.control("version").split()[-1].split(".")[:2]))
    seen = list(history(real, 4, renewed=False))
    wrong = [one for one in seen if one[0] > one[1]]
    assert wrong or release >= MENDED
