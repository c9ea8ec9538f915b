# SPDX-License-Identifier: Apache-2.0
"""What an operator may promise to a NIC beside its addresses, and that it is nobody else's.

Everything that is looked at here is looked at again by the database: promises and ranges through `Cloud.allowances`,
which each change of them counts up, addresses and MACs of NICs by asking for their absence. So two servers cannot both
give the same away.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from sgctl.addresses import SHORTEST, block_text, parse_block
from sgctl.api.allocate import not_assigned, reserved, spans, unicast_mac
from sgctl.api.command import Call
from sgctl.api.errors import ApiError, Code, invalid
from sgctl.api.listing import breathing
from sgctl.api.subnets import Ip, Network, address, subnets_of
from sgctl.model import Address, Allowance, Nic, Pod
from sgctl.quotas import option
from sgctl.rules import RuleError, network
from sgctl.store import Absent

_KIND = "allowed address"
_VRRP = ("00:00:5e:00:01:", "00:00:5e:00:02:")


def asked(call: Call) -> Network:
    """What the parameters ipaddress or cidr ask for; 431 if it cannot be promised to anybody."""
    if ("ipaddress" in call.args) == ("cidr" in call.args):
        raise invalid("give either ipaddress or cidr")
    given = "ipaddress" in call.args
    found = ip_network(address(call.args.text("ipaddress"), "ipaddress")) if given else _cidr(call)
    if found.is_link_local or found.is_reserved or parse_block(block_text(found)) is None:
        raise invalid(f"{block_text(found)} is no unicast address or network that VMs may have")
    return found


def _cidr(call: Call) -> Network:
    try:
        found = network(call.args.text("cidr"))
    except RuleError as error:
        raise invalid(f"Invalid parameter cidr: {error}") from None
    if found.prefixlen < SHORTEST[found.version]:
        raise invalid(f"Invalid parameter cidr: {found} is larger than a /{SHORTEST[found.version]}")
    return found


def guest_mac(call: Call, nic: Nic) -> str:
    """The MAC of a guest inside the VM, empty for the NIC's own; 431 if it is somebody else's."""
    if "macaddress" not in call.args:
        return ""
    found = unicast_mac(call)
    if found.startswith(_VRRP):
        raise invalid(
            f"{found} is a virtual MAC of VRRP, which moves between NICs; that is not supported: let the VMs announce "
            "the shared address with their NICs' own MACs (keepalived without use_vmac), and leave out macaddress"
        )
    if found == nic.mac:
        raise invalid(f"{found} is the NIC's own MAC; leave out macaddress")
    others = (row.nic for row in call.draft.find(Allowance, mac=found))
    if call.draft.find(Nic, mac=found) or any(other != nic.id for other in others):
        raise invalid(f"the MAC {found} is in use")
    call.draft.demand(Absent(Nic, "mac", found))
    return found


def check(call: Call, nic: Nic, pod: Pod, found: Network, *, mac: str, shared: bool) -> None:
    """Refuse what is not the NIC's to have: 431 if it makes no sense, 530 if it is somebody else's."""
    if shared and mac:
        raise invalid("an address that several NICs may hold goes with their own MACs; leave out macaddress or shared")
    if shared and not _is_single(found):
        raise invalid(f"{found} is a network; several NICs may hold single addresses only")
    _check_quota(call, nic)
    _check_subnets(call, pod, found, shared=shared)
    _check_promises(call, nic, found, shared=shared)
    _check_addresses(call, found)


def _is_single(found: Network) -> bool:
    return found.prefixlen == found.max_prefixlen


def _check_quota(call: Call, nic: Nic) -> None:
    most = call.settings.quotas.addresses_per_nic
    if most and call.draft.count(Allowance, nic=nic.id) >= most:
        raise ApiError(Code.LIMIT, f"a NIC may be allowed {most} addresses at most ({option('addresses_per_nic')})")


def _check_subnets(call: Call, pod: Pod, found: Network, *, shared: bool) -> None:
    """Single addresses may be in the NIC's own pod, networks outside of its range; nothing may be a router's."""
    home = [subnet for subnet in subnets_of(call, pod) if _overlap(subnet, found)]
    if shared and not home:
        raise invalid(f"{block_text(found)} is in no subnet of the pod {pod.name}: VMs could not announce it there")
    for other in breathing(call.draft.all(Pod)):
        if other.id != pod.id and any(_overlap(subnet, found) for subnet in subnets_of(call, other)):
            raise not_assigned(f"{block_text(found)} is in a subnet of the pod {other.name}", _KIND)
        taken = [one for one in reserved(call, other) if one in found]
        if taken:
            what = "a router's, a server's, a network's or a broadcast address"
            raise not_assigned(f"{taken[0]}, in the pod {other.name}, is {what}", _KIND)
    if not _is_single(found):
        for first, last in spans(call, pod, found.version):
            if int(first) <= int(found.broadcast_address) and int(found.network_address) <= int(last):
                raise not_assigned(f"{found} overlaps with the range {first} to {last} of the pod {pod.name}", _KIND)


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _check_promises(call: Call, nic: Nic, found: Network, *, shared: bool) -> None:
    for row in breathing(call.draft.all(Allowance)):
        if not _overlap(ip_network(row.address), found):
            continue
        if row.nic == nic.id:
            raise not_assigned(f"the NIC is allowed {row.address} already", _KIND)
        if not (shared and row.shared):
            text = f"{block_text(found)} overlaps with {row.address}, which the NIC {row.nic} is allowed"
            raise not_assigned(text, _KIND)
        other = call.draft.get(Nic, row.nic)
        if other is not None and (other.account, other.pod) != (nic.account, nic.pod):
            raise not_assigned(f"{row.address} is shared by NICs of another account or pod", _KIND)


def _check_addresses(call: Call, found: Network) -> None:
    """That no NIC has one of these addresses, be it that it gets it at the same time."""
    for one in _taken(call, found):
        raise not_assigned(f"{one} is in use", _KIND)
    if _is_single(found):
        call.draft.demand(Absent(Address, "address", str(found.network_address)))


def _taken(call: Call, found: Network) -> Iterator[Ip]:
    if _is_single(found):
        if call.draft.find(Address, address=str(found.network_address)):
            yield found.network_address
        return
    for row in breathing(call.draft.all(Address)):
        one = ip_network(row.address)
        if _overlap(one, found):
            yield one.network_address
