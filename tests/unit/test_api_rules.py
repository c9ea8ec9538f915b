# SPDX-License-Identifier: Apache-2.0
"""The normal form of security group rules."""

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgctl.rules import RuleError, Traffic, digest, network, traffic, words

GOOD: list[tuple[dict[str, Any], Traffic]] = [
    ({}, Traffic("all", -1)),
    ({"protocol": "ALL"}, Traffic("all", -1)),
    ({"protocol": "TCP", "start": 80, "end": 90}, Traffic("tcp", 6, 80, 90)),
    ({"protocol": "tcp", "start": 80}, Traffic("tcp", 6, 80, 80)),
    ({"protocol": "6", "start": 1, "end": 65535}, Traffic("tcp", 6, 1, 65535)),
    ({"protocol": "17", "start": 0, "end": 0}, Traffic("udp", 17, 0, 65535)),
    ({"protocol": "udp", "start": 0}, Traffic("udp", 17, 0, 65535)),
    ({"protocol": "udp", "start": 0, "end": 5}, Traffic("udp", 17, 0, 5)),
    ({"protocol": "132", "start": 5, "end": 5}, Traffic("sctp", 132, 5, 5)),
    ({"protocol": "icmp"}, Traffic("icmp", 1, -1, -1)),
    ({"protocol": "icmp", "icmp_type": -1, "icmp_code": -1}, Traffic("icmp", 1, -1, -1)),
    ({"protocol": "1", "icmp_type": 0, "icmp_code": 0}, Traffic("icmp", 1, 0, 0)),
    ({"protocol": "icmp", "icmp_type": 0}, Traffic("icmp", 1, 0, -1)),
    ({"protocol": "icmp", "icmp_type": 8, "icmp_code": -1}, Traffic("icmp", 1, 8, -1)),
    ({"protocol": "icmp", "icmp_type": 255, "icmp_code": 255}, Traffic("icmp", 1, 255, 255)),
    ({"protocol": "GRE"}, Traffic("gre", 47)),
    ({"protocol": "50"}, Traffic("50", 50)),
    ({"protocol": "0"}, Traffic("0", 0)),
    ({"protocol": "255"}, Traffic("255", 255)),
]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"protocol": "tpc"}, "not known"),
    ({"protocol": "256"}, "not known"),
    ({"protocol": "-1"}, "not known"),
    ({"protocol": "٦"}, "not known"),
    ({"protocol": "all", "start": 80}, "has no ports"),
    ({"end": 0}, "has no ports"),
    ({"protocol": "esp", "start": 1, "end": 2}, "has no ports"),
    ({"protocol": "icmp", "start": 8, "end": 0}, "has no ports"),
    ({"protocol": "tcp", "icmp_type": 0}, "no ICMP type"),
    ({"protocol": "all", "icmp_code": 0}, "no ICMP type"),
    ({"protocol": "tcp"}, "needs startport"),
    ({"protocol": "sctp", "end": 5}, "needs startport"),
    ({"protocol": "tcp", "start": 90, "end": 80}, "greater than endport"),
    ({"protocol": "tcp", "start": 5, "end": 0}, "greater than endport"),
    ({"protocol": "udp", "start": -1, "end": 5}, "not within"),
    ({"protocol": "udp", "start": 1, "end": 65536}, "not within"),
    ({"protocol": "icmp", "icmp_code": 0}, "needs an icmptype"),
    ({"protocol": "icmp", "icmp_type": -1, "icmp_code": 3}, "needs an icmptype"),
    ({"protocol": "icmp", "icmp_type": 256}, "within -1 to 255"),
    ({"protocol": "icmp", "icmp_type": 3, "icmp_code": -2}, "within -1 to 255"),
]
NETWORKS = [
    ("10.0.0.0/8", "10.0.0.0/8"),
    ("10.1.2.3/8", "10.0.0.0/8"),
    ("0.0.0.0/0", "0.0.0.0/0"),
    ("10.1.2.3/32", "10.1.2.3/32"),
    ("FD00:0:0::1/64", "fd00::/64"),
    ("::/0", "::/0"),
    ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
    ("::ffff:0:0/96", "0.0.0.0/0"),
    ("::/95", "::/95"),
]
NO_NETWORKS = [
    "", "10.0.0.1", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/255.0.0.0", "10.0.0.0/", "/8", "10.0.0/8", "010.0.0.0/8",
    "fd00::/129", "fe80::1%eth0/64", "10.0.0.0/8/8", "10.0.0.0/٨", "10.0.0.0/ 8", "web", "10.0.0.0/8\n",
]  # fmt: skip


@pytest.mark.parametrize(("asked", "normal"), GOOD, ids=str)
def test_traffic(asked: dict[str, Any], normal: Traffic) -> None:
    assert traffic(**asked) == normal


@pytest.mark.parametrize(("asked", "why"), BAD, ids=str)
def test_traffic_that_means_nothing(asked: dict[str, Any], why: str) -> None:
    with pytest.raises(RuleError, match=why):
        traffic(**asked)


@pytest.mark.parametrize(("text", "normal"), NETWORKS)
def test_networks(text: str, normal: str) -> None:
    assert network(text) == ip_network(normal)


@pytest.mark.parametrize("text", NO_NETWORKS)
def test_no_networks(text: str) -> None:
    with pytest.raises(RuleError):
        network(text)


@given(st.text() | st.from_regex(r"[0-9a-f:.]{1,20}/[0-9]{1,4}"))
def test_any_text_is_a_network_or_an_error(text: str) -> None:
    try:
        found = network(text)
    except RuleError:
        return
    assert network(str(found)) == found


def test_equal_meanings_have_equal_digests() -> None:
    web = traffic("tcp", start=80)
    assert digest(web, cidr="10.1.2.3/8") == digest(traffic("6", start=80, end=80), cidr="::ffff:10.0.0.0/104")
    assert digest(traffic("esp"), peer="group") == digest(traffic("50"), peer="group")


def test_different_meanings_have_different_digests() -> None:
    web, ping = traffic("tcp", start=80), traffic("icmp", icmp_type=0, icmp_code=0)
    texts = {
        digest(web, cidr="10.0.0.0/8"),
        digest(web, cidr="10.0.0.0/9"),
        digest(web, peer="a"),
        digest(web, peer="b"),
        digest(traffic("udp", start=80), peer="b"),
        digest(traffic("tcp", start=80, end=81), peer="b"),
        digest(ping, peer="b"),
        digest(traffic("icmp", icmp_type=0), peer="b"),
        digest(traffic("icmp"), peer="b"),
        digest(traffic(), peer="b"),
    }
    assert len(texts) == 10


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (("ingress", "tcp", 12489, 12489, "operator/nagios"), "ingress tcp 12489 from operator/nagios"),
        (("egress", "udp", 1, 9, "10.0.0.0/8"), "egress udp 1-9 to 10.0.0.0/8"),
        (("egress", "sctp", 0, 65535, "::/0"), "egress sctp, any port to ::/0"),
        (("ingress", "icmp", -1, -1, "a/b"), "ingress icmp, any type from a/b"),
        (("ingress", "icmp", 0, -1, "a/b"), "ingress icmp type 0 from a/b"),
        (("ingress", "icmp", 3, 0, "a/b"), "ingress icmp type 3 code 0 from a/b"),
        (("ingress", "all", -1, -1, "a/b"), "ingress everything from a/b"),
        (("ingress", "gre", -1, -1, "a/b"), "ingress gre from a/b"),
        (("ingress", "50", -1, -1, "a/b"), "ingress protocol 50 from a/b"),
    ],
)
def test_words(rule: tuple[str, str, int, int, str], text: str) -> None:
    assert words(*rule) == text
