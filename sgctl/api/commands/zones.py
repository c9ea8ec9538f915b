# SPDX-License-Identifier: Apache-2.0
"""Zones."""

from sgctl.api import views
from sgctl.api.command import Answer, Call, command, new_id
from sgctl.api.errors import ApiError, Code, invalid
from sgctl.api.listing import mentions, page, selected
from sgctl.api.owners import LISTING, existing
from sgctl.api.params import boolean, ident, text
from sgctl.api.subnets import cidr4, ip
from sgctl.model import Pod, Zone


@command(
    "createZone",
    "Creates a zone with security groups.",
    text("name", "its name", required=True),
    text("dns1", "a DNS server for guests", required=True),
    text("internaldns1", "the DNS and DHCP server of pods that name none of their own", required=True),
    text("networktype", "Basic", required=True),
    text("dns2", "another DNS server for guests"),
    text("internaldns2", "another server of pods"),
    text("guestcidraddress", "the addresses of all guests"),
    text("domain", "the DNS domain of guests"),
    boolean("securitygroupenabled", "always true"),
    answer="zone",
    admin=True,
)
def create_zone(call: Call) -> Answer:
    """Only Basic networking is there."""
    args = call.args
    if args.text("networktype").lower() != "basic":
        raise invalid("networktype must be Basic")
    if call.draft.find(Zone, name=args.text("name")):
        raise invalid(f"A zone with the name {args.text('name')} already exists")
    zone = Zone(
        id=new_id(),
        name=args.text("name"),
        dns1=ip(call, "dns1"),
        dns2=ip(call, "dns2"),
        internal_dns1=ip(call, "internaldns1"),
        internal_dns2=ip(call, "internaldns2"),
        guest_cidr=cidr4(call, "guestcidraddress"),
        domain=args.text("domain"),
        created=call.now,
    )
    return views.zone(call.draft.insert(zone))


@command(
    "deleteZone",
    "Deletes a zone that has no pods.",
    ident("id", "the zone", required=True),
    admin=True,
)
def delete_zone(call: Call) -> Answer:
    """Its pods come first."""
    zone = existing(call, Zone, "id")
    pods = call.draft.find(Pod, zone=zone.id)
    if pods:
        raise ApiError(Code.IN_USE, f"the zone {zone.name} has {len(pods)} pods")
    call.draft.delete(zone)
    return None


@command(
    "listZones",
    "Lists zones.",
    *LISTING,
    ident("id", "only this one"),
    text("name", "only the one of this name"),
    text("networktype", "Basic or Advanced"),
    boolean("available", "without effect: all zones are available"),
    answer="zone",
)
def list_zones(call: Call) -> Answer:
    """Everybody may see all zones."""
    zones = [
        zone
        for zone in call.draft.all(Zone)
        if selected(call, id=zone.id, name=zone.name, networktype="Basic") and mentions(call, zone.name)
    ]
    return page(call, zones, views.zone)
