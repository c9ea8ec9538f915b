# SPDX-License-Identifier: Apache-2.0
"""What the switch refuses is closed, and only that, for all to see; it opens by itself when the switch takes it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from sgctl.store import Insert
from tests.functional.agent_rig import Manager, Rig
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import cidr_rule, uid, world

CLOUD = world(
    {"web1": ("web",), "db1": ("db",), "db2": ("db",)},
    rules=(cidr_rule("to web", "web", "192.0.2.0/24"), cidr_rule("to db", "db", "198.51.100.0/24")),
)
MARGIN = 60.0


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(CLOUD) as rig:
        yield rig


@pytest.fixture
def agent(rig: Rig) -> Manager:
    agent = rig.manager()
    for number, nic in enumerate(("web1", "db1"), 5):
        agent.wait_state(rig.plug(nic, number), "active")
        rig.wait_nic(nic, "hv1", "up")
    return agent


def limit(rig: Rig, agent: Manager, table: str) -> None:
    """The table takes no more flows than it has."""
    in_use = sum(flow["table"] == table for flow in agent.get("/admin/flows")[1]["flows"])
    set_limit(rig, table, in_use)


def set_limit(rig: Rig, table: str, flows: int) -> None:
    row = rig.sandbox.vsctl("--bare", "--columns=_uuid", "find", "Flow_Table", f"name={table}")
    rig.sandbox.vsctl("set", "Flow_Table", row, f"flow_limit={flows}", "overflow_policy=refuse")


def problems(agent: Manager) -> int:
    found = re.search(r"^sgctl_problems ([\d.]+)$", agent.get("/metrics")[1], re.MULTILINE)
    return round(float(found[1])) if found else 0


def verdict(agent: Manager, source: str, target: str) -> str:
    query = f"/admin/trace?in_port=uplink&src={source}&dst={target}&proto=tcp&dport=80"
    return str(agent.get(query)[1]["verdict"])


def test_a_port_that_is_refused_opens_by_itself_when_it_can(rig: Rig, agent: Manager) -> None:
    limit(rig, agent, "SOURCE_GUARD")
    port = rig.plug("db2", 7)
    agent.wait_state(port, "closed", "refused by the switch")
    assert {name: one["state"] for name, one in agent.ports().items() if name in ("tap5", "tap6")} == {
        "tap5": "active", "tap6": "active",
    }  # fmt: skip
    set_limit(rig, "SOURCE_GUARD", 10_000)
    eventually(lambda: agent.ports()[port]["state"] == "active", MARGIN)
    rig.wait_nic("db2", "hv1", "up")


def test_rules_that_are_refused_close_their_groups_and_no_other(rig: Rig, agent: Manager) -> None:
    before = rig.cookies()
    limit(rig, agent, "INGRESS_RULES")
    rig.database.write([Insert(cidr_rule("more", "web", "203.0.113.0/24"))])
    eventually(lambda: problems(agent) == 1)
    assert "the switch refuses policy/" in agent.log.read_text()
    assert verdict(agent, "203.0.113.7", "10.1.0.11") == "dropped"
    assert verdict(agent, "198.51.100.7", "10.1.0.12") == "delivered"
    assert agent.ports()["tap6"]["state"] == "active"
    set_limit(rig, "INGRESS_RULES", 10_000)
    eventually(lambda: verdict(agent, "203.0.113.7", "10.1.0.11") == "delivered", MARGIN)
    assert verdict(agent, "192.0.2.7", "10.1.0.11") == "delivered"
    eventually(lambda: before <= rig.cookies() and problems(agent) == 0)


def test_nothing_is_tried_again_where_nothing_was_refused(rig: Rig, agent: Manager) -> None:
    ages = rig.ages()
    rig.set_external_id("tap6", "iface-id", uid("nobody"))
    agent.wait_state("tap6", "closed")
    rig.set_external_id("tap6", "iface-id", uid("db1"))
    agent.wait_state("tap6", "active")
    assert set(rig.ages()) == set(ages)
