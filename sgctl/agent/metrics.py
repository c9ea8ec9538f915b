# SPDX-License-Identifier: Apache-2.0
"""The agent's Prometheus metrics, in a registry of its own."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from flows.inputs import Fanout, Peer, Policy, Port, Standby
from sgctl.reconcile import Plan
from sgctl.world import Decision, State


class Metrics:
    """What the writer has done, and what is in force."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.ports = Gauge("sgctl_ports", "Local ports by state.", ["state"], registry=registry)
        self.units = Gauge("sgctl_units", "Owners of flows by kind.", ["kind"], registry=registry)
        self.flows = Gauge("sgctl_flows", "Flows that the switch should hold.", registry=registry)
        self.foreign = Gauge("sgctl_foreign_cookies", "Cookies of flows that are not sgctl's.", registry=registry)
        self.problems = Gauge("sgctl_problems", "Rules and owners that are left out.", registry=registry)
        self.mods = Counter("sgctl_flow_mods", "Flow mods sent.", ["kind"], registry=registry)
        self.bundles = Histogram("sgctl_bundle_seconds", "Time of atomic bundles.", registry=registry)
        self.dropped = Gauge("sgctl_dropped_packets", "Dropped packets.", ["table", "reason"], registry=registry)
        self.drifts = Counter("sgctl_drifts", "Times that somebody else had changed flows.", registry=registry)
        self.insync = Gauge("sgctl_insync", "1 if the part is in sync.", ["part"], registry=registry)

    def applied(self, plan: Plan, seconds: float) -> None:
        """A bundle is in force."""
        if plan.empty:
            return
        self.mods.labels("add").inc(len(plan.adds))
        self.mods.labels("delete").inc(len(plan.deletes))
        self.bundles.observe(seconds)

    def observe(self, decision: Decision, flows: int, plan: Plan) -> None:
        """What is in force now."""
        states = Tally(port.state for port in decision.ports)
        for state in State:
            self.ports.labels(state.value).set(states[state])
        kinds = Tally(map(type, decision.units.values()))
        for kind in (Port, Standby, Policy, Peer, Fanout):
            self.units.labels(kind.__name__.lower()).set(kinds[kind])
        self.flows.set(flows)
        self.foreign.set(plan.foreign)
        self.problems.set(len(decision.problems))

    def count_drops(self, drops: Iterable[Mapping[str, Any]]) -> None:
        """What the switch has dropped; the counts start anew when a flow is replaced."""
        self.dropped.clear()
        for drop in drops:
            self.dropped.labels(drop["table"], drop["reason"]).set(drop["packets"])

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
