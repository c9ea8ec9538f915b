# SPDX-License-Identifier: Apache-2.0
"""The one domain, and the one region."""

from sgctl.api.command import Answer, Call, command
from sgctl.api.listing import mentions, objects, selected
from sgctl.api.owners import DOMAIN, DOMAIN_ID, LISTING
from sgctl.api.params import boolean, ident, integer, text


@command(
    "listDomains",
    "Lists domains: there is one, ROOT.",
    *LISTING,
    ident("id", "only this one"),
    text("name", "only the one of this name"),
    integer("level", "only those of this level"),
    boolean("listall", "all of them"),
    answer="domain",
)
def list_domains(call: Call) -> Answer:
    """Clients look for the path ROOT."""
    shown = (
        selected(call, id=DOMAIN_ID, name=DOMAIN) and call.args.integer("level") in (None, 0) and mentions(call, DOMAIN)
    )
    domain = {"id": DOMAIN_ID, "name": DOMAIN, "path": DOMAIN, "level": 0, "haschild": False, "state": "Active"}
    return objects(call, [domain] if shown else [])


@command(
    "listRegions",
    "Lists regions: there is one.",
    *LISTING,
    integer("id", "only this one"),
    text("name", "only the one of this name"),
    answer="region",
)
def list_regions(call: Call) -> Answer:
    """The region is this cloud; its id is a number."""
    shown = call.args.integer("id") in (None, 1) and selected(call, name="Local") and mentions(call, "Local")
    region = {"id": 1, "name": "Local", "endpoint": call.settings.endpoint, "gslbserviceenabled": False}
    return objects(call, [region] if shown else [])
