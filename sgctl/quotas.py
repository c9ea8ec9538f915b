# SPDX-License-Identifier: Apache-2.0
"""How much of the cloud an account may take: options of API servers, such as ``--max-rules-per-group``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """The most there may be of each; 0: any number. A member is an address, or a network that a NIC was promised."""

    vms_per_account: int = 10_000
    groups_per_account: int = 5000
    rules_per_group: int = 1000
    members_per_group: int = 25_000
    groups_per_nic: int = 16
    addresses_per_nic: int = 64


#: What each field limits, for people.
WHAT = {
    "vms_per_account": "VMs that an account may have",
    "groups_per_account": "Security groups that an account may have",
    "rules_per_group": "Rules that a security group may have, of both directions together",
    "members_per_group": "Addresses that may be in a security group, of all its members together",
    "groups_per_nic": "Security groups that a VM may be in",
    "addresses_per_nic": "Addresses that a NIC may have, and as many that it may be promised beside them",
}


def quotas(conf: Any) -> Quotas:
    """What options say, by the attributes of `conf`."""
    return Quotas(**{field.name: getattr(conf, f"max_{field.name}") for field in fields(Quotas)})


def option(name: str) -> str:
    """The option that sets a field, as on the command line."""
    return f"--{key(name)}"


def key(name: str) -> str:
    """The same as options are declared."""
    return f"max-{name.replace('_', '-')}"
