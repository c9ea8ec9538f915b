# SPDX-License-Identifier: Apache-2.0
"""Desired and installed flows, compared by cookies.

A cookie says whose a flow is and what it says, so that reading cookies back is enough to know what is installed::

    63     56 55        40 39                              0
    +--------+------------+--------------------------------+
    |  0x5c  |   owner    |  content (table, priority,     |
    | sgctl  |  digest    |  match, actions)               |
    +--------+------------+--------------------------------+

Flows with another first byte are foreign: never touched, only counted. Flows that the switch makes itself (learned)
have cookies of the pipeline's own and go by themselves; they are neither.
No two desired flows have the same cookie: where digests collide, the later one in the order of owners is salted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from itertools import count
from typing import TypeAlias

from flows.flow import Flow
from flows.inputs import Unit
from flows.learned import learned
from sgctl.memo import changes

SCOPE = 0x5C
_SCOPE_SHIFT = 56
_OWNER_SHIFT = 40

Build: TypeAlias = Callable[[Unit], Sequence[Flow]]
Installed: TypeAlias = Mapping[int, int]
"""What a switch holds: the table of each cookie."""


def ours(cookie: int) -> bool:
    """True if a flow with this cookie was made by sgctl."""
    return cookie >> _SCOPE_SHIFT == SCOPE


@lru_cache(maxsize=4096)
def scope(owner: str) -> int:
    """The part of a cookie that all flows of an owner share."""
    digest = blake2b(owner.encode(), digest_size=2).digest()
    return SCOPE << _SCOPE_SHIFT | int.from_bytes(digest, "big") << _OWNER_SHIFT


def cookie_of(flow: Flow, salt: int = 0) -> int:
    """The cookie of a desired flow."""
    return scope(flow.owner) | flow.digest(salt)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to change in the switch, in the order to send it: make before break."""

    adds: tuple[Flow, ...] = ()
    deletes: tuple[tuple[int, int], ...] = ()
    foreign: int = 0

    @property
    def empty(self) -> bool:
        """True if desired and installed agree."""
        return not self.adds and not self.deletes


def plan(desired: Mapping[int, Flow], installed: Installed) -> Plan:
    """What turns `installed` into `desired`; what the switch has learned itself stays.

    Adds come deepest table first and the first table last, so that a packet is let in only when its whole way is
    there; deletes go the other way.
    """
    adds = [desired[cookie] for cookie in desired.keys() - installed.keys()]
    others = [cookie for cookie in installed.keys() - desired.keys() if not learned(cookie)]
    deletes = [(cookie, installed[cookie]) for cookie in others if ours(cookie)]
    foreign = len(others) - len(deletes)
    adds.sort(key=_order)
    deletes.sort(key=lambda one: (one[1], one[0]))
    return Plan(tuple(adds), tuple(deletes), foreign)


def _order(flow: Flow) -> int:
    """Deepest table and highest priority first, then by cookie; one number is compared faster than three."""
    return flow.cookie - ((flow.table << 16 | flow.priority) << 64)


class Unbuildable(Exception):
    """That no flows can be made of a unit."""

    def __init__(self, unit: Unit, reason: str) -> None:
        super().__init__(f"{unit.owner}: {reason}")
        self.unit = unit
        self.reason = reason


class Compiler:
    """Turns units into desired flows and remembers, per owner, what it has built: equal units are not built again."""

    def __init__(self, build: Build) -> None:
        """`build` must be a function of the unit alone; a new one means a new compiler.

        Flows that it makes without cookies get theirs here, which takes longer.
        """
        self._build = build
        self._units: dict[str, Unit] = {}
        self._compiled: Mapping[str, Unit] = self._units
        self._flows: dict[str, tuple[Flow, ...]] = {}
        self._desired: dict[int, Flow] = {}
        self._collided = False
        self._changed: set[int] = set()
        self._seen: Installed | None = None
        self._foreign = 0

    def compile(
        self, units: Mapping[str, Unit], tell: Callable[[Sequence[Flow]], None] = lambda flows: None
    ) -> dict[int, Flow]:
        """The desired flows by cookie. The answer is the compiler's own: good until the next call.

        `tell` hears of flows as they are made; those of a unit that cannot be built, or whose cookies collide, may be
        others in the end. `units` must not change afterwards. Raises Unbuildable, after which it may be called again
        without that unit.
        """
        known = self._units
        gone, come = changes(self._compiled, units)
        # As long as this has not succeeded, what has been learned is all that counts.
        self._compiled = known
        for owner in [unit.owner for unit in gone if unit.owner not in units]:
            self._forget(owner)
        for unit in come:
            owner = unit.owner
            if known.get(owner) != unit:
                self._forget(owner)
                tell(self._learn(owner, unit))
            known[owner] = unit
        if self._collided:
            self._merge()
        self._compiled = units
        return self._desired

    def plan(self, installed: Installed) -> Plan:
        """What turns `installed` into the flows compiled last, as `plan` says.

        Of an `installed` that it has seen before only what has changed since is looked at, unless that is the most: of
        the flows here, and of the former plan, which may have been carried out or not. So in between only plans may
        have changed it.
        """
        if installed is self._seen and 2 * len(self._changed) < len(self._desired):
            here = {cookie: self._desired[cookie] for cookie in self._changed if cookie in self._desired}
            there = {cookie: installed[cookie] for cookie in self._changed if cookie in installed}
            todo = replace(plan(here, there), foreign=self._foreign)
        else:
            todo = plan(self._desired, installed)
            self._seen, self._foreign = installed, todo.foreign
        self._changed = {flow.cookie for flow in todo.adds} | {cookie for cookie, _ in todo.deletes}
        return todo

    def flows_of(self, owner: str) -> tuple[Flow, ...]:
        """The flows of one owner, as they were last built."""
        return self._flows.get(owner, ())

    def _forget(self, owner: str) -> None:
        self._units.pop(owner, None)
        for flow in self._flows.pop(owner, ()):
            self._desired.pop(flow.cookie, None)
            self._changed.add(flow.cookie)

    def _learn(self, owner: str, unit: Unit) -> tuple[Flow, ...]:
        try:
            flows = tuple(flow if flow.cookie else _marked(flow) for flow in self._build(unit))
        except ValueError as error:
            raise Unbuildable(unit, str(error)) from error
        self._units[owner] = unit
        self._flows[owner] = flows
        for flow in flows:
            self._changed.add(flow.cookie)
            self._collided |= self._desired.setdefault(flow.cookie, flow) is not flow
        return flows

    def _merge(self) -> None:
        """Give cookies anew, in the order of owners, so that colliding ones do not depend on history."""
        self._desired, self._seen = {}, None
        self._collided = False
        for owner in sorted(self._flows):
            self._flows[owner] = tuple(map(self._place, self._flows[owner]))

    def _place(self, flow: Flow) -> Flow:
        for salt in count():
            cookie = cookie_of(flow, salt)
            if cookie not in self._desired:
                placed = flow if flow.cookie == cookie else replace(flow, cookie=cookie)
                self._desired[cookie] = placed
                self._collided |= salt > 0
                return placed
        raise AssertionError("unreachable")


def _marked(flow: Flow) -> Flow:
    """The flow with its cookie; `replace` would take three times as long, ten thousand times over."""
    return Flow(
        flow.table, flow.priority, flow.match, flow.actions, flow.owner, flow.note, cookie_of(flow), flow.expires
    )
