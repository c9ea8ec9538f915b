# SPDX-License-Identifier: Apache-2.0
"""flows/README.md says what the code does: its tables, flows, reasons and numbers are the real ones."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import flows
from flows.inputs import Allowed, Peer, Policy, Service, Unit
from flows.meters import Bound
from flows.pipeline import build
from flows.tables import BY_ID, BY_NAME, TABLES
from flows.trace import Switch
from tests.unit.flow_cases import CONNECTIONS
from tests.unit.flow_world import (
    AUDIENCE,
    BRIDGE,
    CLIENT,
    CLUSTER,
    FAR,
    GUEST_MAC,
    OWN_EXTRA,
    POLICIES,
    SHARED,
    VIRTUAL,
    VIRTUALS,
    flows_of,
    rule,
)

README = (Path(flows.__file__).parent / "README.md").read_text()


def section(title: str) -> list[list[str]]:
    """The rows of a table of a section."""
    body = README.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("|")]
    return rows[2:]


def test_every_table_is_there() -> None:
    assert set(re.findall(r"^### (\w+)$", README, re.MULTILINE)) == {table.name for table in TABLES}


def test_every_flow_is_real_and_in_its_place() -> None:
    real = {str(flow) for flow in flows_of()}
    for part in README.split("\n### ")[1:]:
        name, shown = part.split("\n")[0], re.findall(r"^table=.*$", part, re.MULTILINE)
        assert shown and set(shown) <= real
        others = {"DHCP_WAITING": {"SERVICES"}, "HOLDER": {"VIRTUAL_GUARD"}, "INGRESS_BUNDLES": {"INGRESS_RULES", name}}
        also = others.get(name, {name})
        assert {BY_ID[int(re.findall(r"\d+", flow)[0])].name for flow in shown} == also


def test_every_reason() -> None:
    reasons = defaultdict(set)
    for flow in flows_of():
        if flow.drops:
            reasons[BY_ID[flow.table].name].add(flow.note)
    assert {table: set(words.split("; ")) for table, words in section("Reasons of drops")} == reasons


def test_every_bound() -> None:
    assert {(bound, table) for bound, table, _ in section("What one VM may use of what all share")} == {
        (bound.value, bound.table.name) for bound in Bound
    }


def test_every_threat_has_tests_that_exist() -> None:
    functional = Path(__file__).parents[1] / "functional"
    for threat, where, tests in section("Threats"):
        assert set(re.findall(r"[A-Z_]{4,}", where)) - {"RARP"} <= set(BY_NAME), threat
        named = re.findall(r"`(\w+\.py)::(\w+)`", tests)
        assert named, threat
        for file, test in named:
            assert f"def {test}(" in (functional / file).read_text(), f"{file}::{test}"


def test_every_cost() -> None:
    def cost(unit: Unit) -> int:
        return len(build(unit, BRIDGE))

    second = replace(FAR, addresses=(*FAR.addresses, FAR.addresses[0] + 1))
    promises = (
        Allowed(ip_network("10.1.0.80")),
        Allowed(ip_network("fd00:1::80")),
        OWN_EXTRA[1],
        CLUSTER[0],
        VIRTUALS[0],
        Allowed(ip_network("10.1.0.60"), GUEST_MAC),
        Allowed(ip_network("fd00:1::60"), GUEST_MAC),
    )
    alone = replace(VIRTUAL[0], clusters=VIRTUAL[0].clusters[:1])
    ranged = Policy(1, egress_open=False, ingress=(rule(1, Service(6, 80, 83), "10.1.0.0/16"),))
    bundled = (rule(1 + n, Service(6, 1000, 60001), f"172.16.{n}.0/24") for n in range(200))
    costs = [
        cost(FAR),
        cost(CLIENT),
        cost(second) - cost(FAR),
        *(cost(replace(CLIENT, allowed=(one,))) - cost(CLIENT) for one in promises[:3]),
        cost(SHARED[0]),
        cost(replace(CLIENT, allowed=(promises[3],))) - cost(CLIENT),
        cost(replace(AUDIENCE, addresses=())),
        cost(AUDIENCE) - cost(replace(AUDIENCE, addresses=AUDIENCE.addresses[1:])),
        cost(alone),
        *(cost(replace(CLIENT, allowed=(one,))) - cost(CLIENT) for one in promises[4:]),
        cost(Peer(FAR.addresses[0], 1)),
        cost(POLICIES[0]),
        cost(ranged),
        cost(Policy(1, egress_open=False, ingress=tuple(bundled))),
    ]
    assert [int(number) for _, number in section("What things cost")] == costs


def test_how_many_tables() -> None:
    switch = Switch(flows_of())
    first, *_, last = (switch.walk(hop.pieces[0], hop.port) for hop in CONNECTIONS["between VMs"])
    assert f"meets {len(first.path)} tables, an established one {len(last.path)}" in README


def test_order_is_the_order_of_the_tables() -> None:
    """Each of the two walks, through connections and through the rest, goes forward."""
    for walk in README.split("\n## ")[1:3]:
        ids = [BY_NAME[name].id for name in re.findall(r"^### (\w+)$", walk, re.MULTILINE)]
        assert ids == sorted(ids)
