# SPDX-License-Identifier: Apache-2.0
"""Address ranges of pods."""

from typing import Any

from sgctl.api import fixed, views
from sgctl.api.command import Answer, Call, command, new_id
from sgctl.api.errors import absent, invalid
from sgctl.api.listing import mentions, page, selected
from sgctl.api.owners import LISTING, optional
from sgctl.api.params import boolean, ident, text
from sgctl.api.subnets import check_free, check_range_free, span4, span6, subnet4, subnet6
from sgctl.model import Pod, Range, Zone


@command(
    "createVlanIpRange",
    "Creates an address range from which a pod's VMs get their addresses: IPv4, IPv6 or both.",
    ident("zoneid", "the zone; default: the pod's"),
    ident("podid", "the pod; default: the zone's only one"),
    ident("networkid", "the network of the zone"),
    text("physicalnetworkid", "accepted and ignored"),
    text("vlan", "untagged"),
    text("gateway", "the IPv4 router; default: the pod's"),
    text("netmask", "the IPv4 netmask; default: the pod's"),
    text("startip", "the first IPv4 address"),
    text("endip", "the last IPv4 address; default: the first"),
    text("ip6cidr", "the IPv6 subnet"),
    text("ip6gateway", "the IPv6 router"),
    text("startipv6", "the first IPv6 address"),
    text("endipv6", "the last IPv6 address; default: the first"),
    boolean("forvirtualnetwork", "public addresses, which are not there yet, if true"),
    answer="vlan",
    admin=True,
)
def create_range(call: Call) -> Answer:
    """Ranges do not overlap, nor their subnets with those of other pods."""
    if call.args.flag("forvirtualnetwork"):
        raise invalid("public address ranges are not supported")
    pod = _pod(call)
    columns = _columns4(call, pod) | _columns6(call, pod)
    if not columns:
        raise invalid("give startip, or ip6cidr with startipv6, or both")
    vlan = call.args.text("vlan", "untagged").lower().removeprefix("vlan://")
    if vlan != "untagged":
        raise invalid("vlan must be untagged: pods are flat")
    row = Range(id=new_id(), zone=pod.zone, pod=pod.id, vlan=vlan, created=call.now, **columns)
    return views.address_range(call.draft, call.draft.insert(row))


def _pod(call: Call) -> Pod:
    zone, pod = optional(call, Zone, "zoneid"), optional(call, Pod, "podid")
    if pod is None:
        pods = [pod for pod in call.draft.all(Pod) if zone is None or pod.zone == zone.id]
        if len(pods) != 1:
            raise invalid("give podid: there is not exactly one pod")
        pod = pods[0]
    if zone is not None and pod.zone != zone.id:
        raise invalid(f"pod {pod.name} is not in the zone {zone.name}")
    if call.args.text("networkid", fixed.network_id(pod.zone)) != fixed.network_id(pod.zone):
        raise absent("networkid", call.args.text("networkid"))
    return pod


def _columns4(call: Call, pod: Pod) -> dict[str, Any]:
    if "startip" not in call.args:
        if "endip" in call.args:
            raise invalid("endip needs startip")
        return {}
    gateway, subnet = subnet4(call, "gateway", "netmask", default=pod)
    start, end = span4(call, "startip", "endip", subnet)
    check_free(call, subnet, own_pod=pod)
    check_range_free(call, start, end)
    return {"gateway": str(gateway), "netmask": str(subnet.netmask), "start_ip": str(start), "end_ip": str(end)}


def _columns6(call: Call, pod: Pod) -> dict[str, Any]:
    if "ip6cidr" not in call.args:
        for name in ("ip6gateway", "startipv6", "endipv6"):
            if name in call.args:
                raise invalid(f"{name} needs ip6cidr")
        return {}
    for name in ("ip6gateway", "startipv6"):
        if name not in call.args:
            raise invalid(f"ip6cidr needs {name}")
    gateway, subnet = subnet6(call, "ip6gateway", "ip6cidr")
    start, end = span6(call, "startipv6", "endipv6", subnet)
    check_free(call, subnet, own_pod=pod)
    check_range_free(call, start, end)
    return {"ip6_gateway": str(gateway), "ip6_cidr": str(subnet), "start_ipv6": str(start), "end_ipv6": str(end)}


@command(
    "listVlanIpRanges",
    "Lists address ranges.",
    *LISTING,
    ident("id", "only this one"),
    ident("zoneid", "only those of this zone"),
    ident("podid", "only those of this pod"),
    ident("networkid", "only those of this network"),
    text("vlan", "only those of this VLAN"),
    boolean("forvirtualnetwork", "public ones, of which there are none, if true"),
    answer="vlaniprange",
    admin=True,
)
def list_ranges(call: Call) -> Answer:
    """In the order in which they were made."""
    public = call.args.flag("forvirtualnetwork")
    ranges = [
        row
        for row in call.draft.all(Range)
        if not public
        and selected(call, id=row.id, zoneid=row.zone, podid=row.pod, vlan=row.vlan)
        and selected(call, networkid=fixed.network_id(row.zone))
        and _mentioned(call, row)
    ]
    return page(call, ranges, lambda row: views.address_range(call.draft, row))


def _mentioned(call: Call, row: Range) -> bool:
    pod = call.draft.get(Pod, row.pod)
    subnets = (row.start_ip, row.end_ip, row.gateway, row.start_ipv6, row.end_ipv6, row.ip6_gateway, row.ip6_cidr)
    return mentions(call, pod.name if pod else "", row.vlan, *subnets)
