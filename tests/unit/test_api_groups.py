# SPDX-License-Identifier: Apache-2.0
"""Security groups and their rules: api.md's semantics by example."""

from typing import Any

import pytest

from tests.unit.api_memory import Client, Cloud, deploy


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def web(cloud: Cloud) -> Client:
    """An account with a group web."""
    client = cloud.account("web")
    client.ok("createSecurityGroup", name="web", description="servers")
    return client


@pytest.fixture
def operator(cloud: Cloud) -> Client:
    """Another account with groups."""
    client = cloud.account("operator")
    for name in ("nagios", "cacti"):
        client.ok("createSecurityGroup", name=name)
    return client


def authorize(client: Client, way: str = "Ingress", **params: object) -> list[dict[str, Any]]:
    params = {"securitygroupname": "web", "cidrlist": "10.0.0.0/8", **params}
    answer = client.ok(f"authorizeSecurityGroup{way}", **params)["securitygroup"]
    assert answer["name"] == "web"
    rules = answer[f"{way.lower()}rule"]
    for rule in rules:
        assert rule.pop("ruleid")
        assert rule.pop("tags") == []
    assert isinstance(rules, list)
    return rules


def refused(client: Client, way: str = "Ingress", **params: object) -> tuple[int, str]:
    params = {"securitygroupname": "web", "cidrlist": "10.0.0.0/8", **params}
    before = listed(client)
    answer = client.refused(f"authorizeSecurityGroup{way}", **params)
    assert listed(client) == before
    return answer


def listed(client: Client, name: str = "web") -> Any:
    return client.ok("listSecurityGroups", securitygroupname=name)["securitygroup"][0]


def test_a_new_account_has_one_group_without_rules(cloud: Cloud) -> None:
    params = {"email": "a@b", "firstname": "a", "lastname": "b", "password": "x"}
    account = cloud.admin.ok("createAccount", accounttype=0, username="New", **params)["account"]
    (group,) = cloud.admin.ok("listSecurityGroups", account="new", domainid=account["domainid"])["securitygroup"]
    assert (group["name"], group["ingressrule"], group["egressrule"]) == ("default", [], [])
    for name in ("new", "NEW"):
        answer = cloud.admin.refused("createAccount", accounttype=0, username=name, **params)
        assert answer[0] == 431


def test_names_are_unique_whatever_their_case(web: Client, operator: Client) -> None:
    code, text = web.refused("createSecurityGroup", name="WEB")
    assert (code, "already exists" in text) == (431, True)
    operator.ok("createSecurityGroup", name="web")
    web.ok("createSecurityGroup", name="db")
    assert web.refused("updateSecurityGroup", id=listed(web)["id"], name="DB")[0] == 431
    assert web.ok("updateSecurityGroup", id=listed(web)["id"], name="Web")["securitygroup"]["name"] == "Web"


@pytest.mark.parametrize("name", ["default", "Default"])
def test_the_default_group_stays(web: Client, name: str) -> None:
    default = listed(web, "default")
    assert web.refused("deleteSecurityGroup", name=name)[0] == 431
    assert web.refused("updateSecurityGroup", id=default["id"], name="other")[0] == 431
    assert web.refused("updateSecurityGroup", id=listed(web)["id"], name=name)[0] == 431
    assert web.refused("createSecurityGroup", name=name)[0] == 431


def test_a_group_is_deleted_by_id_or_by_name(web: Client) -> None:
    group = listed(web)
    assert web.refused("deleteSecurityGroup")[0] == 431
    assert web.refused("deleteSecurityGroup", id=group["id"], name="web")[0] == 431
    authorize(web)
    assert web.ok("deleteSecurityGroup", id=group["id"]) == {"success": True}
    assert web.refused("deleteSecurityGroup", id=group["id"])[0] == 431
    assert web.refused("deleteSecurityGroup", name="web")[0] == 431


def test_a_group_in_use_is_not_deleted(cloud: Cloud, web: Client, operator: Client) -> None:
    authorize(web, usersecuritygrouplist="nagios", account="operator")
    assert operator.refused("deleteSecurityGroup", name="nagios")[0] == 536
    zone = cloud.zone()
    cloud.pod(zone)
    vm = deploy(web, zone, securitygroupnames="web")
    assert web.refused("deleteSecurityGroup", name="web")[0] == 536
    web.ok("destroyVirtualMachine", id=vm["id"])
    web.ok("deleteSecurityGroup", name="web")
    operator.ok("deleteSecurityGroup", name="nagios")


def test_rules_are_listed_as_they_came_and_those_of_one_command_in_order(web: Client) -> None:
    cidrs = [f"10.{number}.0.0/16" for number in range(1, 10)]
    authorize(web, cidrlist="192.0.2.0/24", protocol="tcp", startport=80)
    given = ",".join(reversed(cidrs))
    assert [rule["cidr"] for rule in authorize(web, cidrlist=given, protocol="udp", startport=53)] == cidrs
    authorize(web, cidrlist="10.0.0.0/8", protocol="icmp")
    assert [rule["cidr"] for rule in listed(web)["ingressrule"]] == ["192.0.2.0/24", *cidrs, "10.0.0.0/8"]


def test_a_group_that_names_itself_may_be_deleted(web: Client) -> None:
    authorize(web, usersecuritygrouplist="web", account="web")
    web.ok("deleteSecurityGroup", name="web")


def test_the_missions_example(web: Client, operator: Client) -> None:
    port = {"protocol": "tcp", "startport": 12489, "endport": 12489}
    expected = [{**port, "account": "operator", "securitygroupname": name} for name in ("nagios", "cacti")]
    rules = authorize(web, **port, cidrlist="", usersecuritygrouplist="nagios,cacti", account="operator")
    assert sorted(rules, key=str) == sorted(expected, key=str)


def test_named_groups_as_a_map(web: Client, operator: Client) -> None:
    entries = {
        "usersecuritygrouplist[3].account": "Operator",
        "usersecuritygrouplist[3].group": "Nagios",
        "usersecuritygrouplist[0].account": "web",
        "usersecuritygrouplist[0].group": "web",
    }
    rules = authorize(web, cidrlist="10.0.0.0/8", **entries)
    assert {(rule.get("account"), rule.get("securitygroupname"), rule.get("cidr")) for rule in rules} == {
        ("operator", "nagios", None),
        ("web", "web", None),
        (None, None, "10.0.0.0/8"),
    }


@pytest.mark.parametrize(
    "entries",
    [
        {"usersecuritygrouplist": "nagios"},
        {"usersecuritygrouplist": "nagios", "account": "nobody"},
        {"usersecuritygrouplist": "nagios,munin", "account": "operator"},
        {"usersecuritygrouplist[0].group": "nagios"},
        {"usersecuritygrouplist[0].account": "operator"},
        {"usersecuritygrouplist[0].account": "operator", "usersecuritygrouplist[0].group": "munin"},
        {"usersecuritygrouplist[0].account": "nobody", "usersecuritygrouplist[0].group": "nagios"},
        {"usersecuritygrouplist[0].account": "", "usersecuritygrouplist[0].group": "nagios"},
        {"cidrlist": ""},
        {"cidrlist": ",,"},
        {"cidrlist": "10.0.0.0/8,10.0.0.0/33"},
        {"cidrlist": "192.0.2.1"},
        {"startport": 90, "endport": 80, "protocol": "tcp"},
        {"startport": "x", "protocol": "tcp"},
        {"startport": "1" * 20, "protocol": "tcp"},
        {"startport": 80},
        {"protocol": "tcp"},
        {"protocol": "icmp", "icmpcode": 0},
        {"securitygroupid": "7cc5c9e0-dd26-5b95-8df3-d973291584de", "securitygroupname": ""},
        {"securitygroupid": "x", "securitygroupname": ""},
        {"securitygroupid": "7cc5c9e0-dd26-5b95-8df3-d973291584de"},
        {"securitygroupname": ""},
        {"securitygroupname": "db"},
        {"projectid": "7cc5c9e0-dd26-5b95-8df3-d973291584de"},
        {"domainid": "7cc5c9e0-dd26-5b95-8df3-d973291584de"},
    ],
    ids=str,
)
def test_a_bad_rule_changes_nothing(web: Client, operator: Client, entries: dict[str, object]) -> None:
    assert refused(web, **entries)[0] == 431


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ({}, {"protocol": "all"}),
        ({"protocol": "ICMP"}, {"protocol": "icmp", "icmptype": -1, "icmpcode": -1}),
        ({"protocol": "1", "icmptype": 0, "icmpcode": 0}, {"protocol": "icmp", "icmptype": 0, "icmpcode": 0}),
        ({"protocol": "UDP", "startport": 0, "endport": 0}, {"protocol": "udp", "startport": 0, "endport": 65535}),
        ({"protocol": "6", "startport": 22}, {"protocol": "tcp", "startport": 22, "endport": 22}),
        ({"protocol": "47"}, {"protocol": "47"}),
        ({"protocol": "esp"}, {"protocol": "esp"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("way", ["Ingress", "Egress"])
def test_rules_as_they_are_shown(web: Client, way: str, asked: dict[str, Any], shown: dict[str, Any]) -> None:
    assert authorize(web, way, **asked) == [{**shown, "cidr": "10.0.0.0/8"}]


def test_a_cidr_is_shown_as_it_was_given_and_compared_by_what_it_means(web: Client) -> None:
    assert [rule["cidr"] for rule in authorize(web, cidrlist="10.1.2.3/8")] == ["10.1.2.3/8"]
    code, text = refused(web, cidrlist="10.0.0.0/8,::ffff:10.9.9.9/104")
    assert (code, "ingress everything from 10.0.0.0/8" in text) == (431, True)
    assert [rule["cidr"] for rule in authorize(web, cidrlist="10.0.0.0/8,FD00::/8,fd00::1/8")] == ["FD00::/8"]
    authorize(web, "Egress", cidrlist="10.0.0.0/8")


def test_a_rule_is_revoked_in_its_direction_only(web: Client) -> None:
    authorize(web)
    rule = listed(web)["ingressrule"][0]["ruleid"]
    assert web.refused("revokeSecurityGroupEgress", id=rule)[0] == 431
    assert web.ok("revokeSecurityGroupIngress", id=rule) == {"success": True}
    assert web.refused("revokeSecurityGroupIngress", id=rule)[0] == 431
    assert listed(web)["ingressrule"] == []


def test_jobs_are_what_clients_expect(web: Client) -> None:
    answer = web.call("authorizeSecurityGroupIngress", securitygroupname="web", cidrlist="10.0.0.0/8")
    assert (answer.key, list(answer.content)) == ("authorizesecuritygroupingressresponse", ["jobid"])
    job = web.ok("queryAsyncJobResult", jobid=answer.content["jobid"])
    assert (job["jobstatus"], job["jobprocstatus"], job["jobresultcode"], job["jobresulttype"]) == (1, 0, 0, "object")
    assert (job["cmd"], job["accountid"], job["userid"]) == (
        "authorizeSecurityGroupIngress",
        web.account.id,
        web.user.id,
    )
    assert web.refused("queryAsyncJobResult", jobid="7cc5c9e0-dd26-5b95-8df3-d973291584de")[0] == 431
    assert web.ok("listAsyncJobs")["count"] == 1
    assert web.ok("listAsyncJobs", startdate="2099-01-01") == {}
    assert web.refused("listAsyncJobs", startdate="soon")[0] == 431
