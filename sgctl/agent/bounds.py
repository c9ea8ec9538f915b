# SPDX-License-Identifier: Apache-2.0
"""What the switch needs besides flows, so that no VM uses up what all share: its meters, and conntrack's bounds.

Open vSwitch forgets all of it when it restarts, so it is read back and set on every connection. Meters come before the
bundle whose flows use them, and go after the bundle that deletes those.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from flows.inputs import ZONE, Bridge, Limits, Unit
from flows.meters import MeterSpec, meters
from sgctl.config import Settings
from sgctl.memo import Layers, changes
from sgctl.openflow.conntrack import ConntrackReader
from sgctl.openflow.errors import SwitchError
from sgctl.openflow.meters import Change
from sgctl.openflow.switch import Switch
from sgctl.world import Decision, World

LOG = logging.getLogger(__name__)


class Bounds:
    """The bounds of one bridge; used by the writer alone."""

    def __init__(self, settings: Settings) -> None:
        self._protection = settings.protection
        self._control = ConntrackReader(settings.rundir, settings.bridge)
        self._possible = True
        self._trouble = ""
        self._installed: dict[int, MeterSpec] = {}
        self._bridge = Bridge(())
        self._units = Layers[Unit]()
        self._open: set[int] = set()
        self.wanted: dict[int, MeterSpec] = {}

    def read_back(self, switch: Switch) -> None:
        """Learn which meters there are, and bound conntrack."""
        possible = switch.meter_capacity() > 0
        if not possible and self._possible:
            LOG.error("the switch has no meters: what one VM may use of what all share is not bounded")
        self._possible = possible
        self._installed = switch.meters() if possible else {}
        self._open |= self._installed.keys() | self.wanted.keys()
        try:
            self._control.bound(ZONE, self._protection.connections)
            self._trouble = ""
        except SwitchError as error:
            # The flows are what matters: they do not wait for this.
            if str(error) != self._trouble:
                self._trouble = str(error)
                LOG.error("the switch does not bound connections: %s", error)

    def possible(self, world: World) -> World:
        """The world with the limits of its ports, if the switch can keep them."""
        return replace(world, limits=self._protection.limits if self._possible else Limits())

    @contextmanager
    def provided(self, switch: Switch, decision: Decision, bridge: Bridge) -> Iterator[None]:
        """Add and change meters for the flows that are sent within.

        A flow whose meter is refused is refused too, and so closes its port: nobody need wait to hear of it.
        """
        self._want(decision, bridge)
        wanted = [self.wanted[number] for number in sorted(self._open) if number in self.wanted]
        with self._changed(switch, [
            (Change.MODIFY if spec.number in self._installed else Change.ADD, spec)
            for spec in wanted
            if self._installed.get(spec.number) != spec
        ]):  # fmt: skip
            yield

    def _want(self, decision: Decision, bridge: Bridge) -> None:
        """Follow the units that have changed: of hundreds of ports one at a time does."""
        if bridge != self._bridge:
            self._open |= self.wanted.keys()
            self._bridge, self._units, self.wanted = bridge, Layers(), {}
        gone, come = changes(self._units, decision.units)
        self._units = decision.units
        old = {spec.number for unit in gone for spec in meters(unit, bridge)}
        new = {spec.number: spec for unit in come for spec in meters(unit, bridge)}
        for number in old:
            self.wanted.pop(number, None)
        self.wanted.update(new)
        self._open |= old | new.keys()

    def withdraw(self, switch: Switch) -> None:
        """Delete meters that no flow uses any more."""
        gone = (number for number in self._open if number not in self.wanted)
        unused = [self._installed[number] for number in gone if number in self._installed]
        with self._changed(switch, [(Change.DELETE, spec) for spec in unused]):
            pass
        self._open = {number for number in self._open if self.wanted.get(number) != self._installed.get(number)}

    @contextmanager
    def _changed(self, switch: Switch, changes: list[tuple[Change, MeterSpec]]) -> Iterator[None]:
        if not changes:
            yield
            return
        with switch.changing_meters(changes, partial(self._note, changes)):
            yield

    def _note(self, changes: list[tuple[Change, MeterSpec]], refused: Mapping[int, str]) -> None:
        for number, reason in refused.items():
            LOG.error("the switch refuses meter %d: %s", number, reason)
        for change, spec in changes:
            if spec.number in refused or change is Change.DELETE:
                self._installed.pop(spec.number, None)
            else:
                self._installed[spec.number] = spec
