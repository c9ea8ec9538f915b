# SPDX-License-Identifier: Apache-2.0
"""Pods: the L2 segments of a zone."""

from ipaddress import IPv4Network

from sgctl.api import views
from sgctl.api.command import Answer, Call, command, new_id
from sgctl.api.errors import ApiError, Code, invalid
from sgctl.api.listing import mentions, page, selected
from sgctl.api.owners import LISTING, existing
from sgctl.api.params import ident, text, texts
from sgctl.api.subnets import check_free, ips, span4, subnet4
from sgctl.model import Nic, Pod, Range, Vm, Zone


@command(
    "createPod",
    "Creates a pod.",
    text("name", "its name", required=True),
    ident("zoneid", "the zone it is in", required=True),
    text("gateway", "the router", required=True),
    text("netmask", "the netmask of its subnet", required=True),
    text("startip", "the first address of the pod's own servers, not given to VMs", required=True),
    text("endip", "the last such address; default: the first"),
    texts("dhcpservers", "extension: its DHCP servers, IPv4 and IPv6; default: the zone's internal DNS servers"),
    texts("dnsservers", "extension: its DNS servers, IPv4 and IPv6; default: the zone's internal DNS servers"),
    answer="pod",
    admin=True,
)
def create_pod(call: Call) -> Answer:
    """Its subnet must not overlap with another pod's: there is one flat address space."""
    zone = existing(call, Zone, "zoneid")
    name = call.args.text("name")
    if call.draft.find(Pod, zone=zone.id, name=name):
        raise invalid(f"A pod with the name {name} already exists in the zone {zone.name}")
    gateway, subnet = subnet4(call, "gateway", "netmask")
    start, end = span4(call, "startip", "endip", subnet)
    check_free(call, subnet, own_pod=None)
    pod = Pod(
        id=new_id(),
        name=name,
        zone=zone.id,
        gateway=str(gateway),
        netmask=str(IPv4Network(subnet).netmask),
        start_ip=str(start),
        end_ip=str(end),
        dhcp_servers=ips(call, "dhcpservers"),
        dns_servers=ips(call, "dnsservers"),
        created=call.now,
    )
    return views.pod(call.draft, call.draft.insert(pod))


@command(
    "deletePod",
    "Deletes a pod with its address ranges.",
    ident("id", "the pod", required=True),
    admin=True,
)
def delete_pod(call: Call) -> Answer:
    """Refused while it has VMs; those that are destroyed are forgotten with it."""
    pod = existing(call, Pod, "id")
    vms = call.draft.find(Vm, pod=pod.id)
    living = sum(vm.wanted != "Destroyed" for vm in vms)
    if living or call.draft.find(Nic, pod=pod.id):
        raise ApiError(Code.IN_USE, f"the pod {pod.name} has {living} VMs")
    for vm in vms:
        call.draft.delete(vm)
    for row in call.draft.find(Range, pod=pod.id):
        call.draft.delete(row)
    call.draft.delete(pod)
    return None


@command(
    "listPods",
    "Lists pods.",
    *LISTING,
    ident("id", "only this one"),
    text("name", "only those of this name"),
    ident("zoneid", "only those of this zone"),
    text("allocationstate", "Enabled or Disabled"),
    answer="pod",
    admin=True,
)
def list_pods(call: Call) -> Answer:
    """All pods are enabled."""
    pods = [
        pod
        for pod in call.draft.all(Pod)
        if selected(call, id=pod.id, name=pod.name, zoneid=pod.zone, allocationstate="Enabled")
        and mentions(call, pod.name)
    ]
    return page(call, pods, lambda pod: views.pod(call.draft, pod))
