# SPDX-License-Identifier: Apache-2.0
"""Traces and flows for people, over the flows of a small cloud."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from flows.flow import Flow
from flows.inputs import Bridge, Virtual
from flows.pipeline import build
from flows.stages.virtual import holders
from flows.tables import ASIDE
from sgctl.agent.applied import Applied
from sgctl.agent.tracing import QueryError, trace
from sgctl.agent.views import FlowViews, drops, port_view
from sgctl.openflow import encode
from sgctl.openflow.compare import Entry
from sgctl.openflow.replies import Installed
from sgctl.policy import decide
from sgctl.reconcile import Compiler
from tests.unit.worlds import allowance, allowing, peer_rule, port, world

BRIDGE = Bridge((9,))
WORLD = replace(
    world({"web1": ("web",), "nag1": ("nagios",)}, rules=(peer_rule("r", "web", "nagios"),)),
    ports=(
        port("nobody", 9, name="eth1", iface_id=None, role="uplink"),
        port("web1", 1),
        port("nag1", 2),
        port("nobody", 3),
    ),
)
DECISION = decide(WORLD)
APPLIED = Applied(WORLD, DECISION, Compiler(partial(build, bridge=BRIDGE)).compile(DECISION.units), 0, 0, True, 1)
(POD,) = (pod.name for pod in WORLD.pods.values())
GOOD = {"in_port": "tap2", "src": "10.1.0.12", "dst": "10.1.0.11", "proto": "tcp", "dport": "80"}


def test_a_permitted_packet_is_delivered_and_told_step_by_step() -> None:
    told = trace(APPLIED, GOOD)
    assert (told["verdict"], told["where"]) == ("delivered", "tap1 (web1)")
    assert told["steps"][0]["table"] == "CLASSIFIER"
    assert all(set(step) == {"table", "flow", "owner", "note", "actions", "text"} for step in told["steps"])


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"dport": "81"}, "dropped"),
        ({"dport": "81", "state": "established"}, "delivered"),
        ({"src": "10.1.0.99"}, "dropped"),
        ({"src_mac": "02:00:00:00:00:77"}, "dropped"),
        ({"proto": "arp"}, "delivered"),
        ({"proto": "icmp"}, "dropped"),
        ({"proto": "gre"}, "dropped"),
        ({"proto": "sctp"}, "dropped"),
        ({"in_port": "uplink", "src": "10.1.0.13"}, "dropped"),
        ({"in_port": "tap1", "src": "10.1.0.11", "dst": "192.0.2.1"}, "delivered"),
        ({"in_port": "tap3", "src_mac": "02:00:00:00:00:09"}, "dropped"),
    ],
)
def test_verdicts(changes: dict[str, str], verdict: str) -> None:
    assert trace(APPLIED, GOOD | changes)["verdict"] == verdict


VIP = "10.1.0.70"


def entry(flow: Flow) -> Entry:
    """As a switch tells of it."""
    match, instructions = encode.match(flow.match), encode.instructions(flow.actions)
    return Entry(flow.cookie, flow.table, flow.priority, False, match, instructions)


def test_a_virtual_mac_is_where_the_switch_has_heard_it() -> None:
    promise = allowance("web1", VIP, mac="00:00:5e:00:01:33", shared=True)
    of = allowing(WORLD, promise)
    decision = decide(of)
    applied = Applied(of, decision, Compiler(partial(build, bridge=BRIDGE)).compile(decision.units), 0, 0, True, 1)
    (unit,) = [one for one in decision.units.values() if isinstance(one, Virtual)]
    wire, here = map(entry, holders(unit))
    asked = GOOD | {"dst": VIP}
    assert trace(applied, asked)["where"] == trace(applied, asked, [wire])["where"] == "uplink eth1"
    told = trace(applied, asked, [here])
    assert told["where"] == "tap1 (web1)"
    assert "heard there last" in {step["note"] for step in told["steps"]}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"nonsense": "1"}, "no key nonsense"),
        ({"in_port": "tap7"}, "no port tap7"),
        ({"in_port": ""}, "in_port is missing"),
        ({"src": "x"}, "src:"),
        ({"dst": "2001:db8::1"}, "of one family"),
        ({"dport": "65536"}, "dport:"),
        ({"dport": "-1"}, "dport:"),
        ({"proto": "nonsense"}, "proto:"),
        ({"proto": "256"}, "proto:"),
        ({"proto": "icmp", "type": "256"}, "type:"),
        ({"proto": "nd"}, "nd is for IPv6"),
        ({"src_mac": "x"}, "src_mac:"),
        ({"dst_mac": "02:00:00:00:00:100"}, "dst_mac:"),
        ({"state": "odd"}, "state:"),
    ],
)
def test_a_bad_query_says_what_is_wrong(changes: dict[str, str], text: str) -> None:
    with pytest.raises(QueryError, match=text):
        trace(APPLIED, GOOD | changes)


def seen(packets: int = 0) -> list[Installed]:
    return [Installed(cookie, flow.table, flow.priority, packets, 0) for cookie, flow in APPLIED.desired.items()]


def test_flows_know_their_owners_and_rules() -> None:
    views = FlowViews(APPLIED).ours(seen())
    assert len(views) == len(APPLIED.desired)
    names = {view["owner"].partition("/")[0]: view["owner_name"] for view in views}
    assert names["bridge"] == "the bridge" and names["policy"] in ("acme/web", "acme/nagios")
    assert "tap1 (web1)" in {view["owner_name"] for view in views}
    assert {view["owner_name"] for view in views if view["owner"].startswith("pod/")} == {f"pod {POD}"}
    assert {view["rule"] for view in views} == {None, "acme/web: ingress tcp 80 from acme/nagios"}
    assert all(view["note"] for view in views)


def test_drops_are_counted_by_reason() -> None:
    found = drops(APPLIED.desired, seen(packets=3))
    assert found and all(set(drop) == {"reason", "table", "packets"} for drop in found)
    assert all(drop["packets"] % 3 == 0 and drop["reason"] for drop in found)


def test_a_copy_that_finds_nobody_is_no_drop() -> None:
    """Each router advertisement is looked up in every part of the ports, most of which are empty."""
    assert not {drop["table"] for drop in drops(APPLIED.desired, seen(packets=3))} & {table.name for table in ASIDE}


def test_a_port_view_has_the_promised_keys() -> None:
    keys = {
        "name",
        "ofport",
        "nic",
        "vm",
        "vmid",
        "account",
        "mac",
        "addresses",
        "allowed",
        "groups",
        "state",
        "reason",
    }
    assert all(set(port_view(state)) == keys for state in DECISION.ports)
