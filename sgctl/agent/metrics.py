# SPDX-License-Identifier: Apache-2.0
"""The agent's Prometheus metrics, in a registry of its own."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from flows.inputs import Fanout, Peer, Policy, Port, Standby
from flows.learned import learned
from flows.meters import Bound
from sgctl.agent.drift import EXPIRING
from sgctl.reconcile import Installed, Plan, ours
from sgctl.world import Decision, State

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds: a change of one port takes a few milliseconds, the first one of a large host a second or two."""


class Metrics:
    """What the writer has done, and what is in force."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.ports = Gauge("sgctl_ports", "Local ports by state.", ["state"], registry=registry)
        self.units = Gauge("sgctl_units", "Owners of flows by kind.", ["kind"], registry=registry)
        self.flows = Gauge("sgctl_flows", "Flows that the switch should hold.", registry=registry)
        self.largest = Gauge(
            "sgctl_largest_flows", "Most flows that one owner has, by kind of owner.", ["kind"], registry=registry
        )
        self.installed = Gauge("sgctl_flows_installed", "Flows of sgctl that the switch holds.", registry=registry)
        self.foreign = Gauge("sgctl_foreign_cookies", "Cookies of flows that are not sgctl's.", registry=registry)
        self.problems = Gauge("sgctl_problems", "Rules and owners that are left out.", registry=registry)
        self.mods = Counter("sgctl_flow_mods", "Flow mods sent.", ["kind"], registry=registry)
        self.bundles = Histogram("sgctl_bundle_seconds", "Time of atomic bundles.", registry=registry, buckets=BUCKETS)
        self.changes = Histogram(
            "sgctl_change_seconds", "Time from news to changed flows.", registry=registry, buckets=BUCKETS
        )
        self.errors = Counter("sgctl_bundle_errors", "Bundles not in force.", ["cause"], registry=registry)
        self.renewals = Counter(
            "sgctl_renewals", "Times the switch was made to forget cached decisions.", registry=registry
        )
        self.uncached = Counter(
            "sgctl_renewal_errors", "Times the switch kept decisions of before a change.", registry=registry
        )
        self.repairs = Counter("sgctl_repairs", "Flows repaired after others.", ["kind"], registry=registry)
        self.bridge_repairs = Counter(
            "sgctl_bridge_repairs", "Times that somebody else had changed the bridge itself.", registry=registry
        )
        self.lag = Gauge("sgctl_database_lag_seconds", "Age of what is known of the database.", registry=registry)
        self._current_at = monotonic()
        self._decision: Decision | None = None
        for cause in ("refused", "switch gone"):
            self.errors.labels(cause)
        for kind in ("add", "delete"):
            self.repairs.labels(kind)
        self.dropped = Gauge("sgctl_dropped_packets", "Dropped packets.", ["table", "reason"], registry=registry)
        self.drifts = Counter("sgctl_drifts", "Times that somebody else had changed flows.", registry=registry)
        self.metered = Gauge(
            "sgctl_metered_packets", "Packets beyond a port's bound.", ["port", "bound"], registry=registry
        )
        self.connections = Gauge("sgctl_connections", "Connections that the switch remembers.", registry=registry)
        self.overdrawn = Gauge(
            "sgctl_ports_over_quota", "Ports with more connections than their quota.", registry=registry
        )
        self.audits = Counter("sgctl_audits", "Comparisons of all flows with the desired ones.", registry=registry)
        self.audit_repairs = Counter("sgctl_audit_repairs", "Flows that audits repaired.", ["kind"], registry=registry)
        for kind in ("missing", "changed", "intruder", "foreign"):
            self.audit_repairs.labels(kind)
        self.insync = Gauge("sgctl_insync", "1 if the part is in sync.", ["part"], registry=registry)

    def applied(self, plan: Plan, seconds: float, since_news: float) -> None:
        """A bundle is in force, so many seconds after it was begun, and after the news that it is the answer to."""
        if plan.empty:
            return
        self.mods.labels("add").inc(len(plan.adds))
        self.mods.labels("delete").inc(len(plan.deletes))
        self.bundles.observe(seconds)
        self.changes.observe(since_news)

    def count_repairs(self, expected: Installed, found: Installed) -> tuple[int, int]:
        """How many flows others have taken away and added; what comes or goes by itself does not count."""
        lost = sum(table not in EXPIRING for cookie, table in expected.items() if cookie not in found)
        more = (cookie for cookie, table in found.items() if cookie not in expected and table not in EXPIRING)
        added = sum(ours(cookie) and not learned(cookie) for cookie in more)
        self.repairs.labels("add").inc(lost)
        self.repairs.labels("delete").inc(added)
        return lost, added

    def measure_lag(self, *, insync: bool) -> None:
        """Whether the database is followed now."""
        now = monotonic()
        self._current_at = now if insync else self._current_at
        self.lag.set(now - self._current_at)

    def observe(self, decision: Decision, flows: int, plan: Plan) -> None:
        """What is in force now; its hundreds of ports are counted when somebody asks."""
        self._decision = decision
        self.flows.set(flows)
        self.foreign.set(plan.foreign)
        self.problems.set(len(decision.problems))

    def _count(self, decision: Decision) -> None:
        states = Tally(port.state for port in decision.ports)
        for state in State:
            self.ports.labels(state.value).set(states[state])
        kinds = Tally(map(type, decision.units.values()))
        for kind in (Port, Standby, Policy, Peer, Fanout):
            self.units.labels(kind.__name__.lower()).set(kinds[kind])

    def count_costs(self, largest: Mapping[str, int]) -> None:
        """By kind of owner, the flows of the one that has the most."""
        self.largest.clear()
        for kind, flows in largest.items():
            self.largest.labels(kind).set(flows)

    def count_drops(self, drops: Iterable[Mapping[str, Any]]) -> None:
        """What the switch has dropped; the counts start anew when a flow is replaced."""
        self.dropped.clear()
        for drop in drops:
            self.dropped.labels(drop["table"], drop["reason"]).set(drop["packets"])

    def count_metered(self, found: Iterable[tuple[str, Bound, int]]) -> None:
        """What the bounds of ports have dropped."""
        self.metered.clear()
        for port, bound, packets in found:
            self.metered.labels(port, bound.name.lower()).set(packets)

    def text(self) -> bytes:
        """The exposition format."""
        if self._decision is not None:
            self._count(self._decision)
        return generate_latest(self.registry)
