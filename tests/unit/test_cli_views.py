# SPDX-License-Identifier: Apache-2.0
"""What people see: rules in words, columns for reading, single objects."""

import io
from typing import Any

import pytest

from sgctl.cli import views
from sgctl.cli.blocks import Table
from sgctl.cli.rules import in_words, traffic
from sgctl.cli.screen import drawn

WEB_RULES = [
    {"ruleid": "r1", "protocol": "tcp", "startport": 80, "endport": 80, "cidr": "0.0.0.0/0"},
    {"ruleid": "r2", "protocol": "tcp", "startport": 12489, "endport": 12489}
    | {"account": "operator", "securitygroupname": "nagios"},
    {"ruleid": "r3", "protocol": "tcp", "startport": 12489, "endport": 12489}
    | {"account": "operator", "securitygroupname": "cacti"},
    {"ruleid": "r4", "protocol": "icmp", "icmptype": 8, "icmpcode": -1, "cidr": "10.0.0.0/8"},
]
WEB = {"id": "g-1", "name": "web", "account": "shop", "ingressrule": WEB_RULES, "egressrule": []}
DEFAULT = {"id": "g-0", "name": "default", "account": "shop", "ingressrule": [], "egressrule": []}
NIC = {"id": "n-1", "macaddress": "02:00:00:00:00:01", "ipaddress": "10.1.0.5", "gateway": "10.1.0.1"} | {
    "ip6address": "2001:db8::5",
    "secondaryip": [{"id": "s-1", "ipaddress": "10.1.0.9"}],
}
VM = {"id": "v-1", "name": "web1", "account": "shop", "state": "Running", "hostname": "hv1", "nic": [NIC]} | {
    "securitygroup": [{"id": "g-1", "name": "web"}, {"id": "g-0", "name": "default"}]
}


def shown(content: dict[str, Any]) -> str:
    return drawn(views.blocks(content), io.StringIO())


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"protocol": "all"}, "everything"),
        ({"protocol": "tcp", "startport": 22, "endport": 22}, "tcp 22"),
        ({"protocol": "udp", "startport": 0, "endport": 53}, "udp 0-53"),
        ({"protocol": "tcp", "startport": 1, "endport": 65535}, "tcp any port"),
        ({"protocol": "tcp", "startport": 0, "endport": 65535}, "tcp any port"),
        ({"protocol": "icmp", "icmptype": -1, "icmpcode": -1}, "icmp any type"),
        ({"protocol": "icmp", "icmptype": 0, "icmpcode": 0}, "icmp type 0 (echo reply) code 0"),
        ({"protocol": "icmp", "icmptype": 42, "icmpcode": -1}, "icmp type 42"),
        ({"protocol": "gre"}, "gre"),
        ({"protocol": "112"}, "112"),
    ],
)
def test_traffic_in_words(rule: dict[str, Any], words: str) -> None:
    assert traffic(rule) == words


def test_rules_of_the_same_traffic_share_a_line() -> None:
    assert in_words(WEB_RULES, egress=False).splitlines() == [
        "icmp type 8 (echo request) from 10.0.0.0/8",
        "tcp 80 from anywhere (IPv4)",
        "tcp 12489 from operator/cacti, operator/nagios",
    ]
    assert in_words([{"protocol": "all", "cidr": "::/0"}], egress=True) == "everything to anywhere (IPv6)"


def test_groups_are_listed_with_their_rules() -> None:
    lines = shown({"count": 2, "securitygroup": [WEB, DEFAULT]}).splitlines()
    assert lines[0].split() == ["name", "account", "ingress", "id"]
    assert lines[1].startswith("web      shop     icmp type 8 (echo request) from 10.0.0.0/8; tcp 80 from anywhere")
    assert lines[1].endswith("; tcp 12489 from operator/cacti, operator/nagios  g-1")
    assert lines[2].split() == ["default", "shop", "g-0"]


def test_a_single_group_shows_the_ids_of_its_rules() -> None:
    text = shown({"count": 1, "securitygroup": [WEB]})
    assert "name     web\n" in text
    assert "ingress rules\n" in text and "egress rules" not in text
    assert "tcp 12489                   operator/cacti   r3\n" in text
    assert text == shown({"securitygroup": WEB})


def test_vms_are_listed_with_host_addresses_and_groups() -> None:
    lines = shown({"count": 1, "virtualmachine": [VM]}).splitlines()
    assert lines[0].split() == ["name", "state", "host", "account", "addresses", "groups", "id"]
    assert lines[1:] == ["web1  Running  hv1   shop     10.1.0.5,2001:db8::5,10.1.0.9  web,default  v-1"]


def test_a_single_vm_as_fields() -> None:
    lines = shown({"virtualmachine": VM}).splitlines()
    assert "state          Running" in lines
    assert "nic            02:00:00:00:00:01 10.1.0.5 2001:db8::5 10.1.0.9 (n-1)" in lines
    assert "securitygroup  web (g-1); default (g-0)" in lines


def test_objects_nobody_chose_columns_for() -> None:
    content = {"count": 2, "shed": [{"id": 1, "colour": "red", "name": "a", "list": []}, {"id": 2, "tall": True}]}
    assert views.blocks(content) == [
        Table(("name", "colour", "tall", "id"), (("a", "red", "", "1"), ("", "", "true", "2")))
    ]


def test_the_zero_is_shown() -> None:
    assert views.blocks({"shed": {"n": 0, "none": None}}) == views.blocks({"shed": {"n": 0, "none": ""}})
    assert "n     0\n" in shown({"shed": {"n": 0, "none": None}})


def test_what_stands_beside_an_object_is_shown_too() -> None:
    lines = shown({"securitygroup": WEB, "hosts": 2}).splitlines()
    assert lines[0] == "id       g-1" and lines[-2:] == ["", "hosts  2"]


def test_a_job_shows_its_state_then_its_result() -> None:
    job = {"jobid": "job-1", "jobstatus": 1, "jobresult": {"virtualmachine": VM}}
    assert shown(job).startswith("jobid      job-1\njobstatus  1\n\nid             v-1\n")
    assert shown({**job, "jobresult": {"success": True}}).endswith("\n\ndone\n")


def test_jobs_are_listed_with_their_state_in_a_word() -> None:
    jobs = [{"cmd": "addIpToNic", "jobstatus": status, "jobid": f"j-{status}"} for status in (0, 1, 2)]
    lines = shown({"count": 3, "asyncjobs": jobs}).splitlines()
    assert [line.split()[1] for line in lines] == ["state", "running", "done", "failed"]


def test_objects_within_others_are_named() -> None:
    assert views.cell(WEB_RULES[1:2]) == "tcp 12489 operator/nagios (r2)"
    assert views.cell([{"id": "u-1", "username": "bob", "email": "b@x"}]) == "bob (u-1)"
    assert views.cell([{"vmid": "v", "vmip": None}]) == "vmid=v"


@pytest.mark.parametrize("success", [True, "true"])
def test_success(success: object) -> None:
    assert shown({"success": success}) == "done\n"
    assert shown({"success": success, "displaytext": "well done"}) == "well done\n"


def test_nothing_is_cut_when_it_is_not_a_terminal() -> None:
    long = "x" * 5000
    assert long in shown({"count": 1, "zone": [{"name": long, "id": "z"}]})


def test_markup_and_control_characters_are_only_text() -> None:
    assert "[red]a[/red] \\x1b[31m \\u202e" in shown({"zone": {"name": "[red]a[/red] \x1b[31m \u202e"}})


def test_wide_letters_keep_the_columns_aligned() -> None:
    lines = shown({"count": 2, "zone": [{"name": "東京", "id": "1"}, {"name": "abcd", "id": "2"}]}).splitlines()
    assert lines[1:] == ["東京  1", "abcd  2"]


FORCE = {"hosts": 2, "milliseconds": 14, "slowest": [{"name": "hv2", "milliseconds": 14}]}
IN_FORCE = "active on 2 of 2 hosts after 14 ms; slowest: hv2 14 ms\n"


@pytest.mark.parametrize("content", [{"securitygroup": WEB}, {"success": True}], ids=["authorize", "revoke"])
def test_what_was_waited_for_reads_as_without_and_a_sentence(content: dict[str, Any]) -> None:
    assert shown({**content, **FORCE}) == f"{shown(content)}\n{IN_FORCE}"
    assert shown({"jobresult": {**content, **FORCE}}) == f"{shown(content)}\n{IN_FORCE}"


def test_a_barrier_is_a_sentence() -> None:
    assert shown(FORCE) == IN_FORCE


def test_columns_of_what_was_waited_for() -> None:
    waited = {"securitygroup": WEB, **FORCE}
    assert drawn(views.blocks(waited, ["name"]), io.StringIO()) == f"name  web\n\n{IN_FORCE}"
    assert views.reduced(waited, ["name"]) == {"securitygroup": {"name": "web"}, **FORCE}
    assert views.unknown(waited, ["name"]) == ""
