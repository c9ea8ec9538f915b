# SPDX-License-Identifier: Apache-2.0
"""A database file with a cloud of any size, written as ovsdb-server's own log (ovsdb(5)): 200 000 rows in seconds.

Accounts of `PER_ACCOUNT` NICs each, all in the account's one group, which admits itself. Account by account, NICs are
dealt to hosts, `PER_HOST` at a time; so a host has the NICs of one account only, and the account lives on a few hosts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeAlias

from sgctl import dbfile
from sgctl.model import Account, Address, Group, Member, Nic, Pod, Row, Rule, Vm, Zone, member_id
from sgctl.store.columns import tables
from tests.unit.store_rows import uid

PER_ACCOUNT, PER_HOST = 100, 20
Tables: TypeAlias = dict[str, dict[str, dict[str, Any]]]

ZONE = Zone(id=uid("zone"), name="zone")
POD = Pod(
    id=uid("pod"), name="pod", zone=ZONE.id, gateway="10.0.0.1", netmask="255.0.0.0", start_ip="10.0.0.2",
    end_ip="10.0.0.9",
)  # fmt: skip


def write(path: Path, size: int) -> None:
    """Make the file of a cloud with so many NICs."""
    dbfile.prepare(path)
    with path.open("ab") as file:
        file.write(record((ZONE, POD)))
        for start in range(0, size, PER_ACCOUNT):
            file.write(record(tuple(_account(start))))


def host(number: int) -> str:
    """The host of a NIC."""
    return f"h{number // PER_HOST}"


def nic_id(number: int) -> str:
    """The id of a NIC."""
    return uid(f"nic {number}")


def _account(start: int) -> Iterator[Row]:
    """An account with all that is in it."""
    name = f"account{start}"
    account, group = uid(name), uid(f"group {start}")
    yield Account(id=account, name=name, name_key=name)
    yield Group(id=group, account=account, name="default", name_key="default")
    yield Rule(
        id=uid(f"rule {start}"), group=group, direction="ingress", protocol="tcp", proto=6, first=1, last=9, peer=group,
        digest="x",
    )  # fmt: skip
    for number in range(start, start + PER_ACCOUNT):
        vm, nic, address = uid(f"vm {number}"), nic_id(number), str(IPv4Address("10.0.1.0") + number)
        yield Vm(id=vm, name=f"vm{number}", account=account, zone=ZONE.id, pod=POD.id)
        yield Nic(
            id=nic, vm=vm, account=account, pod=POD.id, mac=f"02:00:00:{number >> 16:02x}:{number >> 8 & 255:02x}:"
            f"{number & 255:02x}", groups=frozenset({group}), host=host(number), state="up", copied=1,
            addresses=frozenset({address}), wanted="Running", vm_name=f"vm{number}",
        )  # fmt: skip
        yield Address(id=uid(f"address {number}"), address=address, nic=nic)
        yield Member(id=member_id(group, address), group=group, nic=nic, address=address)


def record(rows: tuple[Row, ...]) -> bytes:
    """One transaction of the file's log."""
    changed: Tables = {}
    for row in rows:
        changed.setdefault(row.TABLE, {})[row.id] = tables()[type(row)].row(row)
    return log_record(changed)


def log_record(changed: Tables) -> bytes:
    """One transaction of any database's file: columns by table and row."""
    text = json.dumps(changed, separators=(",", ":")).encode() + b"\n"
    return b"OVSDB JSON %d %s\n%s" % (len(text), hashlib.sha1(text).hexdigest().encode(), text)
