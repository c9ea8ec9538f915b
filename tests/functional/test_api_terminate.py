# SPDX-License-Identifier: Apache-2.0
"""``terminate=true`` on a revoke ends the connections that the rule had admitted, wherever they are, and no others."""

import time
from collections.abc import Iterable, Iterator

import pytest

from devstack.lab import VM, Lab
from devstack.lab.agent import Stream
from devstack.lab.api import Account
from devstack.lab.cloud import Cloud
from devstack.lab.namespace import wait_for
from tests.functional.promised import BOTH, WORLD, allow, boot, goes_on, order, promised_cloud

pytestmark = pytest.mark.usefixtures("in_force")
KINDS = (("tcp", 80), ("udp", 53), ("icmp", 0))
PROTOCOLS = ("tcp/80", "udp/53", "icmp")
STILL = 0.5
"""Seconds without an answer that count as an end; streams ask a hundred times a second."""


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Iterator[Cloud]:
    """A server and a client on one hypervisor, another client on the other one and in the other pod."""
    with promised_cloud(module_lab) as cloud:
        tenant = cloud.create_account("tenant", ("server", "client"))
        boot(
            cloud,
            order(cloud, tenant, "server", 1, "server"),
            order(cloud, tenant, "near", 1, "client"),
            order(cloud, tenant, "far", 2, "client"),
        )
        for proto, port in (("tcp", 80), ("tcp", 81), ("udp", 53)):
            cloud.machines["server"].vm.serve(proto, port)
        yield cloud


@pytest.fixture
def tenant(cloud: Cloud) -> Account:
    return cloud.accounts["tenant"]


def open_streams(cloud: Cloud, *kinds: tuple[str, int]) -> list[Stream]:
    """From both clients to the server, over IPv4 and IPv6, all of which are answered."""
    clients: list[VM] = [cloud.machines[name].vm for name in ("near", "far")]
    server = cloud.machines["server"].vm
    streams = [
        client.stream(proto, server.address(version), port)
        for client in clients
        for version in BOTH
        for proto, port in kinds
    ]
    goes_on(*streams)
    return streams


def terminate(account: Account, rules: Iterable[str], *, egress: bool = False) -> None:
    for rule in rules:
        way = "Egress" if egress else "Ingress"
        answer = account.call(f"revokeSecurityGroup{way}", id=rule, terminate="true", wait="true")
        assert answer["success"] is True
        assert answer["hosts"] >= 1


def ends(streams: list[Stream]) -> None:
    """None of them gets an answer any more, now or later."""
    fall_silent(streams)
    for stream in streams:
        stream.stop()


def fall_silent(streams: list[Stream]) -> None:
    """Wait until none of them gets an answer any more."""

    def answers() -> list[int]:
        return [stream.report().received for stream in streams]

    def still() -> bool:
        before = answers()
        time.sleep(STILL)
        return answers() == before

    wait_for("the connections end", still)
    assert still()


def go_on(streams: list[Stream]) -> None:
    goes_on(*streams)
    for stream in streams:
        assert stream.stop().error == ""


def test_an_ingress_rule_and_its_connections(cloud: Cloud, tenant: Account) -> None:
    doomed = allow(tenant, "server", *PROTOCOLS, cidr=WORLD)
    other = allow(tenant, "server", "tcp/81", cidr=WORLD)
    streams, spared = open_streams(cloud, *KINDS), open_streams(cloud, ("tcp", 81))
    terminate(tenant, doomed)
    ends(streams)
    go_on(spared)
    terminate(tenant, other)


def test_an_egress_rule_and_its_connections(cloud: Cloud, tenant: Account) -> None:
    ingress = allow(tenant, "server", *PROTOCOLS, "tcp/81", cidr=WORLD)
    doomed = allow(tenant, "client", *PROTOCOLS, cidr=WORLD, egress=True)
    other = allow(tenant, "client", "tcp/81", cidr=WORLD, egress=True)
    streams, spared = open_streams(cloud, *KINDS), open_streams(cloud, ("tcp", 81))
    terminate(tenant, doomed, egress=True)
    ends(streams)
    go_on(spared)
    terminate(tenant, other, egress=True)
    terminate(tenant, ingress)


def test_what_another_rule_admits_goes_on_under_it(cloud: Cloud, tenant: Account) -> None:
    named = allow(tenant, "server", "tcp/80", peers=["tenant/client"])
    world = allow(tenant, "server", "tcp/80", cidr=WORLD)
    streams = open_streams(cloud, ("tcp", 80))
    terminate(tenant, named)
    goes_on(*streams)
    terminate(tenant, world)
    ends(streams)


def test_without_terminate_they_go_on(cloud: Cloud, tenant: Account) -> None:
    rules = allow(tenant, "server", "tcp/80", cidr=WORLD)
    streams = open_streams(cloud, ("tcp", 80))
    for rule in rules:
        tenant.call("revokeSecurityGroupIngress", id=rule, wait="true")
    go_on(streams)


def test_what_was_refused_or_ended_goes_on_once_rules_allow_it(cloud: Cloud, tenant: Account) -> None:
    """On the same ports, at once: nothing remembers that it was not allowed."""
    server = cloud.machines["server"].vm
    streams = [
        cloud.machines[name].vm.stream(proto, server.address(version), port)
        for name in ("near", "far")
        for version in BOTH
        for proto, port in (("udp", 53), ("icmp", 0))
    ]
    wait_for("questions", lambda: all(stream.report().sent > 20 for stream in streams))
    for _ in range(2):
        fall_silent(streams)
        rules = allow(tenant, "server", "udp/53", "icmp", cidr=WORLD)
        for stream in streams:
            goes_on(stream)
        terminate(tenant, rules)
    ends(streams)


def test_an_agent_that_was_away_does_it_when_it_is_back(cloud: Cloud, tenant: Account) -> None:
    ingress = allow(tenant, "server", "tcp/80", cidr=WORLD)
    (other,) = allow(tenant, "client", "tcp/81", cidr="192.0.2.0/24", egress=True)
    doomed = allow(tenant, "client", "tcp/80", cidr=WORLD, egress=True)
    streams = open_streams(cloud, ("tcp", 80))
    near, far = streams[:2], streams[2:]
    agent = cloud.managers[cloud.hypervisors[1].name]
    agent.stop()
    for rule in doomed:
        tenant.call("revokeSecurityGroupEgress", id=rule, terminate="true")
    ends(near)
    goes_on(*far)
    agent.start()
    agent.wait_ready()
    ends(far)
    terminate(tenant, [other], egress=True)
    terminate(tenant, ingress)
