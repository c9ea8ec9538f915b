# SPDX-License-Identifier: Apache-2.0
"""Traffic that is allowed goes on without a gap: while other rules come and go, and while the agent restarts."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from devstack.lab import VM, Lab
from devstack.lab.agent import Stream
from devstack.lab.cloud import Cloud
from devstack.lab.namespace import wait_for
from tests.functional.promised import BOTH, WORLD, allow, boot, check_recompute, metric, order, revoke, two_hypervisors

CONVERSATIONS = (("tcp", 80), ("udp", 53), ("icmp", 0))
RULES, CHURN_RATE = 100, 20
"""How many rules come and go, and authorize or revoke calls per second, if the machine has time for so many."""
PATIENCE = 30.0
"""Seconds from the end of a call to its flow in the switch, on a machine that does much else."""
INTERVAL = 0.02
IN_FLIGHT = 3
"""How many answers a conversation may still wait for when it is asked; more are lost packets."""
_AGE = re.compile(r"cookie=(0x[0-9a-f]+), duration=([\d.]+)s")


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Iterator[Cloud]:
    """A server, a client beside it and one on the other hypervisor; tcp/80, udp/53 and ping are allowed."""
    cloud = two_hypervisors(module_lab, pods=1)
    tenant = cloud.create_account("shop", ("web", "clients"))
    allow(tenant, "web", "tcp/80", "udp/53", "icmp", peers=["shop/clients"])
    server, *_ = boot(
        cloud, order(cloud, tenant, "server", 1, "web"), order(cloud, tenant, "near", 1, "clients"),
        order(cloud, tenant, "far", 2, "clients"),
    )  # fmt: skip
    server.serve("tcp", 80)
    server.serve("udp", 53)
    yield cloud
    check_recompute(cloud)


def vm(cloud: Cloud, name: str) -> VM:
    return cloud.machines[name].vm


@pytest.fixture
def streams(cloud: Cloud) -> Iterator[dict[tuple[str, str], Stream]]:
    """Conversations of all kinds, which lose nothing during the test."""
    server = vm(cloud, "server")

    def stream(name: str, version: int, proto: str, port: int) -> Stream:
        return vm(cloud, name).stream(proto, server.address(version), port, interval=INTERVAL)

    streams = {
        (name, f"{proto}, IPv{version}"): stream(name, version, proto, port)
        for name in ("near", "far")
        for version in BOTH
        for proto, port in CONVERSATIONS
    }
    wait_for("answers of all", lambda: all(stream.report().received for stream in streams.values()))
    yield streams
    for way, stream in streams.items():
        wait_for(f"all answers of {way}", lambda one=stream: unanswered(one) <= IN_FLIGHT)
        assert stream.stop().error == "", way


def unanswered(stream: Stream) -> int:
    """What is lost, or still on its way."""
    report = stream.report()
    return report.sent - report.received


def flow_ages(cloud: Cloud, host: int) -> dict[int, float]:
    """For how many seconds each flow has been in the switch; sending a flow again would start it anew."""
    text = cloud.hypervisors[host].ofctl("dump-flows", "br-int")
    return {int(cookie, 16): float(age) for cookie, age in _AGE.findall(text)}


@pytest.mark.parametrize("kill", [True, False])
@pytest.mark.parametrize("host", [0, 1])
def test_a_restart_changes_and_loses_nothing(
    cloud: Cloud, streams: dict[tuple[str, str], Stream], host: int, kill: bool
) -> None:
    """The first manager's restart takes the API and the embedded SG database along."""
    manager = cloud.managers[f"hv{host + 1}"]
    before, started = flow_ages(cloud, host), time.monotonic()
    manager.restart(kill=kill)
    time.sleep(1.0)
    passed, after = time.monotonic() - started, flow_ages(cloud, host)
    assert after.keys() == before.keys()
    assert min(after.values()) >= passed
    assert {metric(manager, "sgctl_flow_mods_total", f'{{kind="{kind}"}}') for kind in ("add", "delete")} == {0}


def test_rules_come_and_go_without_a_blink(cloud: Cloud, streams: dict[tuple[str, str], Stream]) -> None:
    """Other rules of the same group, one after the other; each is in force soon after its call."""
    tenant, started = cloud.accounts["shop"], time.monotonic()
    for number in range(RULES):
        port = 20000 + number
        rules = allow(tenant, "web", f"tcp/{port}", cidr=WORLD.partition(",")[0])
        wait_for("the rule", lambda port=port: has_flow(cloud, port), timeout=PATIENCE, step=0.005)
        revoke(tenant, rules)
        wait_for("its end", lambda port=port: not has_flow(cloud, port), timeout=PATIENCE, step=0.005)
        time.sleep(max(0.0, started + 2 * (number + 1) / CHURN_RATE - time.monotonic()))


def has_flow(cloud: Cloud, port: int) -> bool:
    """Whether the switch has the rule about this TCP port."""
    return bool(cloud.hypervisors[0].ofctl("dump-flows", "br-int", f"tcp,tp_dst={port}").count("tp_dst"))
