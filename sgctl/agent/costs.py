# SPDX-License-Identifier: Apache-2.0
"""What takes many flows: which policies and ports, which of their rules, which groups that rules name."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TypeAlias

from flows import fields as f
from flows.flow import Flow, Load
from sgctl.agent.applied import Applied
from sgctl.agent.views import FlowViews
from sgctl.binding import group_name

LOG = logging.getLogger(__name__)
Json: TypeAlias = dict[str, Any]

COSTLY = 5000
"""Flows of one policy above which it is worth a warning: with a thousand simple rules it has some two thousand."""
_SHOWN = 20
_RULE_FIELDS = (f.EGRESS_RULE, f.INGRESS_RULE)


def costs(applied: Applied) -> Json:
    """The largest of each, as JSON."""
    views, owners = FlowViews(applied), Counter(flow.owner for flow in applied.desired.values())
    return {
        "flows": len(applied.desired),
        "kinds": [{"kind": kind, "flows": flows} for kind, flows in _kinds(owners).most_common()],
        "owners": [
            {"owner": owner, "owner_name": views.owner_name(owner), "flows": flows}
            for owner, flows in owners.most_common(_SHOWN)
        ],
        "rules": list(_rules(applied, views)),
        "groups": list(_groups(applied)),
    }


def _kinds(owners: Counter[str]) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for owner, flows in owners.items():
        kinds[_kind(owner)] += flows
    return kinds


def _kind(owner: str) -> str:
    return owner.partition("/")[0]


def _rules(applied: Applied, views: FlowViews) -> Iterator[Json]:
    """Rules by the flows that stand for them, in all policies together; what several rules share counts for each."""
    numbers = Counter(number for flow in applied.desired.values() for number in set(_numbers(flow)))
    known = {rule.id: rule for rule in applied.world.rules}
    for number, flows in numbers.most_common(_SHOWN):
        rule = known.get(applied.decision.rules.get(number, ""))
        if rule is not None:
            yield {"id": rule.id, "rule": views.rule_words(rule), "flows": flows}


def _numbers(flow: Flow) -> Iterator[int]:
    for action in flow.actions:
        if isinstance(action, Load) and action.to in _RULE_FIELDS:
            yield action.value


def _groups(applied: Applied) -> Iterator[Json]:
    """Groups that rules name, by their members' addresses: each takes a flow per direction."""
    members = Counter(member.group for member in applied.world.members)
    for group, addresses in members.most_common(_SHOWN):
        yield {"group": group_name(applied.world, group), "addresses": addresses}


def largest(applied: Applied) -> dict[str, int]:
    """By kind of owner, the flows of the one that has the most."""
    found: dict[str, int] = {}
    for owner, flows in Counter(flow.owner for flow in applied.desired.values()).items():
        found[_kind(owner)] = max(found.get(_kind(owner), 0), flows)
    return found


class CostWatch:
    """Warns of each policy that comes to have more than `COSTLY` flows, once."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def look(self, applied: Applied, added: Iterable[Flow], flows_of: Callable[[str], Sized]) -> None:
        """These flows have been added, and `flows_of` says which an owner has now."""
        self._told.intersection_update(applied.decision.units)
        for owner in sorted({flow.owner for flow in added}):
            if _kind(owner) != "policy":
                continue
            flows = len(flows_of(owner))
            if flows > COSTLY and owner not in self._told:
                name = FlowViews(applied).owner_name(owner)
                text = "the rules of %s take %d flows, more than %d: `sgctl costs` names the most expensive ones"
                LOG.warning(text, name, flows, COSTLY)
                self._told.add(owner)
            elif flows <= COSTLY:
                self._told.discard(owner)
