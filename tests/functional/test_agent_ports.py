# SPDX-License-Identifier: Apache-2.0
"""Ports come, go and change: what is right is opened, what is not is closed with a reason and disturbs nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sgctl.model import Nic, Rule
from sgctl.store import Delete, Insert, Update
from tests.functional.agent_rig import BRIDGE, Manager, Rig
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import cidr_rule, mac_of, member, peer_rule, uid, world

CLOUD = world(
    {"web1": ("web",), "web2": ("web",), "nag1": ("nagios",)},
    rules=(peer_rule("from nagios", "web", "nagios", port=12489),),
)


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Rig, Manager]]:
    with Rig(CLOUD) as rig:
        yield rig, rig.manager()


@pytest.fixture
def rig(running: tuple[Rig, Manager]) -> Iterator[Rig]:
    """The cloud as it was at first, without ports: what a test has changed is undone afterwards."""
    rig, agent = running
    yield rig
    for port in rig.sandbox.vsctl("list-ports", BRIDGE).split():
        if port.startswith("tap"):
            rig.unplug(port)
    rig.database.write([Update(Nic, id, {"groups": nic.groups}) for id, nic in CLOUD.nics.items()])
    for name in ("web1", "web2", "nag1"):
        rig.wait_nic(name, "", "")
    eventually(lambda: set(agent.ports()) == {"eth1"})


@pytest.fixture
def agent(running: tuple[Rig, Manager]) -> Manager:
    return running[1]


def own_flows(rig: Rig, agent: Manager, owner: str) -> int:
    return sum(flow["owner"] == owner for flow in agent.get("/admin/flows")[1]["flows"])


def test_the_bridge_is_prepared(rig: Rig, agent: Manager) -> None:
    assert rig.sandbox.vsctl("get-fail-mode", BRIDGE) == "secure"
    assert rig.sandbox.vsctl("get-controller", BRIDGE) == f"tcp:127.0.0.1:{agent.ofp_port}"
    assert "nx-match" in rig.sandbox.ofctl("get-frags", BRIDGE)
    assert agent.ports()["eth1"]["state"] == "uplink"


def test_a_port_opens_moves_to_another_number_and_goes(rig: Rig, agent: Manager) -> None:
    before = rig.cookies()
    port = rig.plug("web1", 5, mac_of(1))
    shown = agent.wait_state(port, "active")
    assert shown["vm"] == "web1" and shown["addresses"] == ["10.1.0.11"] and shown["groups"] == ["acme/web"]
    rig.wait_nic("web1", "hv1", "up")
    owner = f"port/{uid('web1')}"
    assert own_flows(rig, agent, owner) > 5

    rig.sandbox.vsctl("set", "Interface", port, "ofport_request=9")
    eventually(lambda: agent.ports()[port]["ofport"] == 9)
    eventually(lambda: "in_port=9" in rig.sandbox.ofctl("dump-flows", BRIDGE, "table=0"))
    assert "in_port=5" not in rig.sandbox.ofctl("dump-flows", BRIDGE, "table=0")

    rig.unplug(port)
    rig.wait_nic("web1", "", "")
    assert port not in agent.ports()
    assert rig.cookies() == before


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("iface-id", "", "no external_ids:iface-id"),
        ("iface-id", "x" * 65536, "is not a UUID"),
        ("iface-id", uid("nobody"), "no NIC has the id"),
        ("attached-mac", mac_of(9), "is not the NIC's"),
        ("attached-mac", "nonsense", "is not the NIC's"),
    ],
)
def test_a_malformed_port_is_closed_alone_and_heals(
    rig: Rig, agent: Manager, key: str, value: str, reason: str
) -> None:
    bad, good = rig.plug("web1", 5, mac_of(1)), rig.plug("web2", 6, mac_of(2))
    for port in (bad, good):
        agent.wait_state(port, "active")
    right = {"iface-id": uid("web1"), "attached-mac": mac_of(1)}[key]
    ages = rig.ages()
    rig.set_external_id(bad, key, value)
    agent.wait_state(bad, "closed", reason)
    assert agent.ports()[good]["state"] == "active"
    rig.set_external_id(bad, key, right)
    agent.wait_state(bad, "active")
    assert set(rig.ages()) == set(ages)
    assert "Traceback" not in agent.log.read_text()


def test_a_doubled_iface_id_does_not_stop_the_first_port(rig: Rig, agent: Manager) -> None:
    first = rig.plug("web1", 5)
    agent.wait_state(first, "active")
    second = rig.plug("web1", 6)
    agent.wait_state(second, "closed", first)
    assert agent.ports()[first]["state"] == "active"
    rig.unplug(first)
    agent.wait_state(second, "active")


def test_a_stopped_vm_is_closed_and_a_started_one_opens(rig: Rig, agent: Manager) -> None:
    port = rig.plug("web1", 5)
    agent.wait_state(port, "active")
    rig.database.write([Update(type(CLOUD.vms[uid("vm web1")]), uid("vm web1"), {"wanted": "Stopped"})])
    agent.wait_state(port, "closed", "Stopped")
    rig.wait_nic("web1", "hv1", "closed")
    rig.database.write([Update(type(CLOUD.vms[uid("vm web1")]), uid("vm web1"), {"wanted": "Running"})])
    agent.wait_state(port, "active")
    rig.wait_nic("web1", "hv1", "up")


def test_a_member_that_joins_costs_one_flow(rig: Rig, agent: Manager) -> None:
    agent.wait_state(rig.plug("web1", 5), "active")
    before = rig.cookies()
    new = member("nagios", "nag1", "10.1.0.77")
    rig.database.write([Insert(new)])
    eventually(lambda: len(rig.cookies() ^ before) == 1)
    rig.database.write([Delete(type(new), new.id)])
    eventually(lambda: rig.cookies() == before)


def test_a_rule_is_enforced_told_and_revoked(rig: Rig, agent: Manager) -> None:
    agent.wait_state(rig.plug("web1", 5), "active")
    before = rig.cookies()
    query = "/admin/trace?in_port=uplink&src=192.0.2.7&dst=10.1.0.11&proto=tcp&dport=443"
    assert agent.get(query)[1]["verdict"] == "dropped"
    rule = cidr_rule("https", "web", "192.0.2.0/24", port=443)
    rig.database.write([Insert(rule)])
    eventually(lambda: agent.get(query)[1]["verdict"] == "delivered")
    told = [flow["rule"] for flow in agent.get("/admin/flows?table=INGRESS_RULES")[1]["flows"] if flow["rule"]]
    assert "acme/web: ingress tcp 443 from 192.0.2.0/24" in told
    assert "acme/web: ingress tcp 12489 from acme/nagios" in told
    rig.database.write([Delete(Rule, rule.id)])
    eventually(lambda: rig.cookies() == before)
    assert agent.get(query)[1]["verdict"] == "dropped"


def test_groups_of_a_running_vm_change(rig: Rig, agent: Manager) -> None:
    port = rig.plug("nag1", 5)
    agent.wait_state(port, "active")
    rig.database.write([Update(Nic, uid("nag1"), {"groups": frozenset({uid("web"), uid("nagios")})})])
    eventually(lambda: agent.ports()[port]["groups"] == ["acme/nagios", "acme/web"])
