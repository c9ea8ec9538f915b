# SPDX-License-Identifier: Apache-2.0
"""The one loop that changes the switch: look at the world, decide, compile, compare, apply.

Callbacks only leave a note and wake the loop, so a burst of events is one turn. Nothing is sent before the switch, its
database and the SG database have all been in sync once; after that, each counts as it last was (`sgctl.agent.gather`).
On a new connection the installed flows are read back and compared, so a restart with an unchanged world sends nothing.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from threading import Event
from time import monotonic, sleep

from flows.flow import Flow
from flows.inputs import Bridge, Unit
from flows.learned import learned
from flows.meters import MeterSpec
from flows.moulds import Moulds
from sgctl.agent.applied import NONE, Applied
from sgctl.agent.arrivals import Arrivals, carry
from sgctl.agent.audit import Audit
from sgctl.agent.bounds import Bounds
from sgctl.agent.costs import CostWatch
from sgctl.agent.drift import Census, exchanged
from sgctl.agent.forget import Forgetter
from sgctl.agent.gather import Gatherer
from sgctl.agent.held import Held
from sgctl.agent.holders import left
from sgctl.agent.local import LocalBridge
from sgctl.agent.metrics import Metrics
from sgctl.agent.moves import Moves, Shown
from sgctl.agent.quota import Quotas
from sgctl.agent.renewals import Renewals
from sgctl.collector import uncollected
from sgctl.errors import SgctlError
from sgctl.memo import difference
from sgctl.openflow.early import Early
from sgctl.openflow.errors import Refused, SwitchGone
from sgctl.openflow.switch import Switch
from sgctl.overdraft import overdraw
from sgctl.policy import Decider
from sgctl.reconcile import Compiler, Plan, Unbuildable, scope
from sgctl.world import Decision, Refusal, World

LOG = logging.getLogger(__name__)
TICK = 2.0
"""Seconds after which the loop looks around though nobody has woken it."""
BREATH = 250
"""Units that are built without a break."""
PAUSE = 0.25
"""Seconds in which nothing has happened, at least, before the loop looks for somebody else's changes."""
RETRY = 10.0
"""Seconds after which what the switch has refused is tried once more."""
BOUNDS = 60.0
"""Seconds after which meters and bounds are read again, in case somebody else has changed them."""


class Writer:
    """The loop of one bridge."""

    def __init__(
        self,
        gatherer: Gatherer,
        local: LocalBridge,
        metrics: Metrics,
        arrivals: Arrivals,
        forgetter: Forgetter,
        quotas: Quotas,
        renewals: Renewals,
    ) -> None:
        self.applied: Applied | None = None
        self._gatherer, self._local, self._metrics = gatherer, local, metrics
        self._wake, self._hurry = Event(), Event()
        self._switch: Switch | None = None
        self._installed: dict[int, int] | None = None
        self._stale = False
        self._bounded = 0.0
        self._census = Census()
        self._costs = CostWatch()
        self._busy = False
        self._built = 0
        self._bridge = Bridge(())
        self._moulds, self._compiler = Moulds(self._bridge), Compiler(self._build)
        self._refused: dict[str, Refusal] = {}
        self._retried = 0.0
        self._frames: deque[Shown] = deque(maxlen=1024)
        self._moves = Moves()
        self._arrivals, self._forgetter, self._quotas = arrivals, forgetter, quotas
        self._spoke = self._noted = 0.0
        self._decider, self._renewals = Decider(), renewals
        self._bounds = Bounds(gatherer.settings)
        self.audit = Audit(gatherer.settings.protection, metrics)
        self._basis: tuple[object, ...] | None = None
        self._listeners: list[Event] = []
        self.contest = Event()
        """Set when `take_contested` has something to say."""

    @property
    def switch(self) -> Switch | None:
        """The switch, while it is connected."""
        return self._switch

    @property
    def meters(self) -> Mapping[int, MeterSpec]:
        """The meters that the switch should have."""
        return self._bounds.wanted

    @property
    def settled(self) -> bool:
        """Whether the switch holds what follows from all that is known now."""
        idle = not self._wake.is_set() and not self._busy and self._installed is not None
        return idle and self._gatherer.current and self.applied is not None and self.applied.current

    def in_force(self) -> tuple[Switch | None, Applied | None]:
        """The switch and what it holds; nothing while that is changing."""
        return (self._switch, self.applied) if self.settled else (None, None)

    def notify(self, event: Event) -> None:
        """Have an event set whenever `applied` is new."""
        self._listeners.append(event)

    def wake(self, *, hurry: bool = True) -> None:
        """Something has changed, which cannot wait if `hurry`: else it may share a turn with what comes next."""
        self._noted = self._noted or monotonic()
        self._wake.set()
        if hurry:
            self._hurry.set()

    def connected(self, switch: Switch) -> None:
        """The bridge has connected; what it holds is not known yet."""
        self._switch, self._installed = switch, None
        self.wake()

    def gone(self, switch: Switch) -> None:
        """The bridge's connection is lost."""
        if self._switch is switch:
            self._switch = self._installed = None

    def frame(self, port: int, data: bytes) -> None:
        """A port on standby has sent a frame."""
        if not self._frames:
            self._spoke = monotonic()
        self._frames.append(Shown.of(port, data))
        self.wake()

    def run(self) -> None:
        """Work until the process ends; an error that is not the switch's absence ends it."""
        while True:
            woken = self._wake.wait(TICK if self._installed is None else min(TICK, max(self._census.left, PAUSE)))
            self._hurry.wait(self._renewals.pause if woken else 0)
            self._busy = True
            self._hurry.clear()
            self._wake.clear()
            try:
                self._turn()
                self._look_for_drift(woken=woken)
            except SwitchGone as error:
                LOG.warning("the switch is not there: %s", error)
                self._metrics.errors.labels("switch gone").inc()
                self._installed = None
            self._busy = False

    def _turn(self) -> None:
        noted, self._noted = self._noted or monotonic(), 0.0
        self._look()
        self._metrics.measure_lag(insync=self._gatherer.insync)
        switch, world = self._switch, self._gatherer.world()
        if switch is None or world is None or self._gatherer.loading:
            self._noted = noted
            return
        self._repair(switch)
        installed = self._read_back(switch)
        self._try_again()
        if self._moves.claim(self.applied, self._drain_frames(), self._gatherer.live):
            self.contest.set()
        world = replace(world, claimed=self._moves.claimed(world), refused=self._refused)
        world = replace(world, brought=self._arrivals.brought(), overdrafts=self._quotas.overdrafts)
        world = self._bounds.possible(world)
        fresh = (world.ports, world.claimed, world.brought, world.overdrafts)
        current = self._gatherer.current
        basis = (self._gatherer.known, *fresh, current)
        if basis != self._basis:
            with uncollected():
                self._reconcile(switch, installed, world, noted, current=current)
            self._basis = basis if self._renewals.done else None
        if self.applied is not None:
            late = self._moves.left_before(world, self.applied.decision)
            self._forgetter.forget(switch, self._bridge.zone, late)
        self._renewals.renew()

    def _look(self) -> None:
        """Take notice of the bridge as its database has it."""
        found = self._local.look()
        self._gatherer.look(found)
        if found is not None:
            self._renewals.userspace = found.userspace

    def _try_again(self) -> None:
        """What the switch has refused may be possible by now, for reasons that only the switch knows."""
        if self._refused and monotonic() - self._retried >= RETRY:
            self._refused, self._basis, self._retried = {}, None, monotonic()

    def _repair(self, switch: Switch) -> None:
        """Do what an audit has found necessary, then read back and compare as on a new connection."""
        if self._installed is None or self.applied is None or not self.audit.suspicious.is_set():
            return
        self._bounds.read_back(switch)
        with self._bounds.provided(switch, self.applied.decision, self._bridge):
            pass
        self._renewals.note()
        if self.audit.repair(switch, self.applied.desired):
            self._stale = True
        if self.audit.suspicious.is_set():
            self.wake()

    def take_contested(self) -> frozenset[str]:
        """NICs whose other hypervisor must be asked about them (`sgctl.agent.contests`), since the last time."""
        return self._moves.take_contested()

    def _drain_frames(self) -> list[Shown]:
        return [self._frames.popleft() for _ in range(len(self._frames))]

    def _read_back(self, switch: Switch) -> dict[int, int]:
        """What the switch holds: read on a new connection and when somebody else has changed it, and then compared.

        The answer belongs to this connection: if it is lost meanwhile, changing the switch fails.
        """
        installed = self._installed
        if installed is not None and not self._stale:
            self._look_after_bounds(switch)
            return installed
        switch.set_fragment_mode()
        self._bounds.read_back(switch)
        seen = switch.flows()
        expected, installed = installed, {flow.cookie: flow.table for flow in seen}
        if expected is not None and any(found := self._metrics.count_repairs(expected, installed)):
            LOG.warning("%d of our flows were missing, %d were not expected: repaired", *found)
        self._census.take(seen, installed)
        if self._switch is not switch:
            raise SwitchGone("the switch has connected anew meanwhile")
        self._renewals.note()  # Whoever has changed flows may have put them back.
        self._installed, self._basis = installed, None
        self._stale, self._bounded = False, monotonic()
        return installed

    def _look_after_bounds(self, switch: Switch) -> None:
        """Now and then read meters and bounds; what is missing is put back."""
        if monotonic() - self._bounded >= BOUNDS:
            self._bounds.read_back(switch)
            self._bounded, self._basis = monotonic(), None

    def _look_for_drift(self, *, woken: bool) -> None:
        """Now and then see whether there are other flows than there should be: somebody else has been at work.

        No event waits for that, unless events never end.
        """
        switch, installed, census = self._switch, self._installed, self._census
        if switch is None or installed is None or not (census.overdue if woken else census.due):
            return
        found, part = census.compare(switch.table_counts(), installed), census.next()
        found = found or exchanged(part, switch.flows(cookie=part.value, mask=part.mask), installed)
        if not switch.matches_fragments():
            found = "fragments are not matched by ports"
        if found:
            LOG.warning("somebody else has changed flows: %s", found)
            self._metrics.drifts.inc()
            self._stale = True
            self.wake()

    def _reconcile(
        self, switch: Switch, installed: dict[int, int], world: World, noted: float, *, current: bool
    ) -> None:
        """Bring the switch to what follows from the world, leaving out what it refuses."""
        known = self._gatherer.known
        assert known is not None
        while True:
            decision = carry(self._decider.decide(world), world.brought, world.refused)
            if self.applied is None:
                world = replace(world, overdrafts=self._quotas.adopt(decision, installed))
            decision = overdraw(decision, world.overdrafts, world.refused)
            try:
                desired, todo = self._change(switch, installed, world, decision, noted)
                break
            except Unbuildable as error:
                self._refuse({error.unit.owner: error.reason}, decision)
            except Refused as error:
                self._metrics.errors.labels("refused").inc()
                self._refuse({flow.owner: text for flow, text in error.reasons.items()}, decision)
            world = replace(world, refused=dict(self._refused))
        self._refused = {owner: old for owner, old in self._refused.items() if owner not in decision.units}
        _log_changes(self.applied, decision)
        number, sequence = (self.applied.number + 1, self.applied.sequence) if self.applied is not None else (1, NONE)
        # What is still cached may let through what flows no longer do: it is not in force yet.
        sequence = known.sequence if self._renewals.done else sequence
        self.applied = Applied(world, decision, desired.copy(), todo.foreign, sequence, current, number)
        self._costs.look(self.applied, todo.adds, self._compiler.flows_of)
        self._metrics.observe(decision, len(desired), todo)
        self._metrics.installed.set(len(installed) - todo.foreign - sum(map(learned, installed)))
        for listener in self._listeners:
            listener.set()

    def _change(
        self, switch: Switch, installed: dict[int, int], world: World, decision: Decision, noted: float
    ) -> tuple[dict[int, Flow], Plan]:
        """Bring the switch to what has been decided; what it should hold, and what has changed.

        Meters go before the flows that use them, and both while other flows are still being made, if there are many.
        """
        self._follow(decision)
        with self._bounds.provided(switch, decision, self._bridge), switch.early() as early:

            def tell(flows: Sequence[Flow]) -> None:
                early.add([flow for flow in flows if flow.cookie not in installed])

            desired, todo = self._compiler.compile(decision.units, tell), self._compiler.plan(installed)
            self._apply(switch, installed, world, decision, todo, noted, early)
        self._bounds.withdraw(switch)
        return desired, todo

    def _follow(self, decision: Decision) -> None:
        bridge = decision.units.get("bridge")
        if not isinstance(bridge, Bridge):
            raise SgctlError("the switch refuses the flows that every bridge has")
        if bridge != self._bridge:
            self._bridge = bridge
            self._moulds, self._compiler = Moulds(bridge), Compiler(self._build)

    def _build(self, unit: Unit) -> Sequence[Flow]:
        """The flows of a unit; now and then others of this process get their turn."""
        self._built += 1
        if self._built % BREATH == 0:
            sleep(0)
        return self._moulds.build(unit, scope(unit.owner))

    def _apply(
        self,
        switch: Switch,
        installed: dict[int, int],
        world: World,
        decision: Decision,
        todo: Plan,
        noted: float,
        early: Early,
    ) -> None:
        """Change the switch; connections of addresses that come or go are forgotten while no flow lets them through."""
        before = self.applied.decision if self.applied else None
        held = Held(switch, installed, self._compiler.flows_of)
        self._forgetter.shared |= self._moves.shared(decision, before)
        opened, started = self._moves.opened(world, decision, before, held.addresses), monotonic()
        forget = partial(self._forgetter.forget, switch, self._bridge.zone)
        meanwhile = partial(forget, opened, looking=True) if opened else None
        if not todo.empty:
            self._renewals.note()
        switch.apply(todo.adds, todo.deletes, meanwhile=meanwhile, early=early)
        self._renewals.renew()
        if learned_again := left(before, decision, todo, installed):
            self._renewals.note()
            switch.apply((), learned_again)
            self._renewals.renew()
        done = monotonic()
        self._metrics.applied(todo, done - started, done - noted)
        for cookie, _ in todo.deletes:
            installed.pop(cookie, None)
        installed.update((flow.cookie, flow.table) for flow in todo.adds)
        forget(self._moves.left(world, decision, before))
        frames = list(self._moves.announcements(world, decision, before))
        for frame in frames:
            switch.packet_out(self._bridge.uplinks[0], frame)
        if frames:
            LOG.info("opened %.1f ms after the first frame", (done - self._spoke) * 1000)

    def _refuse(self, reasons: Mapping[str, str], decision: Decision) -> None:
        for owner, reason in reasons.items():
            LOG.error("the switch refuses %s: %s", owner, reason)
            self._refused[owner] = Refusal(decision.units[owner], f"refused by the switch: {reason}")


def _log_changes(before: Applied | None, decision: Decision) -> None:
    """One line per port whose state or reason is new, and per problem that is."""
    were, are = difference(before.decision.ports if before else (), decision.ports)
    old = {port.name: port for port in were}
    for port in are:
        was = old.pop(port.name, None)
        if was is port:
            continue
        if was is None or (was.state, was.reason, was.nic) != (port.state, port.reason, port.nic):
            level = logging.WARNING if port.reason else logging.INFO
            LOG.log(level, "port %s (%s): %s%s", port.name, port.vm or port.nic or "-", port.state,
                    f", {port.reason}" if port.reason else "")  # fmt: skip
    for name in old:
        LOG.info("port %s is gone", name)
    known = set(before.decision.problems) if before else set()
    for problem in decision.problems:
        if problem not in known:
            LOG.warning("left out: %s", problem)
