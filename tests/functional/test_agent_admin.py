# SPDX-License-Identifier: Apache-2.0
"""The agent's HTTP endpoint."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.functional.agent_rig import BRIDGE, Manager, Rig
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import mac_of, peer_rule, world

CLOUD = world({"web1": ("web",), "nag1": ("nagios",)}, rules=(peer_rule("r", "web", "nagios"),))


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(CLOUD) as rig:
        yield rig


@pytest.fixture(scope="module")
def agent(rig: Rig) -> Manager:
    agent = rig.manager()
    agent.wait_state(rig.plug("web1", 5), "active")
    return agent


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/admin/nothing", 404, "nothing at /admin/nothing"),
        ("/admin/flows?table=NOWHERE", 404, "no table NOWHERE; tables: CLASSIFIER"),
        ("/admin/explain/0x5c00000000000001", 404, "cookie 0x5c00000000000001: a flow with it is somebody else's"),
        ("/admin/explain/0xffff000000000001", 404, "learned from a packet"),
        ("/admin/explain/zebra", 400, "'zebra' is not a cookie"),
        ("/admin/trace", 400, "in_port is missing"),
        ("/admin/trace?in_port=tap5&src=a&dst=b", 400, "src:"),
    ],
)
def test_errors_are_json_that_says_what_is_wrong(agent: Manager, path: str, status: int, text: str) -> None:
    got, answer = agent.get(path)
    assert (got, list(answer)) == (status, ["error"])
    assert text in answer["error"]


def test_only_reading_is_possible(agent: Manager) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", agent.admin_port, timeout=30)
    connection.request("POST", "/admin/ports", body="x")
    assert connection.getresponse().status == 405
    connection.close()


def test_every_flow_has_an_owner_and_a_reason_and_can_be_explained(agent: Manager) -> None:
    flows = agent.get("/admin/flows")[1]["flows"]
    assert flows == sorted(flows, key=lambda flow: (flow["table_id"], -flow["priority"], flow["match"]))
    assert all(flow["owner"] and flow["note"] and not flow["foreign"] for flow in flows)
    rule = next(flow for flow in flows if flow["rule"])
    status, told = agent.get(f"/admin/explain/{rule['cookie']}")
    assert status == 200 and told["cookie"] == rule["cookie"]
    assert "acme/web: ingress tcp 80 from acme/nagios" in told["text"]


def test_flows_of_one_table(agent: Manager) -> None:
    for name in ("classifier", "CLASSIFIER", "0"):
        answer = agent.get(f"/admin/flows?table={name}")[1]
        assert answer["flows"] and {flow["table"] for flow in answer["flows"]} == {"CLASSIFIER"}
        assert answer["desired"] == len(answer["flows"])


def test_costs_are_those_of_the_switch(rig: Rig, agent: Manager) -> None:
    flows = agent.get("/admin/flows")[1]["flows"]
    found = agent.get("/admin/costs")[1]
    assert found["flows"] == len(flows) == sum(kind["flows"] for kind in found["kinds"])
    policy = [flow for flow in flows if flow["owner"].startswith("policy/")]
    (owner,) = (one for one in found["owners"] if one["owner_name"] == "acme/web")
    assert owner["flows"] == len(policy)
    assert [rule["rule"] for rule in found["rules"]] == ["acme/web: ingress tcp 80 from acme/nagios"]
    assert f'sgctl_largest_flows{{kind="policy"}} {len(policy)}.0' in agent.get("/metrics")[1]


def test_drops_are_counted(rig: Rig, agent: Manager) -> None:
    source = mac_of(9).replace(":", "")
    rig.sandbox.appctl("netdev-dummy/receive", "tap5", "f" * 12 + source + "0806" + "00" * 46)

    def counted() -> bool:
        rig.sandbox.appctl("revalidator/wait")
        return any(drop["packets"] for drop in agent.get("/admin/drops")[1]["drops"])

    eventually(counted)
    assert agent.get("/admin/drops")[1]["bridge"] == BRIDGE
    assert 'sgctl_dropped_packets{reason="' in agent.get("/metrics")[1]


def scrape(agent: Manager) -> dict[str, dict[str, float]]:
    """The agent's samples: name -> labels' values -> value."""
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(agent.get("/metrics")[1]):
        assert family.documentation and family.type in ("counter", "gauge", "histogram"), family
        for sample in family.samples:
            found.setdefault(sample.name, {})[" ".join(sample.labels.values())] = sample.value
    return found


def test_health_and_readiness(agent: Manager) -> None:
    assert agent.get("/healthz")[0] == 200
    assert agent.get("/readyz") == (200, {"ready": True, "switch": True, "database": True, "insync": True})


def test_metrics_say_how_the_host_is(rig: Rig, agent: Manager) -> None:
    agent.wait_ready()
    samples = scrape(agent)
    assert {"active": 1.0, "uplink": 1.0, "closed": 0.0}.items() <= samples["sgctl_ports"].items()
    assert samples["sgctl_flows"] == samples["sgctl_flows_installed"] == {"": float(len(rig.cookies()))}
    assert samples["sgctl_problems"] == samples["sgctl_foreign_cookies"] == {"": 0.0}
    assert samples["sgctl_insync"] == dict.fromkeys(("ready", "switch", "database", "insync"), 1.0)
    assert samples["sgctl_database_lag_seconds"][""] == 0.0
    assert samples["sgctl_flow_mods_total"]["add"] >= samples["sgctl_flows"][""]
    assert samples["sgctl_bundle_errors_total"] == {"refused": 0.0, "switch gone": 0.0}
    assert samples["sgctl_repairs_total"] == {"add": 0.0, "delete": 0.0}
    for name in ("sgctl_bundle_seconds", "sgctl_change_seconds"):
        assert samples[f"{name}_bucket"]["+Inf"] == samples[f"{name}_count"][""] >= 1.0
    assert samples["sgctl_change_seconds_sum"][""] >= samples["sgctl_bundle_seconds_sum"][""]
    assert samples["process_open_fds"][""] > 0


def test_metrics_count_repairs(rig: Rig, agent: Manager) -> None:
    before = len(rig.cookies())
    rig.sandbox.ofctl("del-flows", BRIDGE, "table=0")
    eventually(lambda: scrape(agent)["sgctl_repairs_total"]["add"] > 0 and len(rig.cookies()) == before)
    rig.sandbox.ofctl("add-flow", BRIDGE, "table=0,cookie=0x5c00000000000001,priority=1,udp,actions=drop")
    eventually(lambda: scrape(agent)["sgctl_repairs_total"]["delete"] == 1.0)


def test_metrics_say_how_old_the_knowledge_is(rig: Rig, agent: Manager) -> None:
    rig.stop_database()
    eventually(lambda: scrape(agent)["sgctl_database_lag_seconds"][""] > 0.0)
    rig.start_database()
    eventually(lambda: scrape(agent)["sgctl_database_lag_seconds"][""] == 0.0)


def test_installed_flows_are_told_with_the_number_of_desired_ones(rig: Rig, agent: Manager) -> None:
    before = agent.get("/admin/flows")[1]
    assert before["desired"] == len(before["flows"])

    def some_missing() -> dict[str, Any] | None:
        """Unless the agent has put them back before it was asked."""
        rig.sandbox.ofctl("del-flows", BRIDGE, "table=0")
        after: dict[str, Any] = agent.get("/admin/flows")[1]
        return after if len(after["flows"]) < after["desired"] else None

    after = eventually(some_missing)
    assert after is not None and after["desired"] == before["desired"]
    eventually(lambda: len(rig.cookies()) == before["desired"])
