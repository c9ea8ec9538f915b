# SPDX-License-Identifier: Apache-2.0
"""Security group rules in words."""

from collections.abc import Iterable, Mapping
from typing import Any

_ICMP_TYPES = {
    0: "echo reply",
    3: "unreachable",
    5: "redirect",
    8: "echo request",
    11: "time exceeded",
    12: "parameter problem",
    128: "echo request (v6)",
    129: "echo reply (v6)",
}


def traffic(rule: Mapping[str, Any]) -> str:
    """What `rule` is about: protocol with its ports or ICMP type."""
    protocol = str(rule.get("protocol", "all"))
    if protocol == "all":
        return "everything"
    if rule.get("icmptype") is not None:
        return f"{protocol} {_icmp(int(rule['icmptype']), int(rule.get('icmpcode', -1)))}"
    if rule.get("startport") is not None:
        start = int(rule["startport"])
        return f"{protocol} {_ports(start, int(rule.get('endport', start)))}"
    return protocol


def _icmp(kind: int, code: int) -> str:
    if kind == -1:
        return "any type"
    name = f" ({_ICMP_TYPES[kind]})" if kind in _ICMP_TYPES else ""
    return f"type {kind}{name}" + ("" if code == -1 else f" code {code}")


def _ports(start: int, end: int) -> str:
    if (start <= 1 and end == 65535) or (start, end) == (0, 0):
        return "any port"
    return str(start) if start == end else f"{start}-{end}"


def peer(rule: Mapping[str, Any]) -> str:
    """Who may: a CIDR, or account/group."""
    if rule.get("cidr"):
        cidr = str(rule["cidr"])
        return {"0.0.0.0/0": "anywhere (IPv4)", "::/0": "anywhere (IPv6)"}.get(cidr, cidr)
    return f"{rule.get('account', '?')}/{rule.get('securitygroupname', '?')}"


def order(rule: Mapping[str, Any]) -> tuple[str, int, str, str]:
    """A key that sorts rules for reading: protocol, port as a number, the rest of the traffic, peer."""
    return str(rule.get("protocol", "all")), int(rule.get("startport") or 0), traffic(rule), peer(rule)


def in_words(rules: Iterable[Mapping[str, Any]], *, egress: bool) -> str:
    """One line for each kind of traffic, with all who may: ``tcp 12489 from operator/cacti, operator/nagios``."""
    peers: dict[str, list[str]] = {}
    for rule in sorted(rules, key=order):
        peers.setdefault(traffic(rule), []).append(peer(rule))
    preposition = "to" if egress else "from"
    return "\n".join(f"{what} {preposition} {', '.join(who)}" for what, who in peers.items())
