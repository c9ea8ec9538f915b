# SPDX-License-Identifier: Apache-2.0
"""What takes many flows is named, and warned of once."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from flows.inputs import Bridge
from flows.pipeline import build
from sgctl.agent import costs as module
from sgctl.agent.applied import Applied
from sgctl.agent.costs import CostWatch, costs, largest
from sgctl.model import Rule
from sgctl.policy import decide
from sgctl.reconcile import Compiler
from tests.unit.worlds import cidr_rule, member, peer_rule, port, uid, world

COMPILER = Compiler(partial(build, bridge=Bridge((9,))))
SIMPLE = (cidr_rule("one", "web", "10.0.0.0/8"), peer_rule("two", "web", "nagios"))
#: Nearly all ports: as many masks as there can be.
AWKWARD = replace(cidr_rule("awkward", "web", "10.9.0.0/16"), first=1, last=65534)


def applied(*rules: Rule, members: int = 3) -> Applied:
    """A host with two VMs, and a group of so many more elsewhere that a rule names."""
    of = world({"web1": ("web",), "nag1": ("nagios",)}, rules=rules)
    more = tuple(member("nagios", f"n{number}", f"10.1.1.{number}") for number in range(1, members + 1))
    ports = (port("nobody", 9, name="eth1", iface_id=None, role="uplink"), port("web1", 1), port("nag1", 2))
    here = replace(of, ports=ports, members=(*of.members, *more))
    decision = decide(here)
    return Applied(here, decision, COMPILER.compile(decision.units).copy(), 0, 0, True, 1)


def flows_of(owner: str) -> Any:
    return COMPILER.flows_of(owner)


def test_the_most_expensive_rule_comes_first() -> None:
    found = costs(applied(*SIMPLE, AWKWARD))
    first, *others = found["rules"]
    assert (first["id"], first["rule"]) == (uid("awkward"), "acme/web: ingress tcp 1-65534 from 10.9.0.0/16")
    assert first["flows"] > 30 > 3 * max(rule["flows"] for rule in others)
    assert {rule["id"] for rule in others} == {uid("one"), uid("two")}


def test_all_flows_are_counted_by_kind() -> None:
    host = applied(*SIMPLE)
    found = costs(host)
    assert sum(kind["flows"] for kind in found["kinds"]) == found["flows"] == len(host.desired)
    names = {owner["owner_name"] for owner in found["owners"]}
    assert {"acme/web", "acme/nagios", "tap1 (web1)"} <= names
    flows = [owner["flows"] for owner in found["owners"]]
    assert flows == sorted(flows, reverse=True)
    assert largest(host)["policy"] == max(
        owner["flows"] for owner in found["owners"] if owner["owner"].startswith("policy/")
    )


def test_groups_that_rules_name_are_shown_by_their_size() -> None:
    """Also those of whose members none is here."""
    found = costs(applied(*SIMPLE, members=40))["groups"]
    assert found[0] == {"group": "acme/nagios", "addresses": 41}


def test_a_costly_policy_is_warned_of_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(module, "COSTLY", 30)
    watch, cheap = CostWatch(), applied(*SIMPLE)
    watch.look(cheap, cheap.desired.values(), flows_of)
    assert not caplog.records
    for _ in range(2):
        dear = applied(*SIMPLE, AWKWARD)
        watch.look(dear, dear.desired.values(), flows_of)
    (record,) = caplog.records
    assert "the rules of acme/web take" in record.getMessage() and "more than 30" in record.getMessage()
    again = applied(*SIMPLE)
    watch.look(again, again.desired.values(), flows_of)
    dear = applied(*SIMPLE, AWKWARD)
    watch.look(dear, dear.desired.values(), flows_of)
    assert len(caplog.records) == 2


def test_a_thousand_simple_rules_are_not_costly() -> None:
    rules = tuple(cidr_rule(f"r{n}", "web", f"10.{n >> 8}.{n & 255}.0/24", port=1000 + n) for n in range(1000))
    assert largest(applied(*rules))["policy"] < module.COSTLY / 2
