# SPDX-License-Identifier: Apache-2.0
"""Objects that clients insist on and that sgctl does not manage: one template, offerings, and a network per zone."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from uuid import NAMESPACE_OID, uuid5

from sgctl.api.command import Object
from sgctl.model import Zone


def _id(name: str) -> str:
    return str(uuid5(NAMESPACE_OID, f"sgctl {name}"))


TEMPLATE_ID = _id("template")
OFFERING_ID = _id("service offering")
NETWORK_OFFERING_ID = _id("network offering")
OS_TYPE_ID = _id("os type")
ANY = "any"
"""The name of the template, and of the service offering."""
TEMPLATE_TEXT = "Whatever the hypervisor boots"


@lru_cache
def network_id(zone: str) -> str:
    """The id of the one network of a zone."""
    return _id(f"network {zone}")


def network_name(zone: Zone) -> str:
    """The name of the one network of a zone."""
    return f"{zone.name} guests"


def timestamp(milliseconds: int) -> str:
    """A time as CloudStack writes it."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")


def template(zone: Zone | None) -> Object:
    """The template, as a zone shows it."""
    place = {"zoneid": zone.id, "zonename": zone.name} if zone else {}
    return {
        "id": TEMPLATE_ID,
        "name": ANY,
        "displaytext": TEMPLATE_TEXT,
        "hypervisor": "KVM",
        "format": "QCOW2",
        "ostypeid": OS_TYPE_ID,
        "ostypename": "Other (64-bit)",
        "isready": True,
        "ispublic": True,
        "isfeatured": True,
        "isextractable": False,
        "passwordenabled": False,
        "crossZones": True,
        "size": 0,
        "status": "Download Complete",
        "templatetype": "USER",
        "tags": [],
        **place,
    }


def service_offering() -> Object:
    """The service offering."""
    return {
        "id": OFFERING_ID,
        "name": ANY,
        "displaytext": "Whatever the hypervisor gives",
        "cpunumber": 1,
        "cpuspeed": 1000,
        "memory": 1024,
        "storagetype": "shared",
        "offerha": False,
        "limitcpuuse": False,
        "isvolatile": False,
        "issystem": False,
        "defaultuse": False,
        "iscustomized": False,
    }


def network_offering() -> Object:
    """The network offering."""
    return {
        "id": NETWORK_OFFERING_ID,
        "name": "SecurityGroups",
        "displaytext": "Shared network with security groups",
        "serviceofferingid": OFFERING_ID,
        "guestiptype": "Shared",
        "traffictype": "Guest",
        "state": "Enabled",
        "availability": "Optional",
        "isdefault": True,
        "specifyvlan": True,
        "specifyipranges": True,
        "conservemode": True,
        "forvpc": False,
        "service": _services(),
    }


def network(zone: Zone) -> Object:
    """The network of a zone."""
    optional = {"networkdomain": zone.domain, "dns1": zone.dns1, "dns2": zone.dns2, "cidr": zone.guest_cidr}
    return {
        "id": network_id(zone.id),
        "name": network_name(zone),
        "displaytext": f"Guests of {zone.name}",
        "networkofferingid": NETWORK_OFFERING_ID,
        "networkofferingname": "SecurityGroups",
        "networkofferingdisplaytext": "Shared network with security groups",
        "zoneid": zone.id,
        "zonename": zone.name,
        "type": "Shared",
        "traffictype": "Guest",
        "acltype": "Domain",
        "broadcastdomaintype": "Native",
        "state": "Setup",
        "issystem": False,
        "isdefault": True,
        "canusefordeploy": True,
        "restartrequired": False,
        "specifyipranges": True,
        "service": _services(),
        "tags": [],
        **{name: value for name, value in optional.items() if value},
    }


def _services() -> list[Object]:
    return [{"name": name} for name in ("Dhcp", "Dns", "SecurityGroup")]
