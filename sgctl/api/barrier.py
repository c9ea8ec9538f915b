# SPDX-License-Identifier: Apache-2.0
"""Jobs that end when hypervisors have installed what a command changed (``wait=true``).

The command's transaction counts `Cloud.sequence` up. Each agent copies that number to its `Host.applied` once all that
came before is in its switch, so a job has only to wait for the hosts that its change is about.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread

from sgctl.api import envelope
from sgctl.api.command import Call, Object
from sgctl.api.errors import Code
from sgctl.api.settings import Settings
from sgctl.errors import StoreError
from sgctl.model import Cloud, Host, Job
from sgctl.store import Database, Guard, Update

LOG = logging.getLogger(__name__)

PENDING, DONE, FAILED = 0, 1, 2
_PAUSES = (0.001, 0.05)


@dataclass(frozen=True, slots=True)
class Wait:
    """What a job waits for: `hosts` (their names) having applied `sequence`; and the result that it then has."""

    job: str
    hosts: frozenset[str]
    sequence: int
    content: Object


def raise_barrier(call: Call) -> int:
    """Count the cloud's sequence up in the call's draft; the number to wait for.

    Two transactions that do so cannot both be based on the same state.
    """
    clouds = call.draft.all(Cloud)
    if not clouds:
        return 0
    return call.draft.update(clouds[0], sequence=clouds[0].sequence + 1).sequence


class Waiter:
    """Ends jobs. `clock`: Unix time in seconds."""

    def __init__(self, database: Database, settings: Settings, clock: Callable[[], float]) -> None:
        self._database, self._settings, self._clock = database, settings, clock

    def start(self, wait: Wait) -> None:
        """Wait in a thread of its own."""
        Thread(target=self.finish, args=(wait,), name="sgctl-job", daemon=True).start()

    def finish(self, wait: Wait) -> None:
        """Wait, and write what came of it."""
        start = time.monotonic()
        missing = self._wait(wait, until=start + self._settings.job_wait_ms / 1000)
        milliseconds = round((time.monotonic() - start) * 1000)
        if missing:
            status, code, result = FAILED, int(Code.INTERNAL), _not_everywhere(wait, missing)
        else:
            status, code, result = DONE, 0, {**wait.content, "hosts": len(wait.hosts), "milliseconds": milliseconds}
        try:
            end_job(self._database, wait.job, status, code, result, now=round(self._clock() * 1000))
        except StoreError as error:
            LOG.warning("job %s is over, but that cannot be written: %s", wait.job, error)

    def _wait(self, wait: Wait, *, until: float) -> list[str]:
        """The hosts that have not applied the change in the end."""
        pause, longest = _PAUSES
        while (missing := self._missing(wait)) and time.monotonic() < until:
            time.sleep(pause)
            pause = min(pause * 1.5, longest)
        return missing

    def _missing(self, wait: Wait) -> list[str]:
        applied = {name: row.applied for name in wait.hosts for row in self._database.replica.find(Host, name=name)}
        return sorted(name for name in wait.hosts if applied.get(name, -1) < wait.sequence)


def _not_everywhere(wait: Wait, missing: list[str]) -> Object:
    done = len(wait.hosts) - len(missing)
    text = f"the change is stored, but in force on {done} of {len(wait.hosts)} hosts only; not on {', '.join(missing)}"
    return {"errorcode": int(Code.INTERNAL), "errortext": text}


def end_job(database: Database, job: str, status: int, code: int, result: Object, *, now: int) -> None:
    """Write the end of a job that is still pending."""
    columns = {"status": status, "code": code, "result": envelope.dumps(result), "completed": now}
    database.write([Update(Job, job, columns)], [Guard(Job, job, {"status": PENDING})], comment="end of a job")
