# SPDX-License-Identifier: Apache-2.0
"""Addresses and MACs for NICs.

What is free is looked up in the replica; that two servers do not give the same address is the database's unique index,
upon which the command runs again. What has been promised to NICs beside their addresses is nobody else's either; that
nothing was promised meanwhile, `sgctl.api.membership.demand_allowances` sees to.
"""

from __future__ import annotations

import random
import re
from ipaddress import ip_address

from sgctl.api.command import Call, new_id
from sgctl.api.errors import ApiError, Code, invalid
from sgctl.api.membership import demand_allowances
from sgctl.api.subnets import Ip, Span, address, spans_of, subnets_of, within
from sgctl.api.views import is_ipv6
from sgctl.model import Address, Allowance, Nic, Pod, Range, Zone

IPV4, IPV6 = 4, 6
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", re.ASCII)
_RANDOM = random.SystemRandom()
_TRIES = 16
"""Random addresses that are looked up one by one, which finds one unless few are left."""


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


def free_address(call: Call, pod: Pod, version: int, *, thorough: bool = True) -> Ip | None:
    """A random address that nobody has; None if there is none, or, unless `thorough`, none is soon found."""
    found = spans(call, pod, version)
    total = sum(map(_size, found))
    if not total:
        return None
    taken = reserved(call, pod)
    for _ in range(_TRIES):
        candidate = _nth(found, _RANDOM.randrange(total))
        if candidate not in taken and not _in_use(call, candidate):
            return candidate
    if not thorough:
        return None
    return _one_of_few(found, {int(one) for one in taken if one.version == version} | _held(call, pod, version))


def _in_use(call: Call, one: Ip) -> bool:
    """Whether an address of a range is a NIC's, or promised to one; networks are promised outside of ranges only."""
    return bool(call.draft.find(Address, address=str(one)) or call.draft.find(Allowance, address=str(one)))


def _held(call: Call, pod: Pod, version: int) -> set[int]:
    """The addresses of a pod's VMs, and those that they may be promised, as numbers."""
    nics = call.draft.find(Nic, pod=pod.id)
    held = [row.address for nic in nics for row in call.draft.find(Address, nic=nic.id)]
    promised = [row.address for row in call.draft.all(Allowance) if "/" not in row.address]
    return {int(ip_address(one)) for one in (*held, *promised) if is_ipv6(one) == (version == IPV6)}


def _one_of_few(found: list[Span], taken: set[int]) -> Ip | None:
    """One of the last free addresses, looked for from a random one on; a span that may be huge is not listed."""
    for first, last in _RANDOM.sample(found, len(found)):
        low, high = int(first), int(last)
        start = _RANDOM.randint(low, high)
        for numbers in (range(start, high + 1), range(low, start)):
            free = next((number for number in numbers if number not in taken), None)
            if free is not None:
                return first + (free - low)
    return None


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
    if _in_use(call, found):
        raise not_assigned(f"{found} is in use", kind)
    return found


def not_assigned(reason: str, kind: str = "IP") -> ApiError:
    """An address that a NIC cannot have."""
    return ApiError(Code.INTERNAL, f"Failed to assign {kind} to NIC: {reason}")


def mac(call: Call) -> str:
    """The MAC that was asked for, or a random one that is locally administered and that nobody has."""
    demand_allowances(call.draft)
    if "macaddress" in call.args:
        return _requested_mac(call)
    while True:
        found = "02:" + ":".join(f"{byte:02x}" for byte in _RANDOM.randbytes(5))
        if not mac_in_use(call, found):
            return found


def mac_in_use(call: Call, found: str) -> bool:
    """Whether a NIC has this MAC, or a guest inside a VM that it was promised to."""
    return bool(call.draft.find(Nic, mac=found) or call.draft.find(Allowance, mac=found))


def unicast_mac(call: Call) -> str:
    """The parameter macaddress in canonical form; 431 if it is no unicast MAC."""
    found = call.args.text("macaddress").lower().replace("-", ":")
    if not _MAC.fullmatch(found) or int(found[:2], 16) & 1 or found == "00:00:00:00:00:00":
        raise invalid("Invalid parameter macaddress: it must be a unicast MAC such as 02:00:00:00:00:01")
    return found


def _requested_mac(call: Call) -> str:
    found = unicast_mac(call)
    if mac_in_use(call, found):
        raise invalid(f"the MAC {found} is in use")
    return found


def address_row(call: Call, nic: Nic, found: Ip, *, primary: bool, description: str = "") -> Address:
    """The row that gives an address to a NIC."""
    demand_allowances(call.draft)
    return Address(
        id=new_id(),
        address=str(found),
        nic=nic.id,
        primary=primary,
        description=description,
        created=call.now,
    )
