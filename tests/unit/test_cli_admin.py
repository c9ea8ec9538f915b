# SPDX-License-Identifier: Apache-2.0
"""`sgctl flows`, `ports`, `trace`, `explain`, `drops` and `costs` against an admin endpoint."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli_server import Api, serving

FLOW: dict[str, Any] = {
    "table": "CLASSIFIER",
    "table_id": 0,
    "priority": 100,
    "match": "in_port=5",
    "actions": "goto_table:1",
    "cookie": "0x1a",
    "packets": 7,
    "bytes": 700,
    "owner": "port/n-1",
    "owner_name": "tap1 (web1)",
    "note": "from a VM",
    "rule": "tcp 80 from 0.0.0.0/0",
    "foreign": False,
}
PLACE = {"host": "hv1", "bridge": "br-int"}
PORT: dict[str, Any] = {
    "name": "tap1",
    "ofport": 5,
    "nic": "n-1",
    "vm": "web1",
    "vmid": "v-1",
    "account": "shop",
    "mac": "02:00:00:00:00:01",
    "addresses": ["10.1.0.5", "2001:db8::5"],
    "groups": ["shop/web"],
    "state": "active",
    "reason": "",
}
STEP = {"table": "CLASSIFIER", "flow": "priority=100,in_port=5", "owner": "port/n-1", "note": "", "actions": "next"}


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Api]:
    with serving(tmp_path) as served:
        yield served


def test_flows(agent: Api) -> None:
    foreign = {**FLOW, "foreign": True, "match": "", "rule": None}
    agent.answer("/admin/flows", {**PLACE, "flows": [FLOW, foreign]})
    lines = agent.run("flows", "--table", "CLASSIFIER").out.splitlines()
    assert agent.calls == [("/admin/flows", {"table": "CLASSIFIER"})]
    assert lines[0] == "br-int on hv1"
    assert lines[1].split() == ["table", "priority", "packets", "owner", "match", "why", "cookie", "actions"]
    assert "tap1 (web1)" in lines[2] and "from a VM: tcp 80 from 0.0.0.0/0" in lines[2]
    assert "not ours" in lines[3] and " any " in lines[3]


def test_an_unknown_table(agent: Api) -> None:
    agent.answer("/admin/flows", {"error": "no table X; tables: CLASSIFIER"}, status=404)
    result = agent.run("flows", "table=X")
    assert (result.status, result.out, result.err) == (1, "", "sgctl: error: no table X; tables: CLASSIFIER\n")


def test_ports(agent: Api) -> None:
    closed = {**PORT, "name": "tap2", "ofport": None, "vm": None, "addresses": [], "state": "closed"}
    agent.answer("/admin/ports", {**PLACE, "ports": [PORT, {**closed, "reason": "attached-mac is not the NIC's"}]})
    lines = agent.run("ports").out.splitlines()
    assert lines[2].split() == ["tap1", "5", "active", "web1", "shop", PORT["mac"], "10.1.0.5,2001:db8::5", "shop/web"]
    assert lines[3].startswith("tap2") and lines[3].endswith("attached-mac is not the NIC's")


def test_a_trace_reads_as_sentences(agent: Api) -> None:
    answer = {"host": "hv1", "verdict": "dropped", "where": None, "reason": "no rule admits it"}
    agent.answer("/admin/trace", {**answer, "steps": [{**STEP, "text": "The packet comes from web1."}]})
    result = agent.run("trace", "in_port=tap1", "src=10.1.0.5", "dst=10.1.0.6", "proto=tcp", "dport=80")
    assert agent.calls[-1][1] == {
        "in_port": "tap1",
        "src": "10.1.0.5",
        "dst": "10.1.0.6",
        "proto": "tcp",
        "dport": "80",
    }
    assert result.out.splitlines() == [
        "CLASSIFIER: The packet comes from web1.",
        "    priority=100,in_port=5",
        "    next",
        "=> dropped: no rule admits it",
    ]


@pytest.mark.parametrize("cookie", ["0x1a", "1a", "0X1A"])
def test_explain(agent: Api, cookie: str) -> None:
    agent.answer("/admin/explain/0x1a", {**FLOW, "text": "Admits web1 to the pipeline."})
    lines = agent.run("explain", cookie).out.splitlines()
    assert lines[0] == "Admits web1 to the pipeline."
    assert "owner_name  tap1 (web1)" in lines


def test_drops_most_frequent_first(agent: Api) -> None:
    drops = [{"reason": "spoofed source", "table": "GUARD", "packets": n} for n in (1, 10, 0, 2)]
    agent.answer("/admin/drops", {"drops": drops})
    *table, empty, rest = agent.run("drops").out.splitlines()
    assert [line.split()[0] for line in table] == ["packets", "10", "2", "1"]
    assert (empty, rest) == ("", "(reasons that have not occurred: 1; -o json names them)")


def test_costs_name_what_takes_many_flows(agent: Api) -> None:
    rule = {"id": "0b3e", "rule": "shop/web: ingress tcp 1-65534 from 10.0.0.0/8", "flows": 31}
    owners = [{"owner": "policy/1", "owner_name": "shop/web", "flows": 40}]
    kinds, groups = [{"kind": "policy", "flows": 40}], [{"group": "shop/db", "addresses": 9}]
    answer = {**PLACE, "flows": 90, "kinds": kinds, "owners": owners, "rules": [rule], "groups": groups}
    agent.answer("/admin/costs", answer)
    shown = agent.run("costs").out
    for words in ("40 policy", "40 shop/web policy/1", f"31 {rule['rule']} 0b3e", "9 shop/db", "90 flows altogether"):
        assert words in " ".join(shown.split()), shown


def test_json_is_the_answer_itself(agent: Api) -> None:
    agent.answer("/admin/ports", {**PLACE, "ports": [PORT]})
    assert agent.run("ports", "-o", "json").json == {**PLACE, "ports": [PORT]}


def test_a_host_is_found_by_address(agent: Api) -> None:
    agent.answer("/admin/ports", {**PLACE, "ports": []})
    port = agent.url.rpartition(":")[2]
    assert agent.run("ports", "--host", f"127.0.0.1:{port}", SGCTL_ADMIN="").status == 0


def test_a_host_is_found_by_the_name_that_the_api_has_for_it(agent: Api) -> None:
    hosts = [{"name": "hv10", "ipaddress": "127.0.0.9"}, {"name": "hv1", "ipaddress": "127.0.0.1"}]
    agent.answer("listHosts", {"count": 2, "host": hosts})
    agent.answer("/admin/ports", {**PLACE, "ports": []})
    port = agent.url.rpartition(":")[2]
    assert agent.run("ports", "--host", f"hv1:{port}").status == 0
    assert agent.asked("listHosts") == [{"name": "hv1"}]


def test_a_host_is_found_here(agent: Api) -> None:
    agent.answer("/admin/ports", {**PLACE, "ports": []})
    agent.answer("/admin/drops", {"drops": []})
    assert agent.run("drops", "--host", "hv1").status == 0


def test_a_host_that_cannot_be_reached(agent: Api) -> None:
    result = agent.run("ports", "--host", "127.0.0.1:1")
    assert result.status == 1
    assert "cannot reach http://127.0.0.1:1/admin/ports: connection refused" in result.err
    assert "an agent listens only on its own machine" in result.err


def test_no_keys_are_needed(agent: Api) -> None:
    agent.answer("/admin/ports", {**PLACE, "ports": []})
    assert agent.run("ports", CLOUDSTACK_ENDPOINT="", CLOUDSTACK_KEY="", CLOUDSTACK_SECRET="").status == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ports tap1", "usage: sgctl ports"),
        ("ports name=tap1", "there is no key name here"),
        ("flows tables=X", "there is no key tables here; keys: table"),
        ("trace", "usage: sgctl trace"),
        ("trace inport=tap1", "there is no key inport here; keys: in_port"),
        ("explain", "usage: sgctl explain COOKIE"),
        ("explain tap1", "cookie 'tap1' is not a hexadecimal number"),
        ("ports --host a/b", "--host 'a/b' is not of the form"),
        ("ports --host a:b", "--host 'a:b' is not of the form"),
        ("ports --host a --admin http://b", "exclude each other"),
    ],
)
def test_lines_that_are_wrong(agent: Api, line: str, message: str) -> None:
    result = agent.run(*line.split())
    assert result.status == 2
    assert message in result.err
    assert {path for path, _ in agent.calls} <= {"/admin/ports"}
