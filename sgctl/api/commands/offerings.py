# SPDX-License-Identifier: Apache-2.0
"""What clients list before they deploy: the network of each zone, and the one template and offering of each kind."""

from sgctl.api import fixed
from sgctl.api.command import Answer, Call, Object, command
from sgctl.api.listing import mentions, objects, selected
from sgctl.api.owners import LISTING, OWNED_LISTING
from sgctl.api.params import boolean, ident, text
from sgctl.model import Zone


def _zones(call: Call) -> list[Zone]:
    return sorted(call.draft.all(Zone), key=lambda zone: (zone.created, zone.id))


def _fits(call: Call, item: Object, *params: str) -> bool:
    chosen = {param: str(item.get(param, "")) for param in params}
    return selected(call, **chosen) and mentions(call, item["name"], item["displaytext"])


@command(
    "listNetworks",
    "Lists networks: each zone has one.",
    *OWNED_LISTING,
    ident("id", "only this one"),
    ident("zoneid", "only the one of this zone"),
    text("type", "Shared"),
    text("traffictype", "Guest"),
    text("acltype", "Domain"),
    text("supportedservices", "accepted and ignored"),
    boolean("canusefordeploy", "always true"),
    boolean("issystem", "always false"),
    answer="network",
)
def list_networks(call: Call) -> Answer:
    """Everybody may use them."""
    networks = [fixed.network(zone) for zone in _zones(call)]
    chosen = ("id", "zoneid", "type", "traffictype", "acltype")
    shown = [item for item in networks if _fits(call, item, *chosen) and not call.args.flag("issystem")]
    return objects(call, shown)


@command(
    "listNetworkOfferings",
    "Lists network offerings: there is one.",
    *LISTING,
    ident("id", "only this one"),
    text("name", "only the one of this name"),
    text("state", "Enabled"),
    text("guestiptype", "Shared"),
    text("traffictype", "Guest"),
    text("supportedservices", "accepted and ignored"),
    answer="networkoffering",
)
def list_network_offerings(call: Call) -> Answer:
    """Always the same."""
    item = fixed.network_offering()
    return objects(call, [item] if _fits(call, item, "id", "name", "state", "guestiptype", "traffictype") else [])


@command(
    "listTemplates",
    "Lists templates: there is one, once for each zone.",
    *OWNED_LISTING,
    text("templatefilter", "featured, self, executable, all ...; without effect", required=True),
    ident("id", "only this one"),
    text("name", "only the one of this name"),
    ident("zoneid", "only that of this zone"),
    text("hypervisor", "KVM"),
    answer="template",
)
def list_templates(call: Call) -> Answer:
    """Without zones there is one that is in none."""
    items = [fixed.template(zone) for zone in _zones(call)] or [fixed.template(None)]
    return objects(call, [item for item in items if _fits(call, item, "id", "name", "zoneid", "hypervisor")])


@command(
    "listServiceOfferings",
    "Lists service offerings: there is one.",
    *OWNED_LISTING,
    ident("id", "only this one"),
    text("name", "only the one of this name"),
    boolean("issystem", "always false"),
    ident("virtualmachineid", "accepted and ignored"),
    answer="serviceoffering",
)
def list_service_offerings(call: Call) -> Answer:
    """Always the same."""
    item = fixed.service_offering()
    return objects(call, [item] if _fits(call, item, "id", "name") and not call.args.flag("issystem") else [])
