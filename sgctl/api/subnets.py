# SPDX-License-Identifier: Apache-2.0
"""Addresses, subnets and spans of addresses among a call's parameters."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from sgctl.addresses import block_text
from sgctl.api.barrier import count_up
from sgctl.api.command import Call
from sgctl.api.errors import invalid
from sgctl.api.membership import count_allowances
from sgctl.api.params import printable
from sgctl.model import Allowance, Pod, Range
from sgctl.rules import RuleError, network

Ip: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
Span: TypeAlias = tuple[Ip, Ip]


def address(text: str, name: str) -> Ip:
    """An address that a VM or a server can have; 431 otherwise."""
    try:
        found = ip_address(text)
    except ValueError:
        raise invalid(f"Invalid parameter {name}: {printable(text)} is no IP address") from None
    if isinstance(found, IPv6Address):
        if found.scope_id is not None:
            raise invalid(f"Invalid parameter {name}: {printable(text)} has a scope")
        found = found.ipv4_mapped or found
    if found.is_multicast or found.is_unspecified or found.is_loopback:
        raise invalid(f"Invalid parameter {name}: {found} is no unicast address")
    return found


def of_version(call: Call, name: str, version: int) -> Ip:
    """The address that a parameter names; 431 if it is none of this IP version."""
    found = address(call.args.text(name), name)
    if found.version != version:
        raise invalid(f"Invalid parameter {name}: {found} is no IPv{version} address")
    return found


def canonical(text: str) -> str:
    """An address or a network as rows have it, for who looks for one; what is neither, as it is."""
    try:
        if "/" in text:
            return block_text(network(text))
        found = ip_address(text)
    except (RuleError, ValueError):
        return text
    return str(getattr(found, "ipv4_mapped", None) or found)


def ip(call: Call, name: str) -> str:
    """An optional address, in canonical form; empty if not given."""
    return str(address(call.args.text(name), name)) if name in call.args else ""


def ips(call: Call, name: str) -> frozenset[str]:
    """A list of addresses, in canonical form."""
    return frozenset(str(address(text, name)) for text in call.args.texts(name))


def cidr4(call: Call, name: str) -> str:
    """An optional IPv4 network, in canonical form; empty if not given."""
    if name not in call.args:
        return ""
    found = _network(call, name)
    if not isinstance(found, IPv4Network):
        raise invalid(f"Invalid parameter {name}: {found} is no IPv4 network")
    return str(found)


def _network(call: Call, name: str) -> Network:
    try:
        return network(call.args.text(name))
    except RuleError as error:
        raise invalid(f"Invalid parameter {name}: {error}") from None


def subnet4(call: Call, gateway: str, netmask: str, *, default: Pod | None = None) -> tuple[IPv4Address, IPv4Network]:
    """A router and its subnet, by default a pod's."""
    router = address(call.args.text(gateway, default.gateway if default else ""), gateway)
    mask = call.args.text(netmask, default.netmask if default else "")
    try:
        if not isinstance(router, IPv4Address) or "." not in mask:
            raise ValueError
        subnet = IPv4Network(f"{router}/{mask}", strict=False)
    except ValueError:
        raise invalid(f"{printable(str(router))} with netmask {printable(mask)} is no IPv4 subnet") from None
    # The ipaddress module also takes host masks such as 0.0.0.255.
    if str(subnet.netmask) != mask or not 1 <= subnet.prefixlen <= 30:
        raise invalid(f"Invalid parameter {netmask}: {printable(mask)} is not the mask of a subnet")
    if router in (subnet.network_address, subnet.broadcast_address):
        raise invalid(f"Invalid parameter {gateway}: {router} is no host address of {subnet}")
    return router, subnet


def span4(call: Call, start: str, end: str, subnet: IPv4Network) -> Span:
    """The first and last address of a range within `subnet`; the last defaults to the first."""
    span = _span(call, start, end, subnet)
    if span[0] == subnet.network_address or span[1] == subnet.broadcast_address:
        raise invalid(f"{span[0]} to {span[1]} includes the network or broadcast address of {subnet}")
    return span


def subnet6(call: Call, gateway: str, cidr: str) -> tuple[IPv6Address, IPv6Network]:
    """An IPv6 router, within the subnet or link-local, and the subnet."""
    subnet = _network(call, cidr)
    if not isinstance(subnet, IPv6Network) or not 1 <= subnet.prefixlen <= 126 or not _is_unicast(subnet):
        raise invalid(f"Invalid parameter {cidr}: {subnet} is no IPv6 subnet for VMs")
    router = address(call.args.text(gateway), gateway)
    if not isinstance(router, IPv6Address) or not (router in subnet or router.is_link_local):
        raise invalid(f"Invalid parameter {gateway}: {router} is neither in {subnet} nor link-local")
    return router, subnet


def _is_unicast(subnet: IPv6Network) -> bool:
    return not (subnet.is_multicast or subnet.is_link_local or subnet.is_loopback)


def span6(call: Call, start: str, end: str, subnet: IPv6Network) -> Span:
    """The first and last address of a range within `subnet`; the last defaults to the first."""
    span = _span(call, start, end, subnet)
    if span[0] == subnet.network_address:
        raise invalid(f"{span[0]} is the subnet-router anycast address of {subnet}")
    return span


def _span(call: Call, start: str, end: str, subnet: Network) -> Span:
    first = address(call.args.text(start), start)
    last = address(call.args.text(end, str(first)), end)
    if first not in subnet or last not in subnet:
        raise invalid(f"{first} to {last} is not within {subnet}")
    if int(first) > int(last):
        raise invalid(f"{start} {first} is after {end} {last}")
    return first, last


def check_free(call: Call, subnet: Network, *, own_pod: Pod | None) -> None:
    """Refuse a subnet that overlaps with one of another pod, be it that another server makes it at the same time."""
    count_up(call)
    count_allowances(call.draft)
    for pod in call.draft.all(Pod):
        if own_pod is not None and pod.id == own_pod.id:
            continue
        for other in subnets_of(call, pod):
            if other.version == subnet.version and other.overlaps(subnet):
                raise invalid(f"{subnet} overlaps with {other} of the pod {pod.name}")


def subnets_of(call: Call, pod: Pod) -> Iterator[Network]:
    """The subnets of a pod: its own and those of its ranges."""
    yield IPv4Network(f"{pod.gateway}/{pod.netmask}", strict=False)
    for row in call.draft.find(Range, pod=pod.id):
        if row.gateway:
            yield IPv4Network(f"{row.gateway}/{row.netmask}", strict=False)
        if row.ip6_cidr:
            yield IPv6Network(row.ip6_cidr)


def spans_of(row: Range) -> Iterator[Span]:
    """The IPv4 and the IPv6 span of a range, as far as it has them."""
    if row.start_ip:
        yield ip_address(row.start_ip), ip_address(row.end_ip)
    if row.start_ipv6:
        yield ip_address(row.start_ipv6), ip_address(row.end_ipv6)


def within(found: Ip, span: Span) -> bool:
    """Whether an address is in a span."""
    return found.version == span[0].version and int(span[0]) <= int(found) <= int(span[1])


def check_range_free(call: Call, start: Ip, end: Ip) -> None:
    """Refuse a span that overlaps with one that exists, or with a network that has been promised to a NIC."""
    for promise in call.draft.all(Allowance):
        if "/" in promise.address and _overlaps(promise.address, start, end):
            raise invalid(f"{start} to {end} overlaps with {promise.address}, which the NIC {promise.nic} is allowed")
    for row in call.draft.all(Range):
        for first, last in spans_of(row):
            if first.version == start.version and int(first) <= int(end) and int(start) <= int(last):
                raise invalid(f"{start} to {end} overlaps with the range {first} to {last}")


def _overlaps(cidr: str, start: Ip, end: Ip) -> bool:
    found = ip_network(cidr)
    first, last = found.network_address, found.broadcast_address
    return found.version == start.version and int(first) <= int(end) and int(start) <= int(last)
