# SPDX-License-Identifier: Apache-2.0
"""The rules of local groups as the pipeline wants them: each read once, numbered, by group and direction.

A host may have ten thousand of them: one that is added or removed costs no more than a look at the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from operator import attrgetter
from typing import TypeAlias

from flows import inputs
from flows.inputs import Network, Policy, Service
from sgctl.identities import Groups, Numbers
from sgctl.model import Rule
from sgctl.numbers import assign, number

ICMP = 1
WITH_PORTS = frozenset({6, 17, 132})
DIRECTIONS = ("egress", "ingress")
ANYTHING = Service()


@dataclass(frozen=True, slots=True)
class Permit:
    """What a rule says, if it makes sense; `wrong`: why it does not.

    number: what stands for it in registers and labels.  peer: the group that it names, or empty.
    """

    id: str
    group: str
    direction: str
    number: int
    peer: str = ""
    cidr: Network | None = None
    service: Service = ANYTHING
    wrong: str = ""


Some: TypeAlias = tuple[Permit, ...]


def read(rule: Rule) -> Permit:
    """A rule in the pipeline's words."""
    known = Permit(rule.id, rule.group, rule.direction, number([rule.id]), rule.peer or "")
    try:
        return replace(known, cidr=_cidr(rule), service=_service(rule))
    except ValueError as error:
        return replace(known, wrong=str(error))


def _cidr(rule: Rule) -> Network | None:
    if rule.direction not in DIRECTIONS:
        raise ValueError(f"no direction {rule.direction!r}")
    if bool(rule.cidr) == bool(rule.peer):
        raise ValueError("needs either a CIDR or a group")
    return ip_network(rule.cidr.strip(), strict=False) if rule.cidr else None


def _service(rule: Rule) -> Service:
    if not -1 <= rule.proto <= 255:
        raise ValueError(f"no IP protocol {rule.proto}")
    if rule.proto == ICMP:
        return Service(ICMP, icmp_type=_icmp(rule.first), icmp_code=_icmp(rule.last))
    if rule.proto not in WITH_PORTS:
        return Service(None if rule.proto < 0 else rule.proto)
    if (rule.first, rule.last) in ((-1, -1), (0, 0)):
        return Service(rule.proto)
    if not 0 <= rule.first <= rule.last <= 65535:
        raise ValueError(f"no port range {rule.first}-{rule.last}")
    return Service(rule.proto, rule.first, rule.last)


def _icmp(value: int) -> int | None:
    if not -1 <= value <= 255:
        raise ValueError(f"no ICMP type or code {value}")
    return None if value < 0 else value


class Permits:
    """Those of some groups, and what is wrong with the others.

    problems: in words.  ids: the rules by their numbers.  named: by direction, the groups that rules name as peers.
    restricted: the groups with any egress rule.
    """

    def __init__(self, read: Iterable[Permit], groups: frozenset[str]) -> None:
        ours = sorted((one for one in read if one.group in groups), key=attrgetter("id"))
        self.problems = [f"rule {one.id}: {one.wrong}" for one in ours if one.wrong]
        self.restricted = {one.group for one in ours if one.direction == "egress"}
        good = _numbered([one for one in ours if not one.wrong])
        self.ids = {one.number: one.id for one in good}
        peers = [one for one in good if one.peer]
        self.named = {way: frozenset(one.peer for one in peers if one.direction == way) for way in DIRECTIONS}
        found: dict[tuple[str, str], list[Permit]] = {}
        for one in good:
            found.setdefault((one.group, one.direction), []).append(one)
        self._of = {key: tuple(some) for key, some in found.items()}

    def of(self, groups: Iterable[str], direction: str) -> Some:
        """The permits of these groups in one direction."""
        parts = [some for group in sorted(groups) if (some := self._of.get((group, direction)))]
        return parts[0] if len(parts) == 1 else tuple(one for part in parts for one in part)


def _numbered(permits: list[Permit]) -> list[Permit]:
    """The same with numbers that are not 0 and do not meet (`sgctl.numbers.assign`)."""
    if len({one.number for one in permits if one.number}) == len(permits):
        return permits
    numbers: Mapping[frozenset[str], int] = assign(frozenset({one.id}) for one in permits)
    return [replace(one, number=numbers[frozenset({one.id})]) for one in permits]


def policy(
    number: int,
    open_: bool,
    egress: Some,
    ingress: Some,
    identities: tuple[frozenset[Groups], frozenset[Groups]],
    numbers: Numbers,
) -> Policy:
    """What becomes of the permits of a set of groups; `identities`: those of the peers of each direction."""
    outgoing, incoming = identities
    return Policy(number, open_, _rules(egress, outgoing, numbers), _rules(ingress, incoming, numbers))


def _rules(permits: Some, known: Iterable[Groups], numbers: Numbers) -> tuple[inputs.Rule, ...]:
    made = (_rule(one, known, numbers) for one in permits)
    return tuple(rule for rule in made if rule.cidr is not None or rule.identities)


def _rule(one: Permit, known: Iterable[Groups], numbers: Numbers) -> inputs.Rule:
    peers = sorted(numbers[groups] for groups in known if one.peer in groups) if one.peer else []
    return inputs.Rule(one.number, one.service, one.cidr, tuple(peers))
