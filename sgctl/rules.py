# SPDX-License-Identifier: Apache-2.0
"""What a security group rule may say: validation, the normal form by which duplicates are found, and rules in words.

The meaning is CloudStack's (``SecurityGroupManagerImpl``), except that protocol numbers 1, 6, 17 and 132 are the
protocols that have names, and that an ICMP type may stand with every code.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeAlias

from sgctl.errors import SgctlError

Network: TypeAlias = IPv4Network | IPv6Network

PROTOCOLS = {
    "all": -1, "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "udp": 17, "dccp": 33, "ipv6": 41, "rsvp": 46, "gre": 47,
    "esp": 50, "ah": 51, "icmpv6": 58, "eigrp": 88, "ospf": 89, "etherip": 97, "pim": 103, "ipcomp": 108, "vrrp": 112,
    "l2tp": 115, "sctp": 132, "udplite": 136,
}  # fmt: skip
"""The protocols that have a name here; -1 is any."""

ANY = -1
ALL, ICMP, TCP, UDP, SCTP = (PROTOCOLS[name] for name in ("all", "icmp", "tcp", "udp", "sctp"))
WITH_PORTS = frozenset({TCP, UDP, SCTP})
_RENAMED = {PROTOCOLS[name]: name for name in ("icmp", "tcp", "udp", "sctp")}
_LAST_PORT = 65535
_MAPPED = IPv6Network("::ffff:0:0/96")


class RuleError(SgctlError):
    """A rule that means nothing."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a rule admits, as the columns of `sgctl.model.Rule`: protocol, its number, ports or ICMP type and code."""

    protocol: str
    proto: int
    first: int = ANY
    last: int = ANY


def traffic(
    protocol: str = "",
    *,
    start: int | None = None,
    end: int | None = None,
    icmp_type: int | None = None,
    icmp_code: int | None = None,
) -> Traffic:
    """The normal form of what was asked for; None: not given.  RuleError names what does not fit together."""
    name, number = _protocol(protocol)
    if number not in WITH_PORTS and (start is not None or end is not None):
        raise RuleError(f"protocol {name} has no ports; leave startport and endport out")
    if number != ICMP and (icmp_type is not None or icmp_code is not None):
        raise RuleError(f"protocol {name} has no ICMP type or code; leave icmptype and icmpcode out")
    if number in WITH_PORTS:
        return Traffic(name, number, *_ports(name, start, end))
    if number == ICMP:
        return Traffic(name, number, *_icmp(icmp_type, icmp_code))
    return Traffic(name, number)


def _protocol(text: str) -> tuple[str, int]:
    name = text.strip().lower() or "all"
    if name in PROTOCOLS:
        return name, PROTOCOLS[name]
    if name.isascii() and name.isdigit() and len(name) <= 3 and int(name) <= 255:
        number = int(name)
        return _RENAMED.get(number, str(number)), number
    raise RuleError(f"protocol {text!r} is not known; give one of {', '.join(PROTOCOLS)} or a number from 0 to 255")


def _ports(name: str, start: int | None, end: int | None) -> tuple[int, int]:
    if start is None:
        raise RuleError(f"protocol {name} needs startport and endport")
    first, last = start, start if end is None else end
    if not (0 <= first <= _LAST_PORT and 0 <= last <= _LAST_PORT):
        raise RuleError(f"ports {first} to {last} are not within 0 to {_LAST_PORT}")
    if first > last:
        raise RuleError(f"startport {first} is greater than endport {last}")
    return (0, _LAST_PORT) if last == 0 else (first, last)


def _icmp(icmp_type: int | None, icmp_code: int | None) -> tuple[int, int]:
    kind = ANY if icmp_type is None else icmp_type
    code = ANY if icmp_code is None else icmp_code
    if not (ANY <= kind <= 255 and ANY <= code <= 255):
        raise RuleError(f"icmptype {kind} and icmpcode {code} must be within -1 to 255")
    if kind == ANY and code != ANY:
        raise RuleError(f"icmpcode {code} needs an icmptype")
    return kind, code


def network(text: str) -> Network:
    """The network that a CIDR means: no host bits, an IPv4-mapped one as IPv4.  RuleError: it is none."""
    address, slash, length = text.partition("/")
    if not slash:
        raise RuleError(f"{text!r} is no CIDR; a single address is written with /32, or /128 for IPv6")
    if not (length.isascii() and length.isdigit()) or "%" in address:
        raise RuleError(f"{text!r} is no CIDR")
    try:
        found = ip_network(text, strict=False)
    except ValueError:
        raise RuleError(f"{text!r} is no CIDR") from None
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        return IPv4Network((int(found.network_address) & 0xFFFFFFFF, found.prefixlen - _MAPPED.prefixlen))
    return found


def digest(what: Traffic, *, cidr: str = "", peer: str | None = None) -> str:
    """The normal form as text, equal for rules that mean the same; either `cidr` or `peer`, a group's id."""
    return f"{what.proto}:{what.first}:{what.last}:{peer or network(cidr)}"


def traffic_words(protocol: str, first: int, last: int) -> str:
    """What a rule admits in words, such as ``tcp 80-90``."""
    proto = _protocol(protocol)[1]
    if proto == ALL:
        return "everything"
    if proto == ICMP:
        return _icmp_words(first, last)
    if proto not in WITH_PORTS:
        return protocol if protocol in PROTOCOLS else f"protocol {protocol}"
    if (first, last) == (0, _LAST_PORT):
        return f"{protocol}, any port"
    return f"{protocol} {first}" if first == last else f"{protocol} {first}-{last}"


def _icmp_words(kind: int, code: int) -> str:
    if kind == ANY:
        return "icmp, any type"
    return f"icmp type {kind}" if code == ANY else f"icmp type {kind} code {code}"


def words(direction: str, protocol: str, first: int, last: int, peer: str) -> str:
    """A rule in words, such as ``ingress tcp 12489 from operator/nagios``; `peer`: a CIDR or ``account/group``."""
    preposition = "from" if direction == "ingress" else "to"
    return f"{direction} {traffic_words(protocol, first, last)} {preposition} {peer}"
