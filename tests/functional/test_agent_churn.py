# SPDX-License-Identifier: Apache-2.0
"""Many changes in a row end where a new agent would start, and leave nothing behind."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Iterator

import pytest

from sgctl.model import Cloud, Host, Rule
from sgctl.store import Delete, Insert, Update
from tests.functional.agent_rig import BRIDGE, Manager, Rig
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import cidr_rule, mac_of, peer_rule, uid, world

CLOUD = world({"web1": ("web",), "web2": ("web",), "nag1": ("nagios",)}, rules=(peer_rule("r", "web", "nagios"),))


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(CLOUD) as rig:
        yield rig


@pytest.fixture
def agent(rig: Rig) -> Manager:
    agent = rig.manager()
    agent.wait_state(rig.plug("web1", 5), "active")
    rig.wait_nic("web1", "hv1", "up")
    return agent


def assert_as_new(rig: Rig, agent: Manager) -> None:
    """A new agent finds nothing to change."""
    agent.wait_ready()
    before = rig.cookies()
    agent.stop()
    agent.start()
    agent.wait_ready()
    assert rig.cookies() == before
    assert "sgctl_flow_mods_total{" not in agent.get("/metrics")[1]


def test_a_flapping_port(rig: Rig, agent: Manager) -> None:
    chance = random.Random(7)
    before = rig.cookies()
    for number in range(30):
        rig.plug("web2", 6, mac_of(2))
        if number % 3:
            time.sleep(chance.uniform(0, 0.1))
        rig.unplug("tap6")
    rig.plug("web2", 6, mac_of(2))
    agent.wait_state("tap6", "active")
    rig.unplug("tap6")
    eventually(lambda: rig.cookies() == before)
    rig.wait_nic("web2", "", "")
    assert_as_new(rig, agent)
    assert "Traceback" not in agent.log.read_text()


def test_a_port_replaced_in_one_transaction_keeps_no_rights(rig: Rig, agent: Manager) -> None:
    rig.sandbox.vsctl(
        "del-port", BRIDGE, "tap5", "--", "add-port", BRIDGE, "tap5",
        "--", "set", "Interface", "tap5", "type=dummy", "ofport_request=5",
    )  # fmt: skip
    agent.wait_state("tap5", "closed", "no external_ids:iface-id")
    assert "in_port=5" not in rig.sandbox.ofctl("dump-flows", BRIDGE, "table=0")


def test_a_port_replaced_in_one_transaction_has_its_rights_under_its_new_number(rig: Rig, agent: Manager) -> None:
    """Gone and back within what the agent learns at once: the same NIC at the same name, and at another."""
    for name, number in (("tap5", 8), ("tap9", 9)):
        (old,) = [port for port in agent.ports() if port.startswith("tap")]
        rig.sandbox.vsctl(
            "del-port", BRIDGE, old, "--", "add-port", BRIDGE, name,
            "--", "set", "Interface", name, "type=dummy", f"ofport_request={number}",
            f"external_ids:iface-id={uid('web1')}",
        )  # fmt: skip
        eventually(lambda name=name, number=number: agent.ports().get(name, {}).get("ofport") == number)
        agent.wait_state(name, "active")
        taken = re.findall(r"in_port=(\d+),dl_src", rig.sandbox.ofctl("dump-flows", BRIDGE, "table=0", "--no-names"))
        assert set(taken) == {str(number)}
    assert_as_new(rig, agent)


def test_a_port_whose_device_fails_before_it_goes_leaves_nothing(rig: Rig, agent: Manager) -> None:
    """Its number becomes -1 first."""
    before = rig.cookies()
    agent.wait_state(rig.plug("web2", 6, mac_of(2)), "active")
    rig.sandbox.vsctl("set", "Interface", "tap6", "type=no-such-type")
    agent.wait_state("tap6", "closed")
    eventually(lambda: rig.cookies() == before)
    rig.sandbox.vsctl("del-port", BRIDGE, "tap6")
    rig.wait_nic("web2", "", "")
    assert rig.cookies() == before
    assert_as_new(rig, agent)


def test_two_ports_that_swap_their_nics(rig: Rig, agent: Manager) -> None:
    agent.wait_state(rig.plug("web2", 6), "active")
    rig.sandbox.vsctl(
        "set", "Interface", "tap5", f"external_ids:iface-id={uid('web2')}",
        "--", "set", "Interface", "tap6", f"external_ids:iface-id={uid('web1')}",
    )  # fmt: skip
    eventually(lambda: [agent.ports()[tap]["vm"] for tap in ("tap5", "tap6")] == ["web2", "web1"])
    assert_as_new(rig, agent)


def test_rules_that_come_and_go(rig: Rig, agent: Manager) -> None:
    before = rig.cookies()
    rules = [cidr_rule(f"rule {port}", "web", "192.0.2.0/24", port=port) for port in range(100, 140)]
    for rule in rules:
        rig.database.write([Insert(rule)])
    eventually(lambda: len(rig.cookies()) >= len(before) + len(rules))
    assert_as_new(rig, agent)
    for rule in rules:
        rig.database.write([Delete(Rule, rule.id)])
    eventually(lambda: rig.cookies() == before)


@pytest.mark.parametrize("seed", range(3))
def test_kills_at_random_moments(rig: Rig, agent: Manager, seed: int) -> None:
    chance = random.Random(seed)
    rules = [cidr_rule(f"rule {port}", "web", "192.0.2.0/24", port=port) for port in range(100, 110)]
    for rule in rules:
        rig.database.write([Insert(rule)])
        if chance.random() < 0.3:
            time.sleep(chance.uniform(0, 0.2))
            agent.kill()
            agent.start()
            time.sleep(chance.uniform(0, 1.5))
    agent.wait_ready()
    shown = {flow["rule"] for flow in agent.get("/admin/flows?table=INGRESS_RULES")[1]["flows"]}
    assert {f"acme/web: ingress tcp {rule.first} from 192.0.2.0/24" for rule in rules} <= shown
    assert_as_new(rig, agent)


def test_a_revoke_while_the_database_is_away_counts_as_soon_as_it_is_back(rig: Rig, agent: Manager) -> None:
    agent.process.send_signal(signal.SIGSTOP)
    rig.database.write([Delete(Rule, row.id) for row in CLOUD.rules])
    assert rig.server.pid
    os.kill(rig.server.pid, signal.SIGKILL)
    agent.process.send_signal(signal.SIGCONT)
    eventually(lambda: not told_rules(agent))


def own_row(rig: Rig) -> Host:
    (host,) = rig.database.replica.find(Host, name="hv1")
    return host


def test_the_pace_of_heartbeats_follows_the_database(rig: Rig) -> None:
    cloud = Cloud(id=uid("cloud"), heartbeat=200)
    rig.database.write([Insert(cloud)])
    rig.manager()
    eventually(lambda: rig.database.replica.find(Host, name="hv1"))
    for _ in range(3):
        seen = own_row(rig).seen
        eventually(lambda: own_row(rig).seen != seen)  # noqa: B023
    rig.database.write([Update(Cloud, cloud.id, {"heartbeat": 15_000})])
    eventually(lambda: own_row(rig).heartbeat == 15_000)


def told_rules(agent: Manager) -> set[str]:
    agent.wait_ready()
    return {flow["rule"] for flow in agent.get("/admin/flows?table=INGRESS_RULES")[1]["flows"] if flow["rule"]}


def test_a_barrier_is_answered_by_those_who_are_asked(rig: Rig, agent: Manager) -> None:
    rig.database.write([Insert(Cloud(id=uid("cloud"), sequence=5, asked=5))])
    eventually(lambda: own_row(rig).applied == 5)
    rig.database.write([Update(Host, own_row(rig).id, {"asked": 7}), Update(Cloud, uid("cloud"), {"sequence": 7})])
    eventually(lambda: own_row(rig).applied == 7)
    answers = []
    rig.database.replica.on_change(lambda _: answers.append(own_row(rig).applied))
    rig.database.write([Insert(Host(id=uid("h2"), name="hv2", asked=8)), Update(Cloud, uid("cloud"), {"sequence": 8})])
    rig.database.write([Update(Cloud, uid("cloud"), {"sequence": 9, "asked": 9})])
    eventually(lambda: own_row(rig).applied == 9)
    assert set(answers) <= {7, 9}, "what others are asked is no business of this one"
    host = own_row(rig)
    assert host.name == "hv1" and host.version and abs(host.seen / 1000 - time.time()) < 60


def test_what_happens_while_the_switch_is_being_changed_counts_as_well(rig: Rig, agent: Manager) -> None:
    """The switch hangs amid a change; what comes meanwhile, of all kinds, is in force when it goes on."""
    first, second = (cidr_rule(f"rule {port}", "web", "192.0.2.0/24", port=port) for port in (81, 82))
    rig.sandbox.signal("ovs-vswitchd", signal.SIGSTOP)
    try:
        rig.database.write([Insert(first)])
        time.sleep(0.3)
        rig.database.write([Insert(second)])
        rig.database.write([Delete(Rule, first.id)])
        rig.set_external_id("tap5", "iface-id", uid("nobody"))
        time.sleep(0.3)
    finally:
        rig.sandbox.signal("ovs-vswitchd", signal.SIGCONT)
    agent.wait_state("tap5", "closed")
    rig.set_external_id("tap5", "iface-id", uid("web1"))
    agent.wait_state("tap5", "active")
    shown = [flow["rule"] for flow in agent.get("/admin/flows?table=INGRESS_RULES")[1]["flows"] if flow["rule"]]
    assert any("tcp 82" in rule for rule in shown) and not any("tcp 81" in rule for rule in shown)
    assert_as_new(rig, agent)
