# SPDX-License-Identifier: Apache-2.0
"""What the API's semantics promise, written straight from them: who may open what connection to whom.

It knows nothing of flows, policies or identities: a VM's rules are the union of its groups' rules; a named group means
every address of its members, also what they are promised beside them; without any egress rule everything may leave,
with one only what egress rules allow; the ICMP rules of an IPv6 CIDR mean ICMPv6, those of a named group mean both.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from tests.unit.trace_cloud import PROTOS, RESOLVER, Cloud, Spec

#: UDP ports of DHCP's clients and servers, which no rule opens.
_DHCP = {4: (67, 68), 6: (546, 547)}


def may_open(cloud: Cloud, service: str, src: str, dst: str) -> bool:
    """True if the owner of address `src` may open a connection to `dst` (both may be outside of the cloud)."""
    protocol, _, numbers = service.partition("/")
    if protocol == "udp" and int(numbers) in _DHCP[ip_address(dst).version]:
        return False
    sender, receiver = cloud.owner(src), cloud.owner(dst)
    if sender is not None and not _may_leave(cloud, sender, service, dst):
        return False
    return receiver is None or any(_allows(cloud, rule, service, src) for rule in _rules(cloud, receiver, "ingress"))


def _may_leave(cloud: Cloud, vm: str, service: str, dst: str) -> bool:
    if dst == RESOLVER and service in ("udp/53", "tcp/53"):
        return True
    rules = _rules(cloud, vm, "egress")
    return not rules or any(_allows(cloud, rule, service, dst) for rule in rules)


def _rules(cloud: Cloud, vm: str, direction: str) -> list[Spec]:
    return [spec for group in cloud.vms[vm].groups for spec in cloud.groups[group] if spec.direction == direction]


def _allows(cloud: Cloud, rule: Spec, service: str, peer: str) -> bool:
    return _is_peer(cloud, rule, peer) and _covers(rule, service)


def _is_peer(cloud: Cloud, rule: Spec, peer: str) -> bool:
    if rule.is_group:
        return any(rule.peer in cloud.vms[holder].groups for holder in cloud.holders(peer))
    network, address = ip_network(rule.peer), ip_address(peer)
    return network.version == address.version and address in network


def _covers(rule: Spec, service: str) -> bool:
    protocol, _, numbers = service.partition("/")
    if rule.protocol == "all":
        return True
    if rule.protocol != protocol:
        return False
    if protocol == "icmp":
        kind, code = map(int, numbers.split(","))
        return rule.first in (-1, kind) and rule.last in (-1, code)
    if PROTOS[protocol] not in (6, 17, 132) or (rule.first, rule.last) in ((-1, -1), (0, 0)):
        return True
    return rule.first <= int(numbers) <= rule.last
