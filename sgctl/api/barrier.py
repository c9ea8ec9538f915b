# SPDX-License-Identifier: Apache-2.0
"""Jobs that end when hypervisors have installed what a command changed (``wait=true``).

The command's transaction counts `Cloud.sequence` up, and puts the number where the agents concerned see it: into their
`Host.asked`, or, for all of them, into `Cloud.asked`. Each of these, and no other, copies it to its `Host.applied` once
all that came before is in its switch; the job waits for that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Thread

from sgctl.api import envelope
from sgctl.api.command import Call, Object
from sgctl.api.draft import Reads
from sgctl.api.errors import Code
from sgctl.api.settings import Settings
from sgctl.errors import StoreError
from sgctl.heartbeat import silent
from sgctl.model import Cloud, Host, Job, Nic, Rule
from sgctl.store import Database, Guard, Update

LOG = logging.getLogger(__name__)

PENDING, DONE, FAILED = 0, 1, 2
_PAUSES = (0.001, 0.05)
_SLOWEST = 5
_NAMED = 20


@dataclass(frozen=True, slots=True)
class Wait:
    """What a job waits for: `hosts` (their names) having applied `sequence`; and the result that it then has.

    patience_ms: how long it waits; None: as long as the settings say.
    """

    job: str
    hosts: frozenset[str]
    sequence: int
    content: Object
    patience_ms: int | None = None


def count_up(call: Call) -> Cloud | None:
    """Count the cloud's sequence up in the call's draft: two transactions that do so cannot be based on the same state.

    The row as it is then; None if there is none.
    """
    clouds = call.draft.all(Cloud)
    return call.draft.update(clouds[0], sequence=clouds[0].sequence + 1) if clouds else None


def raise_barrier(call: Call, hosts: frozenset[str]) -> int:
    """Ask these hosts, in the call's draft, to say when they have applied it and all before; the number to wait for."""
    cloud = count_up(call)
    if cloud is None:
        return 0
    known = call.draft.all(Host)
    if hosts.issuperset(host.name for host in known):
        call.draft.update(cloud, asked=cloud.sequence)
        return cloud.sequence
    for host in known:
        if host.name in hosts:
            call.draft.update(host, asked=cloud.sequence)
    return cloud.sequence


def hosts_of_groups(reads: Reads, groups: Iterable[str]) -> frozenset[str]:
    """The hosts of the members of these groups, and of the members of groups whose rules name them."""
    concerned = set(groups)
    concerned |= {rule.group for group in groups for rule in reads.find(Rule, peer=group)}
    return frozenset(nic.host for group in concerned for nic in reads.find(Nic, groups=group) if nic.host)


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
        patience_ms = self._settings.job_wait_ms if wait.patience_ms is None else wait.patience_ms
        missing, slowest = self._wait(wait, start, until=start + patience_ms / 1000)
        milliseconds = round((time.monotonic() - start) * 1000)
        if missing:
            status, code, result = FAILED, int(Code.INTERNAL), _not_everywhere(wait, list(map(self._told, missing)))
        else:
            done = {"hosts": len(wait.hosts), "milliseconds": milliseconds, "slowest": slowest}
            status, code, result = DONE, 0, {**wait.content, **done}
        try:
            end_job(self._database, wait.job, status, code, result, now=round(self._clock() * 1000))
        except StoreError as error:
            LOG.warning("job %s is over, but that cannot be written: %s", wait.job, error)

    def _wait(self, wait: Wait, start: float, *, until: float) -> tuple[list[str], list[Object]]:
        """The hosts that have not applied the change in the end; and of the others the last to do so, with times."""
        pause, longest = _PAUSES
        missing, slowest = sorted(wait.hosts), list[Object]()
        while True:
            before, missing = missing, self._missing(missing, wait.sequence)
            if arrived := frozenset(before).difference(missing):
                milliseconds = round((time.monotonic() - start) * 1000)
                last: list[Object] = [{"name": name, "milliseconds": milliseconds} for name in sorted(arrived)]
                slowest = [*last, *slowest][:_SLOWEST]
            if not missing or time.monotonic() >= until:
                return missing, slowest
            time.sleep(pause)
            pause = min(pause * 1.5, longest)

    def _told(self, name: str) -> str:
        """A host for people, who need not look for the reason if it is Down."""
        now, timeout = round(self._clock() * 1000), self._settings.host_timeout_ms
        rows = self._database.replica.find(Host, name=name)
        return f"{name} (Down)" if any(silent(row, now=now, timeout=timeout) for row in rows) else name

    def _missing(self, names: Iterable[str], sequence: int) -> list[str]:
        replica = self._database.replica
        return [name for name in names if not any(row.applied >= sequence for row in replica.find(Host, name=name))]


def _not_everywhere(wait: Wait, missing: list[str]) -> Object:
    done = len(wait.hosts) - len(missing)
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    names = f"{', '.join(missing[:_NAMED])}{more}"
    text = f"the change is stored, but in force on {done} of {len(wait.hosts)} hosts only; not on {names}"
    return {"errorcode": int(Code.INTERNAL), "errortext": text}


def end_job(database: Database, job: str, status: int, code: int, result: Object, *, now: int) -> None:
    """Write the end of a job that is still pending."""
    columns = {"status": status, "code": code, "result": envelope.dumps(result), "completed": now}
    database.write([Update(Job, job, columns)], [Guard(Job, job, {"status": PENDING})], comment="end of a job")
