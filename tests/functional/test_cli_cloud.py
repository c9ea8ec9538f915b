# SPDX-License-Identifier: Apache-2.0
"""The `sgctl` command in a real cloud: typed lines against the real API and real agents."""

import json
from dataclasses import replace
from subprocess import CompletedProcess
from typing import Any

import pytest

from devstack.lab import Lab
from devstack.lab.api import Account
from devstack.lab.example import MISSION_RULE, Example, build
from devstack.lab.namespace import wait_for


@pytest.fixture(scope="module")
def example(module_lab: Lab) -> Example:
    """The demo's cloud, with the mission's rule typed as it is written."""
    example = build(module_lab, lambda step: None)
    typed = example.cloud.accounts["shop"].type(MISSION_RULE)
    assert typed.returncode == 0, typed.stderr
    return example


@pytest.fixture
def shop(example: Example) -> Account:
    return example.cloud.accounts["shop"]


@pytest.fixture
def admin(example: Example) -> Account:
    """The administrator, at the first hypervisor."""
    return replace(example.cloud.admin, desk=example.cloud.hypervisors[0].namespace)


def said(done: CompletedProcess[str]) -> str:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def parsed(account: Account, line: str) -> Any:
    return json.loads(said(account.type(f"{line} -o json")))


def test_the_rule_reads_as_it_was_meant(shop: Account) -> None:
    assert "tcp 12489 from operator/cacti, operator/nagios" in said(shop.type("sgctl list securitygroups"))
    group = said(shop.type("sgctl list securitygroups securitygroupname=web"))
    assert "tcp 12489      operator/nagios" in group


def test_typing_it_again_is_refused_in_one_sentence(shop: Account) -> None:
    again = shop.type(MISSION_RULE)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("sgctl: error 431: ") and again.stderr.count("\n") == 1


def test_vms_with_their_hosts(admin: Account) -> None:
    lines = said(admin.type("sgctl list virtualmachines listall=true")).splitlines()
    assert lines[0].split() == ["name", "state", "host", "account", "addresses", "groups", "id"]
    web1 = next(line.split() for line in lines if line.startswith("web1 "))
    assert web1[1:4] == ["Running", "hv1", "shop"] and web1[5] == "web"


@pytest.mark.parametrize(
    ("line", "status", "error"),
    [
        ("sgctl list securitygroups listall=true", 0, ""),
        ("sgctl create zone name=x", 1, "may not call createZone"),
        ("sgctl revoke securitygroupingress id=00000000-0000-4000-8000-000000000000", 1, "error 431"),
        ("sgctl authorize securitygroupingress securitygroupname=web protokol=tcp", 2, "did you mean protocol?"),
        ("CLOUDSTACK_SECRET=wrong sgctl list zones", 1, "check the key and the secret in the environment"),
    ],
)
def test_users_are_told(shop: Account, line: str, status: int, error: str) -> None:
    done = shop.type(line)
    assert done.returncode == status
    assert error in done.stderr


def test_ports(admin: Account) -> None:
    lines = said(admin.type("sgctl ports")).splitlines()
    assert lines[0] == "br-int on hv1"
    assert any(line.startswith("eth1 ") and "uplink" in line for line in lines)
    assert any(line.split()[2:5] == ["active", "web1", "shop"] for line in lines if line.startswith("tap"))
    assert said(admin.type("sgctl ports --host hv1")).splitlines() == lines


def test_hosts(admin: Account) -> None:
    lines = said(admin.type("sgctl hosts")).splitlines()
    assert lines[0].split()[:5] == ["name", "state", "version", "up", "closed"]
    assert [line.split()[:2] for line in lines[1:3]] == [["hv1", "Up"], ["hv2", "Up"]]
    assert all(int(line.split()[3]) > 0 for line in lines[1:3])


def test_ports_of_the_whole_cloud(admin: Account, shop: Account, example: Example) -> None:
    lines = said(admin.type("sgctl ports --all")).splitlines()
    assert len({line.split()[0] for line in lines[1:]} & set(example.machines)) == len(example.machines)
    assert any(line.split()[:4] == ["web1", "shop", "hv1", "up"] for line in lines)
    assert shop.type("sgctl ports --all").returncode == 1


def test_wait_until_all_is_active(admin: Account) -> None:
    assert said(admin.type("sgctl wait")).startswith("active on 2 of 2 hosts after ")
    hosts = parsed(admin, "sgctl hosts")["host"]
    assert {host["lag"] for host in hosts} == {0}
    assert parsed(admin, "sgctl wait hosts=hv2 timeout=20")["slowest"][0]["name"] == "hv2"


def test_flows_of_a_table_with_owner_and_rule(admin: Account) -> None:
    lines = said(admin.type("sgctl flows --table INGRESS_RULES")).splitlines()
    assert {line.split()[0] for line in lines[2:]} == {"INGRESS_RULES"}
    assert any("shop/web" in line and "tcp 12489 from operator/nagios" in line for line in lines)


def test_a_flows_cookie_is_explained(admin: Account) -> None:
    flows = parsed(admin, "sgctl flows")["flows"]
    flow = next(flow for flow in flows if "tcp 12489 from operator/nagios" in (flow["rule"] or ""))
    assert "tcp 12489 from operator/nagios" in said(admin.type(f"sgctl explain {flow['cookie']}")).splitlines()[0]


@pytest.mark.parametrize(("port", "end"), [(12489, "=> delivered to tap"), (12488, "=> dropped: no ingress rule")])
def test_a_trace(admin: Account, example: Example, port: int, end: str) -> None:
    source, target = example.vm("nagios1").address(), example.vm("web1").address()
    text = said(admin.type(f"sgctl trace in_port=uplink src={source} dst={target} proto=tcp dport={port}"))
    assert text.startswith("CLASSIFIER: from the wire")
    assert text.splitlines()[-1].startswith(end)


def test_drops_are_counted(admin: Account, example: Example) -> None:
    before = packets(admin, "no ingress rule")
    example.vm("jump1").probe("tcp", example.vm("db1").address(), 22)
    wait_for("them to be counted", lambda: packets(admin, "no ingress rule") > before)
    assert "no ingress rule" in said(admin.type("sgctl drops"))


def packets(account: Account, reason: str) -> int:
    return sum(drop["packets"] for drop in parsed(account, "sgctl drops")["drops"] if drop["reason"] == reason)


def test_the_shells_are_offered_the_apis_own_commands(shop: Account) -> None:
    offered = said(shop.type("sgctl __complete 'sgctl authorize securitygroupingress '")).splitlines()
    assert {"securitygroupname=", "usersecuritygrouplist=", "protocol="} <= set(offered)
