# SPDX-License-Identifier: Apache-2.0
"""Whatever is in a row, it costs at most what hangs on that row: everybody else's flows stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from typing import Any

import pytest

from flows.flow import Flow
from flows.inputs import Bridge, Unit
from flows.pipeline import build
from sgctl.localport import LocalPort
from sgctl.model import Account, Address, Group, Member, Nic, Pod, Range, Row, Rule, Vm, Zone, member_id
from sgctl.openflow.encode import flow_mod
from sgctl.policy import decide
from sgctl.world import World
from tests.unit.worlds import by_id, uid

TEXTS = (
    "", " ", "x", "\x00", "\n", "é" * 300, "10.1.0.999", "::1", "ff02::1", "fe80::1%eth0", "0.0.0.0/0", "1.2.3.4/99",
    "ff:ff:ff:ff:ff:ff", "-1", "1e9", "tcp", "0", "10.9.0.1", "2001:db8::/200", "00000000-0000-0000-0000-000000000000",
)  # fmt: skip
NUMBERS = (-(2**63), -2, -1, 0, 256, 65536, 2**63 - 1)


def cell(name: str, index: int) -> dict[type[Row], Row]:
    """A tenant with one of everything, a pod of its own included."""

    def named(what: str) -> str:
        return uid(f"{name} {what}")

    net = f"10.{index}.0"
    rows: list[Row] = [
        Zone(id=named("zone"), name=name, internal_dns1=f"{net}.2"),
        Pod(
            id=named("pod"), name=name, zone=named("zone"), gateway=f"{net}.1", netmask="255.255.255.0",
            start_ip=f"{net}.3", end_ip=f"{net}.9", dhcp_servers=frozenset({f"{net}.2"}),
            dns_servers=frozenset({f"{net}.2"}),
        ),
        Range(
            id=named("range"), zone=named("zone"), pod=named("pod"), gateway=f"{net}.1", netmask="255.255.255.0",
            start_ip=f"{net}.10", end_ip=f"{net}.99", ip6_gateway=f"fd00:{index}::1", ip6_cidr=f"fd00:{index}::/64",
        ),
        Account(id=named("account"), name=name, name_key=name),
        Group(id=named("group"), account=named("account"), name="web", name_key="web"),
        Rule(
            id=named("rule"), group=named("group"), direction="ingress", protocol="tcp", proto=6, first=80, last=80,
            peer=named("group"),
        ),
        Vm(id=named("vm"), name=name, account=named("account"), zone=named("zone"), pod=named("pod")),
        Nic(
            id=named("nic"), vm=named("vm"), account=named("account"), pod=named("pod"),
            mac=f"02:00:00:00:00:{index:02x}", groups=frozenset({named("group")}),
        ),
        Address(id=named("address"), address=f"{net}.10", nic=named("nic")),
        Member(
            id=member_id(named("group"), f"{net}.10"), group=named("group"), nic=named("nic"), address=f"{net}.10"
        ),
    ]  # fmt: skip
    return {type(row): row for row in rows}


def port(tenant: str, index: int, /, **changes: Any) -> LocalPort:
    return LocalPort(**{
        "uuid": uid(f"{tenant} port"), "name": f"tap{index}", "ofport": index, "iface_id": uid(f"{tenant} nic"),
        **changes,
    })  # fmt: skip


GOOD, BAD = cell("good", 1), cell("bad", 2)
PORTS = (port("good", 1), port("bad", 2), LocalPort(uuid=uid("uplink"), name="eth1", ofport=9, role="uplink"))
ABOUT_GOOD = (uid("good nic"), "10.1.0.", "02:00:00:00:00:01", "fd00:1:")


def world_of(bad: dict[type[Row], Row], ports: tuple[LocalPort, ...] = PORTS) -> World:
    rows: dict[Any, Any] = {kind: [GOOD[kind], bad[kind]] for kind in GOOD}
    return World(
        host="hv1", ports=ports, zones=by_id(rows[Zone]), pods=by_id(rows[Pod]), accounts=by_id(rows[Account]),
        groups=by_id(rows[Group]), vms=by_id(rows[Vm]), nics=by_id(rows[Nic]), ranges=tuple(rows[Range]),
        addresses=tuple(rows[Address]), rules=tuple(rows[Rule]), members=tuple(rows[Member]),
    )  # fmt: skip


@cache
def built(unit: Unit, bridge: Bridge) -> frozenset[Flow]:
    """The flows of a unit that mention the good tenant; all can be encoded. The writer leaves out what has none."""
    try:
        flows = build(unit, bridge)
    except ValueError:
        return frozenset()
    for flow in flows:
        flow_mod(flow, 1)
    return frozenset(flow for flow in flows if any(word in f"{flow.match} {flow.owner}" for word in ABOUT_GOOD))


def flows_about_good(world: World) -> set[Flow]:
    """The flows that mention the good tenant, after all flows of this world have been built and encoded."""
    decision = decide(world)
    bridge = decision.units["bridge"]
    assert isinstance(bridge, Bridge)
    return {flow for unit in decision.units.values() for flow in built(unit, bridge)}


def spoilt(row: Row) -> Iterator[Row]:
    for field in fields(row):
        value = getattr(row, field.name)
        junk: tuple[Any, ...] = ()
        if isinstance(value, bool):
            junk = (not value,)
        elif isinstance(value, int):
            junk = NUMBERS
        elif isinstance(value, frozenset):
            junk = (frozenset(), *(frozenset({text}) for text in TEXTS))
        elif isinstance(value, str) and field.name != "id":
            junk = TEXTS
        yield from (replace(row, **{field.name: one}) for one in junk)


@pytest.mark.parametrize("kind", GOOD, ids=lambda kind: kind.__name__)
def test_a_spoilt_row_touches_nobody_else(kind: type[Row]) -> None:
    before = flows_about_good(world_of(BAD))
    assert len(before) > 20
    for row in spoilt(BAD[kind]):
        assert flows_about_good(world_of(BAD | {kind: row})) == before, row


@pytest.mark.parametrize("column", ["iface_id", "attached_mac", "role", "error", "name", "ofport"])
def test_a_spoilt_port_touches_nobody_else(column: str) -> None:
    before = flows_about_good(world_of(BAD))
    for value in (None, *NUMBERS, 0xFEFF, 0xFF00, 1, 9) if column == "ofport" else TEXTS:
        ports = (PORTS[0], port("bad", 2, **{column: value}), PORTS[2])
        assert flows_about_good(world_of(BAD, ports)) == before, value


#: What else there is in these rows says whose they are, or where, and is not for their owner to write.
NOT_THE_OWNERS = {
    Account: {"id", "type"},
    Group: {"id", "account"},
    Vm: {"id", "account", "zone", "pod"},
    Address: {"id", "address", "nic"},
}


@pytest.mark.parametrize("kind", NOT_THE_OWNERS, ids=lambda kind: kind.__name__)
def test_nothing_that_an_owner_may_write_weakens_its_port(kind: type[Row]) -> None:
    """Names, descriptions and the like: the port is filtered as before, or closed."""
    owner = f"port/{uid('bad nic')}"
    before = decide(world_of(BAD)).units[owner]
    seen = 0
    for row in spoilt(BAD[kind]):
        changed = {field.name for field in fields(row) if getattr(row, field.name) != getattr(BAD[kind], field.name)}
        if not changed & NOT_THE_OWNERS[kind]:
            units = decide(world_of(BAD | {kind: row})).units
            assert units.get(owner, before) == before, row
            assert owner in units or changed == {"wanted"}, row
            seen += 1
    assert seen > 20


@pytest.mark.parametrize("kind", [Nic, Address, Vm, Pod, Group], ids=lambda kind: kind.__name__)
def test_a_missing_row_closes_what_hangs_on_it_and_says_why(kind: type[Row]) -> None:
    whole = world_of(BAD)
    name = {Nic: "nics", Address: "addresses", Vm: "vms", Pod: "pods", Group: "groups"}[kind]
    rest: Any = (GOOD[kind],) if kind is Address else by_id([GOOD[kind]])
    world = replace(whole, **{name: rest})
    assert flows_about_good(world) == flows_about_good(whole)
    state = next(one for one in decide(world).ports if one.name == "tap2")
    assert kind is Address or (state.state == "closed" and state.reason)
