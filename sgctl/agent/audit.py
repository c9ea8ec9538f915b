# SPDX-License-Identifier: Apache-2.0
"""The slow comparison of every installed flow, match and actions, with the desired one.

Cookies show what is missing or superfluous; they do not show a flow that somebody has changed. So now and then all
flows are read and compared, beside the writer, and in parts, none of which keeps others waiting for more than a few
milliseconds. A part that looks wrong is looked at again and repaired by the writer, in one bundle, so that a change
under way is never taken for a fault.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from threading import Event
from time import sleep

from flows.flow import Flow
from flows.tables import BY_ID
from sgctl.agent.applied import Applied
from sgctl.agent.metrics import Metrics
from sgctl.openflow.compare import Entry, Findings, Part, compare, parts, together
from sgctl.openflow.errors import SwitchError
from sgctl.openflow.switch import Switch
from sgctl.protection import Protection

LOG = logging.getLogger(__name__)
SPREAD = 0.2
"""Part of the interval by which audits vary, so that many hypervisors' do not coincide."""
BREATH = 200
"""Flows that are compared without a break."""
PART = 2048
"""Flows that are read at once, at most: the switch and we do nothing else meanwhile."""
PAUSE = 0.02
"""Seconds between two parts."""
RETRY = 0.2
"""Seconds after which a part is compared that could not be while flows were being changed."""
MOST_LINES = 20
"""Differences that the log shows of one part."""


class Audit:
    """The audits of one bridge."""

    def __init__(self, protection: Protection, metrics: Metrics) -> None:
        self._protection, self._metrics = protection, metrics
        self._foreign: frozenset[Entry] = frozenset()
        self._accepted: dict[int, Entry] = {}
        self._doubtful: deque[Part] = deque()
        self._repaired = False
        self.suspicious = Event()

    def run(self, look: Callable[[], tuple[Switch | None, Applied | None]], wake: Callable[[], None]) -> None:
        """Audit until the process ends; `look` gives what is in force, or nothing while that is changing."""
        if not self._protection.audit:
            return
        while True:
            sleep(self._protection.audit * random.uniform(1 - SPREAD, 1 + SPREAD))
            for part in self._parts(look()[1]):
                while not self._examine(part, *look()):
                    sleep(RETRY)
                sleep(PAUSE)
            self._metrics.audits.inc()
            if self.suspicious.is_set():
                wake()

    @staticmethod
    def _parts(applied: Applied | None) -> tuple[Part, ...]:
        flows = len(applied.desired) if applied is not None else 0
        return parts(1 << (flows // PART).bit_length())

    def _examine(self, part: Part, switch: Switch | None, applied: Applied | None) -> bool:
        """Compare a part once; false if it is not the time to."""
        if switch is None or applied is None:
            return False
        try:
            findings = self._compare(part, switch, applied.desired)
        except SwitchError as error:
            LOG.warning("no audit: %s", error)
            return False
        if findings.wrong or frozenset(findings.foreign) != self._foreign_of(part):
            self._doubtful.append(part)
            self.suspicious.set()
        return True

    def _compare(self, part: Part, switch: Switch, desired: Mapping[int, Flow]) -> Findings:
        mine = {cookie: flow for cookie, flow in desired.items() if part.holds(cookie)}
        found = compare(mine, switch.entries(cookie=part.value, mask=part.mask), self._accepted)
        return together(_with_breaks(found))

    def _foreign_of(self, part: Part) -> frozenset[Entry]:
        return frozenset(one for one in self._foreign if part.holds(one.cookie))

    def repair(self, switch: Switch, desired: Mapping[int, Flow]) -> bool:
        """Look again at one of the doubtful parts, and repair what is wrong. Only the writer calls this.

        True if that was the last of them, and something in any of them was repaired.
        """
        self._repaired |= self._repair(self._doubtful.popleft(), switch, desired)
        if self._doubtful:
            return False
        self.suspicious.clear()
        repaired, self._repaired = self._repaired, False
        return repaired

    def _repair(self, part: Part, switch: Switch, desired: Mapping[int, Flow]) -> bool:
        found = self._compare(part, switch, desired)
        self._tell(found, switch)
        foreign = found.foreign if self._protection.remove_foreign else ()
        self._foreign = self._foreign - self._foreign_of(part) | frozenset(found.foreign) - frozenset(foreign)
        self._metrics.foreign.set(len({one.cookie for one in self._foreign}))
        if not found.wrong and not foreign:
            return False
        switch.apply([*found.missing, *found.changed], removals=[*found.intruders, *foreign])
        for kind, count in _counts(found, len(foreign)):
            self._metrics.audit_repairs.labels(kind).inc(count)
        self._learn_words(part, switch, desired)
        return True

    def _learn_words(self, part: Part, switch: Switch, desired: Mapping[int, Flow]) -> None:
        """What looks wrong right after its repair is only told in the switch's own words: do not repair it for ever."""
        again = self._compare(part, switch, desired)
        still = {flow.cookie for flow in (*again.missing, *again.changed)}
        if still:
            seen = switch.entries(cookie=part.value, mask=part.mask)
            self._accepted |= {entry.cookie: entry for entry in seen if entry.cookie in still}
        for cookie in still:
            LOG.warning("audit: the switch shows this flow in other words: %s", desired[cookie])

    def _tell(self, found: Findings, switch: Switch) -> None:
        """One line per difference, up to a limit."""
        lines = [f"{flow.owner}: missing: {flow}" for flow in found.missing]
        lines += [f"{flow.owner}: changed, should be: {flow}" for flow in found.changed]
        texts = self._texts(switch, [*found.intruders, *(frozenset(found.foreign) - self._foreign)])
        lines += [f"not ours, under our cookie: {texts.get(one[:3], one[:3])}" for one in found.intruders]
        for line in lines[:MOST_LINES]:
            LOG.warning("audit: repairing %s", line)
        if len(lines) > MOST_LINES:
            LOG.warning("audit: repairing %d more flows", len(lines) - MOST_LINES)
        done = "removing" if self._protection.remove_foreign else "there is"
        for one in list(frozenset(found.foreign) - self._foreign)[:MOST_LINES]:
            LOG.warning("audit: %s a flow that is not sgctl's: %s", done, texts.get(one[:3], one[:3]))

    @staticmethod
    def _texts(switch: Switch, entries: Iterable[Entry]) -> dict[tuple[int, ...], str]:
        """Some flows in words, by cookie, table and priority."""
        wanted = {(one.table, one.cookie) for one in islice(entries, MOST_LINES)}
        return {
            (one.cookie, one.table, one.priority): f"{_table(one.table)}, priority {one.priority}, "
            f"{one.match or 'any packet'}, actions {one.actions}, cookie {one.cookie:#x}"
            for table, cookie in wanted
            for one in switch.dump_text(table, cookie)
        }


def _table(number: int) -> str:
    return BY_ID[number].name if number in BY_ID else f"table {number}"


def _counts(found: Findings, foreign: int) -> Iterator[tuple[str, int]]:
    yield "missing", len(found.missing)
    yield "changed", len(found.changed)
    yield "intruder", len(found.intruders)
    yield "foreign", foreign


def _with_breaks(found: Iterator[Findings]) -> Iterator[Findings]:
    while chunk := list(islice(found, BREATH)):
        yield from chunk
        sleep(0)
