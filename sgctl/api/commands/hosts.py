# SPDX-License-Identifier: Apache-2.0
"""Hosts: the hypervisors whose agents have registered."""

from sgctl.api import machines, views
from sgctl.api.command import Answer, Call, command
from sgctl.api.errors import invalid
from sgctl.api.listing import mentions, page, selected
from sgctl.api.owners import LISTING
from sgctl.api.params import ident, text
from sgctl.model import Host


@command(
    "listHosts",
    "Lists hosts.",
    *LISTING,
    ident("id", "only this one"),
    text("name", "only the one of this name"),
    text("type", "Routing; there are no others"),
    text("state", "Up or Down"),
    text("resourcestate", "Enabled"),
    text("hypervisor", "KVM"),
    ident("zoneid", "only those of this zone"),
    ident("podid", "only those of this pod"),
    text("details", "accepted and ignored"),
    answer="host",
    admin=True,
)
def list_hosts(call: Call) -> Answer:
    """Where a host is, is known from the VMs that it has."""

    def fits(host: Host) -> bool:
        zone, pod = views.host_place(call.draft, host)
        return (
            selected(call, id=host.id, name=host.name, type="Routing", resourcestate="Enabled", hypervisor="KVM")
            and selected(call, zoneid=zone.id if zone else "", podid=pod.id if pod else "")
            and selected(call, state=_state(call, host))
            and mentions(call, host.name)
        )

    hosts = filter(fits, call.draft.all(Host))
    return page(call, hosts, lambda host: views.host(call.draft, host, state=_state(call, host)))


def _state(call: Call, host: Host) -> str:
    return "Down" if machines.is_down(call, host) else "Up"


@command(
    "addHost",
    "Refused: a host registers itself when its sgctl-manager starts.",
    text("hypervisor", "KVM"),
    text("url", "its address"),
    text("username", "not needed"),
    text("password", "not needed"),
    ident("zoneid", "its zone"),
    ident("podid", "its pod"),
    answer="host",
    admin=True,
)
def add_host(call: Call) -> Answer:
    """An explanation is more useful than an unknown command."""
    raise invalid("hosts are not added: start sgctl-manager on the hypervisor, and it registers itself")
