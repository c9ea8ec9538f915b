# SPDX-License-Identifier: Apache-2.0
"""The agent's HTTP endpoint."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from tests.functional.agent_rig import Manager, Rig
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
        ("/admin/explain/0x5c00000000000001", 404, "0x5c00000000000001"),
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
    connection = http.client.HTTPConnection("127.0.0.1", agent.admin_port, timeout=5)
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
        flows = agent.get(f"/admin/flows?table={name}")[1]["flows"]
        assert flows and {flow["table"] for flow in flows} == {"CLASSIFIER"}


def test_drops_are_counted(rig: Rig, agent: Manager) -> None:
    source = mac_of(9).replace(":", "")
    rig.sandbox.appctl("netdev-dummy/receive", "tap5", "f" * 12 + source + "0806" + "00" * 46)

    def counted() -> bool:
        rig.sandbox.appctl("revalidator/wait")
        return any(drop["packets"] for drop in agent.get("/admin/drops")[1]["drops"])

    eventually(counted)
    assert 'sgctl_dropped_packets{reason="' in agent.get("/metrics")[1]


def test_health_readiness_and_metrics(agent: Manager) -> None:
    assert agent.get("/healthz")[0] == 200
    assert agent.get("/readyz") == (200, {"ready": True, "switch": True, "database": True, "insync": True})
    text = agent.get("/metrics")[1]
    samples = (
        'sgctl_ports{state="active"} 1.0',
        'sgctl_ports{state="uplink"} 1.0',
        "sgctl_problems 0.0",
        'sgctl_insync{part="ready"} 1.0',
        'sgctl_flow_mods_total{kind="add"}',
        "sgctl_bundle_seconds_sum",
    )
    assert [sample for sample in samples if sample not in text] == []
