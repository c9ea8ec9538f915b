# SPDX-License-Identifier: Apache-2.0
"""What is in force, as JSON objects for the admin endpoint."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any, TypeAlias

from flows import text
from flows.flow import Flow
from flows.inputs import Port, Standby
from flows.learned import learned
from flows.meters import Bound, MeterSpec
from flows.tables import ASIDE, BY_ID
from sgctl import rules
from sgctl.addresses import words
from sgctl.agent.applied import Applied
from sgctl.binding import group_name
from sgctl.model import Rule
from sgctl.openflow.ofctl import TextFlow
from sgctl.openflow.replies import Installed
from sgctl.world import PortState

Json: TypeAlias = dict[str, Any]
_PORT_KEYS = (
    "name", "ofport", "nic", "vm", "vmid", "account", "mac", "addresses", "allowed", "groups", "state", "reason",
)  # fmt: skip


def port_view(port: PortState) -> Json:
    """A local port."""
    values = asdict(replace(port, allowed=())) | {"allowed": tuple(map(words, port.allowed))}
    return {key: values[key] for key in _PORT_KEYS}


class FlowViews:
    """Flows with the names of their owners and rules."""

    def __init__(self, applied: Applied) -> None:
        self._applied = applied
        self._ports = {port.nic: f"{port.name} ({port.vm})" for port in applied.decision.ports if port.nic}
        self._rules = {rule.id: rule for rule in applied.world.rules}
        self._pods = _pod_names(applied)

    def ours(self, seen: Iterable[Installed]) -> list[Json]:
        """The installed flows that are desired."""
        desired = self._applied.desired
        return [self._own(desired[one.cookie], one) for one in seen if one.cookie in desired]

    def others(self, seen: Iterable[TextFlow]) -> list[Json]:
        """The installed flows that are not: foreign ones, and those that the switch has learned."""
        return [self._other(one) for one in seen if one.cookie not in self._applied.desired]

    def explain(self, flow: Flow, seen: Installed | None) -> Json:
        """One flow with a sentence about it."""
        view = self._own(flow, seen or Installed(flow.cookie, flow.table, flow.priority, 0, 0))
        table = BY_ID[flow.table]
        sentences = [f"{table.name}: {table.purpose}", f"This flow belongs to {view['owner_name']}: {flow.note}."]
        if view["rule"]:
            sentences.append(f"It stands for the rule {view['rule']}.")
        return view | {"text": " ".join(sentences)}

    def _own(self, flow: Flow, seen: Installed) -> Json:
        shown = (str(flow.match), text.actions(flow.actions))
        return _view(flow.table, flow.priority, *shown, seen.cookie, seen.packets, seen.bytes) | {
            "owner": flow.owner,
            "owner_name": self.owner_name(flow.owner),
            "note": flow.note,
            "rule": self._rule(flow),
            "foreign": False,
        }

    def _other(self, one: TextFlow) -> Json:
        own = learned(one.cookie)
        return _view(one.table, one.priority, one.match, one.actions, one.cookie, one.packets, one.bytes) | {
            "owner": "learned" if own else "",
            "owner_name": "the switch itself" if own else "somebody else",
            "note": "learned from a packet" if own else "not sgctl's",
            "rule": None,
            "foreign": not own,
        }

    def owner_name(self, owner: str) -> str:
        """An owner for people."""
        kind, _, key = owner.partition("/")
        world, decision = self._applied.world, self._applied.decision
        if kind in ("port", "standby", "moved", "resumed", "quota"):
            return self._ports.get(key.partition("/")[0], owner)
        if kind == "shared":
            return f"all that may hold {key}"
        if kind == "virtual":
            return f"all that may hold {':'.join(key[at : at + 2] for at in range(0, len(key), 2))}"
        if kind in ("pod", "audience"):
            names = " + ".join(sorted(self._pods.get(key, ()))) or key
            return f"pod {names}" if kind == "pod" else f"all VMs of pod {names}"
        if kind == "policy":
            return _names(partial(group_name, world), decision.policies.get(int(key, 16), ()))
        return {"bridge": "the bridge", "fanout": "all ports"}.get(kind, key)

    def _rule(self, flow: Flow) -> str | None:
        """The rules that a flow stands for, in words: they are those whose numbers the flow loads."""
        values = (getattr(action, "value", None) for action in flow.actions)
        if not flow.owner.startswith("policy/"):
            return None
        found = (self._applied.decision.rules.get(value) for value in values if isinstance(value, int))
        return "; ".join(self.rule_words(self._rules[id]) for id in found if id in self._rules) or None

    def rule_words(self, rule: Rule) -> str:
        """A rule in words, with its group."""
        world = self._applied.world
        peer = group_name(world, rule.peer) if rule.peer else rule.cidr
        said = rules.words(rule.direction, rule.protocol, rule.first, rule.last, peer)
        return f"{group_name(world, rule.group)}: {said}"


def _pod_names(applied: Applied) -> dict[str, set[str]]:
    """The names of pods by their numbers as owners have them; pods with the same content have one number."""
    found: dict[str, set[str]] = {}
    nics, pods = applied.world.nics, applied.world.pods
    for unit in applied.decision.units.values():
        if isinstance(unit, Port):
            found.setdefault(f"{unit.segment.number:08x}", set()).add(pods[nics[unit.nic].pod].name)
    return found


def _names(name: Callable[[str], str], groups: Iterable[str]) -> str:
    return " + ".join(sorted(map(name, groups))) or "no groups"


def _view(table: int, priority: int, match: str, actions: str, cookie: int, packets: int, octets: int) -> Json:
    known = BY_ID.get(table)
    return {
        "table": known.name if known else str(table),
        "table_id": table,
        "priority": priority,
        "match": match,
        "actions": actions,
        "cookie": f"{cookie:#018x}",
        "packets": packets,
        "bytes": octets,
    }


def drops(desired: Mapping[int, Flow], seen: Iterable[Installed]) -> list[Json]:
    """Dropped packets by reason; that a look aside found nothing is no drop."""
    counts: dict[tuple[int, str], int] = {}
    for one in seen:
        flow = desired.get(one.cookie)
        if flow is not None and flow.drops and BY_ID[flow.table] not in ASIDE:
            key = (flow.table, flow.note)
            counts[key] = counts.get(key, 0) + one.packets
    return [
        {"reason": reason, "table": BY_ID[table].name, "packets": packets}
        for (table, reason), packets in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def metered(meters: Mapping[int, MeterSpec], dropped: Mapping[int, int]) -> Iterator[tuple[str, Bound, int]]:
    """Packets that ports' bounds have dropped: the port's owner, the bound, how many."""
    for number, spec in meters.items():
        if spec.bound is not None and dropped.get(number):
            yield spec.owner, spec.bound, dropped[number]


def drops_by_bounds(found: Iterable[tuple[str, Bound, int]]) -> list[Json]:
    """The same by reason, as `drops` shows other drops."""
    counts: Tally[Bound] = Tally()
    for _, bound, packets in found:
        counts[bound] += packets
    return [
        {"reason": bound.value, "table": bound.table.name, "packets": packets}
        for bound, packets in counts.most_common()
    ]


def numbered(applied: Applied) -> dict[int, str]:
    """Open and waiting ports by OpenFlow number, for people; uplinks too."""
    units = {unit.number for unit in applied.decision.units.values() if isinstance(unit, Port | Standby)}
    return {
        port.ofport: f"uplink {port.name}" if port.state == "uplink" else f"{port.name} ({port.vm})"
        for port in applied.decision.ports
        if port.ofport is not None and (port.ofport in units or port.state == "uplink")
    }
