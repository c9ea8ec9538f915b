# SPDX-License-Identifier: Apache-2.0
"""What an operator may promise to a NIC beside its addresses, and that it is nobody else's.

Everything that is looked at here is looked at again by the database: promises and ranges through `Cloud.allowances`,
which each change of them counts up, addresses and MACs of NICs by asking for their absence. So two servers cannot both
give the same away.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from sgctl.addresses import SHORTEST, block_text, parse_block, parse_mac, vrrp_version
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
_FAMILIES = {4: "00:00:5e:00:01:01 to ff for IPv4", 6: "00:00:5e:00:02:01 to ff for IPv6"}


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


def mac_of(call: Call, nic: Nic, found: Network, *, shared: bool) -> str:
    """The MAC that goes with what is asked for: that of a guest inside the VM, or a virtual one that other NICs may
    hold as well; empty for the NIC's own. 431 if it is somebody else's."""
    if "macaddress" not in call.args:
        return ""
    mac = unicast_mac(call)
    if mac.startswith(_VRRP) or shared:
        _check_virtual(call, nic, found, mac, shared=shared)
        return mac
    return _guest_mac(call, nic, mac)


def _check_virtual(call: Call, nic: Nic, found: Network, mac: str, *, shared: bool) -> None:
    """A virtual MAC of VRRP goes with shared addresses of its family, and is one account's in a pod."""
    if not mac.startswith(_VRRP):
        raise invalid(
            f"an address that several NICs may hold goes with their own MACs, or with a virtual MAC of VRRP, {mac} is "
            f"none: {', '.join(_FAMILIES.values())}; leave out macaddress or shared"
        )
    if not shared or not _is_single(found):
        raise invalid(
            f"{mac} is a virtual MAC of VRRP, which moves between NICs: it goes with a single address that they share; "
            "give ipaddress and shared=true, on each of them"
        )
    if vrrp_version(parse_mac(mac) or 0) != found.version:
        raise invalid(f"{mac} does not go with {found.network_address}; virtual MACs: {_FAMILIES[found.version]}")
    if call.draft.find(Nic, mac=mac):
        raise invalid(f"the MAC {mac} is in use")
    call.draft.demand(Absent(Nic, "mac", mac))
    for row in call.draft.find(Allowance, mac=mac):
        other = call.draft.get(Nic, row.nic)
        if other is not None and other.pod == nic.pod and other.account != nic.account:
            raise not_assigned(f"the virtual MAC {mac} is another account's in this pod; use another VRID", _KIND)


def _guest_mac(call: Call, nic: Nic, found: str) -> str:
    if found == nic.mac:
        raise invalid(f"{found} is the NIC's own MAC; leave out macaddress")
    others = (row.nic for row in call.draft.find(Allowance, mac=found))
    if call.draft.find(Nic, mac=found) or any(other != nic.id for other in others):
        raise invalid(f"the MAC {found} is in use")
    call.draft.demand(Absent(Nic, "mac", found))
    return found


def check(call: Call, nic: Nic, pod: Pod, found: Network, *, mac: str, shared: bool) -> None:
    """Refuse what is not the NIC's to have: 431 if it makes no sense, 530 if it is somebody else's."""
    if shared and not _is_single(found):
        raise invalid(f"{found} is a network; several NICs may hold single addresses only")
    _check_quota(call, nic)
    _check_subnets(call, pod, found, shared=shared)
    _check_promises(call, nic, found, mac=mac, shared=shared)
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


def _check_promises(call: Call, nic: Nic, found: Network, *, mac: str, shared: bool) -> None:
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
        if row.mac != mac:
            goes = f"the virtual MAC {row.mac}" if row.mac else "no virtual MAC"
            raise not_assigned(
                f"{row.address} goes with {goes} on the NIC {row.nic}; all of a cluster need the same", _KIND
            )


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
