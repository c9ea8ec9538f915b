# SPDX-License-Identifier: Apache-2.0
"""The slow comparison of every installed flow, match and actions, with the desired one.

Cookies show what is missing or superfluous; they do not show a flow that somebody has changed. So now and then all
flows are read and compared, beside the writer. What looks wrong is looked at again and repaired by the writer, in one
bundle, so that a change under way is never taken for a fault.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from threading import Event
from time import sleep

from flows.flow import Flow
from flows.tables import BY_ID, LEARNED_COOKIE
from sgctl.agent.applied import Applied
from sgctl.agent.metrics import Metrics
from sgctl.openflow.compare import Entry, Findings, compare, together
from sgctl.openflow.errors import SwitchError
from sgctl.openflow.switch import Switch
from sgctl.protection import Protection

LOG = logging.getLogger(__name__)
SPREAD = 0.2
"""Part of the interval by which audits vary, so that many hypervisors' do not coincide."""
BREATH = 200
"""Flows that are compared without a break."""
RETRY = 1.0
MOST_LINES = 20
_LEARNED = frozenset({LEARNED_COOKIE})


class Audit:
    """The audits of one bridge."""

    def __init__(self, protection: Protection, metrics: Metrics) -> None:
        self._protection, self._metrics = protection, metrics
        self._foreign: frozenset[Entry] = frozenset()
        self._accepted: dict[int, Entry] = {}
        self.suspicious = Event()

    def run(self, look: Callable[[], tuple[Switch | None, Applied | None]], wake: Callable[[], None]) -> None:
        """Audit until the process ends; `look` gives what is in force, or nothing while that is changing."""
        if not self._protection.audit:
            return
        while True:
            sleep(self._protection.audit * random.uniform(1 - SPREAD, 1 + SPREAD))
            while not self._examine(*look()):
                sleep(RETRY)
            if self.suspicious.is_set():
                wake()

    def _examine(self, switch: Switch | None, applied: Applied | None) -> bool:
        """Compare once; false if it is not the time to."""
        if switch is None or applied is None:
            return False
        try:
            findings = self._compare(switch, applied.desired, breath=BREATH)
        except SwitchError as error:
            LOG.warning("no audit: %s", error)
            return False
        self._metrics.audits.inc()
        if findings.wrong or frozenset(findings.foreign) != self._foreign:
            self.suspicious.set()
        return True

    def _compare(self, switch: Switch, desired: Mapping[int, Flow], *, breath: int = 0) -> Findings:
        parts = compare(desired, switch.entries(), _LEARNED, self._accepted)
        return together(_with_breaks(parts, breath) if breath else parts)

    def repair(self, switch: Switch, desired: Mapping[int, Flow]) -> bool:
        """Look again, and repair what is wrong, in one bundle; true if anything was. Only the writer calls this."""
        self.suspicious.clear()
        found = self._compare(switch, desired)
        self._tell(found, switch)
        foreign = found.foreign if self._protection.remove_foreign else ()
        self._foreign = frozenset(found.foreign) - frozenset(foreign)
        self._metrics.foreign.set(len({one.cookie for one in self._foreign}))
        if not found.wrong and not foreign:
            return False
        switch.apply([*found.missing, *found.changed], removals=[*found.intruders, *foreign])
        for kind, count in _counts(found, len(foreign)):
            self._metrics.audit_repairs.labels(kind).inc(count)
        self._learn_words(switch, desired)
        return True

    def _learn_words(self, switch: Switch, desired: Mapping[int, Flow]) -> None:
        """What looks wrong right after its repair is only told in the switch's own words: do not repair it for ever."""
        again = self._compare(switch, desired)
        still = {flow.cookie for flow in (*again.missing, *again.changed)}
        self._accepted |= {entry.cookie: entry for entry in switch.entries() if entry.cookie in still} if still else {}
        for cookie in still:
            LOG.warning("audit: the switch shows this flow in other words: %s", desired[cookie])

    def _tell(self, found: Findings, switch: Switch) -> None:
        """One line per difference, up to a limit."""
        lines = [f"{flow.owner}: missing: {flow}" for flow in found.missing]
        lines += [f"{flow.owner}: changed, should be: {flow}" for flow in found.changed]
        texts = self._texts(switch) if found.intruders or found.foreign else {}
        lines += [f"not ours, under our cookie: {texts.get(one[:3], one[:3])}" for one in found.intruders]
        for line in lines[:MOST_LINES]:
            LOG.warning("audit: repairing %s", line)
        if len(lines) > MOST_LINES:
            LOG.warning("audit: repairing %d more flows", len(lines) - MOST_LINES)
        done = "removing" if self._protection.remove_foreign else "there is"
        for one in list(frozenset(found.foreign) - self._foreign)[:MOST_LINES]:
            LOG.warning("audit: %s a flow that is not sgctl's: %s", done, texts.get(one[:3], one[:3]))

    @staticmethod
    def _texts(switch: Switch) -> dict[tuple[int, ...], str]:
        """All flows in words, by cookie, table and priority."""
        return {
            (one.cookie, one.table, one.priority): f"{_table(one.table)}, priority {one.priority}, "
            f"{one.match or 'any packet'}, actions {one.actions}, cookie {one.cookie:#x}"
            for one in switch.dump_text()
        }


def _table(number: int) -> str:
    return BY_ID[number].name if number in BY_ID else f"table {number}"


def _counts(found: Findings, foreign: int) -> Iterator[tuple[str, int]]:
    yield "missing", len(found.missing)
    yield "changed", len(found.changed)
    yield "intruder", len(found.intruders)
    yield "foreign", foreign


def _with_breaks(parts: Iterator[Findings], breath: int) -> Iterator[Findings]:
    while chunk := list(islice(parts, breath)):
        yield from chunk
        sleep(0)
