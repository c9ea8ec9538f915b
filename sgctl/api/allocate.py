# SPDX-License-Identifier: Apache-2.0
"""Addresses and MACs for NICs.

What is free is looked up in the replica; that two servers do not give the same address is the database's unique index,
upon which the command runs again.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from ipaddress import ip_address

from sgctl.api.command import Call, new_id
from sgctl.api.errors import ApiError, Code, invalid
from sgctl.api.subnets import Ip, Span, address, spans_of, subnets_of, within
from sgctl.model import Address, Nic, Pod, Range, Zone

IPV4, IPV6 = 4, 6
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", re.ASCII)
_RANDOM = random.SystemRandom()


def spans(call: Call, pod: Pod, version: int) -> list[Span]:
    """The spans of a pod's ranges of one IP version, in the order in which they were made."""
    rows = sorted(call.draft.find(Range, pod=pod.id), key=lambda row: (row.created, row.id))
    return [span for row in rows for span in spans_of(row) if span[0].version == version]


def servers(call: Call, pod: Pod) -> tuple[frozenset[str], frozenset[str]]:
    """A pod's DHCP and DNS servers: its own, or the zone's internal DNS servers."""
    zone = call.draft.get(Zone, pod.zone)
    default = frozenset({zone.internal_dns1, zone.internal_dns2} - {""}) if zone else frozenset[str]()
    return pod.dhcp_servers or default, pod.dns_servers or default


def reserved(call: Call, pod: Pod) -> frozenset[Ip]:
    """Addresses in a pod that no VM may have: routers, servers, network and broadcast addresses."""
    dhcp, dns = servers(call, pod)
    rows = call.draft.find(Range, pod=pod.id)
    routers = {pod.gateway, *(row.gateway for row in rows), *(row.ip6_gateway for row in rows)} - {""}
    named = {ip_address(text) for text in (*dhcp, *dns, *routers)}
    subnets = list(subnets_of(call, pod))
    ends = {subnet.network_address for subnet in subnets} | {
        subnet.broadcast_address for subnet in subnets if subnet.version == IPV4
    }
    return frozenset(named | ends)


def free_address(call: Call, pod: Pod, version: int) -> Ip | None:
    """An address that nobody has, looked for from a random one on; None if there is none."""
    taken = reserved(call, pod)
    for candidate in _from_random(spans(call, pod, version)):
        if candidate not in taken and not call.draft.find(Address, address=str(candidate)):
            return candidate
    return None


def _from_random(found: list[Span]) -> Iterator[Ip]:
    """All addresses of all spans once, beginning somewhere; nothing is listed, since an IPv6 span may be huge."""
    total = sum(map(_size, found))
    start = _RANDOM.randrange(total) if total else 0
    return (_nth(found, (start + offset) % total) for offset in range(total))


def _size(span: Span) -> int:
    return int(span[1]) - int(span[0]) + 1


def _nth(found: list[Span], index: int) -> Ip:
    for span in found:
        if index < _size(span):
            return span[0] + index
        index -= _size(span)
    raise IndexError(index)


def requested_address(call: Call, pod: Pod, text: str, name: str, *, kind: str = "IP") -> Ip:
    """The address that was asked for; 431 if it is none, 530 if it is not free in the pod."""
    found = address(text, name)
    if not any(within(found, span) for span in spans(call, pod, found.version)):
        raise not_assigned(f"{found} is in no range of the pod {pod.name}", kind)
    if found in reserved(call, pod):
        raise not_assigned(f"{found} is a router's, a server's, a network's or a broadcast address", kind)
    if call.draft.find(Address, address=str(found)):
        raise not_assigned(f"{found} is in use", kind)
    return found


def not_assigned(reason: str, kind: str = "IP") -> ApiError:
    """An address that a NIC cannot have."""
    return ApiError(Code.INTERNAL, f"Failed to assign {kind} to NIC: {reason}")


def mac(call: Call) -> str:
    """The MAC that was asked for, or a random one that is locally administered and that nobody has."""
    if "macaddress" in call.args:
        return _requested_mac(call)
    while True:
        found = "02:" + ":".join(f"{byte:02x}" for byte in _RANDOM.randbytes(5))
        if not call.draft.find(Nic, mac=found):
            return found


def _requested_mac(call: Call) -> str:
    found = call.args.text("macaddress").lower().replace("-", ":")
    if not _MAC.fullmatch(found) or int(found[:2], 16) & 1 or found == "00:00:00:00:00:00":
        raise invalid("Invalid parameter macaddress: it must be a unicast MAC such as 02:00:00:00:00:01")
    if call.draft.find(Nic, mac=found):
        raise invalid(f"the MAC {found} is in use")
    return found


def address_row(call: Call, nic: Nic, found: Ip, *, primary: bool, description: str = "") -> Address:
    """The row that gives an address to a NIC."""
    return Address(
        id=new_id(),
        address=str(found),
        nic=nic.id,
        primary=primary,
        description=description,
        created=call.now,
    )
