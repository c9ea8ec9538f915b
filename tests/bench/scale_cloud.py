# SPDX-License-Identifier: Apache-2.0
"""The cloud whose growth is measured, and what an agent of one of its hosts asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sgctl.model import (
    Account,
    Address,
    Cloud,
    Cut,
    Group,
    Handover,
    Host,
    Member,
    Nic,
    Pod,
    Range,
    Row,
    Rule,
    Vm,
    Zone,
)  # fmt: skip
from sgctl.store.interest import seen
from tests.functional import big_cloud
from tests.unit.store_rows import uid

WATCHED = uid("watched")
"""The group that one rule of every account names."""
SPREAD = big_cloud.PER_ACCOUNT // big_cloud.PER_HOST
"""On how many hosts an account is."""


def write_file(path: Path, nics: int) -> None:
    """The cloud, its hosts, and a group that one rule of every account names."""
    big_cloud.write(path, nics)
    hosts = (Host(id=uid(f"host {n}"), name=f"h{n}", version="bench") for n in range(nics // big_cloud.PER_HOST))
    owner = Account(id=uid("operator"), name="operator", name_key="operator")
    shared = Group(id=WATCHED, account=owner.id, name="nagios", name_key="nagios")
    rules = (
        Rule(
            id=uid(f"watched {start}"), group=uid(f"group {start}"), direction="ingress", protocol="tcp", proto=6,
            first=12489, last=12489, peer=WATCHED, digest="y",
        )
        for start in range(0, nics, big_cloud.PER_ACCOUNT)
    )  # fmt: skip
    with path.open("ab") as file:
        file.write(big_cloud.record((Cloud(id=uid("cloud")), owner, shared, *hosts, *rules)))


def account_of(host: int) -> int:
    """The first NIC of the account that a host's NICs belong to."""
    return host * big_cloud.PER_HOST // big_cloud.PER_ACCOUNT * big_cloud.PER_ACCOUNT


def conditions(host: int) -> dict[str, tuple[list[str], list[Any]]]:
    """What this host's agent has agreed with its server (`sgctl.store.interest`): columns and condition by table."""
    numbers = range(host * big_cloud.PER_HOST, (host + 1) * big_cloud.PER_HOST)
    account = account_of(host)
    groups = [uid(f"group {account}"), WATCHED]
    name, nics = f"h{host}", [big_cloud.nic_id(number) for number in numbers]
    found: dict[type[Row], list[Any]] = {
        Cloud: [True], Cut: [True], Host: [["name", "==", name]], Nic: [["host", "==", name]], Address: [False],
        Vm: [False], Handover: [["host", "==", name], *_any("nic", nics)], Member: _any("group", groups),
        Group: _any("_uuid", groups), Rule: _any("group", groups[:1]),
        Account: _any("_uuid", [uid(f"account{account}"), uid("operator")]),
        Pod: _any("_uuid", [big_cloud.POD.id]), Zone: _any("_uuid", [big_cloud.ZONE.id]),
        Range: _any("pod", [big_cloud.POD.id]),
    }  # fmt: skip
    return {kind.TABLE: (sorted(seen(kind)), where) for kind, where in found.items()}


def _any(column: str, ids: list[str]) -> list[Any]:
    return [[column, "==", ["uuid", id]] for id in sorted(ids)]
