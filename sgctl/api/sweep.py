# SPDX-License-Identifier: Apache-2.0
"""Forgetting what nobody asks about any more: finished jobs, destroyed VMs, connections that were to end or to move;
ending jobs whose server died; and completing the rows of NICs and pods that an earlier release has written."""

from __future__ import annotations

import logging
import random
import time

from sgctl.api.barrier import FAILED, PENDING, end_job
from sgctl.api.draft import Draft
from sgctl.api.errors import Code
from sgctl.api.membership import copy_to, share_all
from sgctl.api.pace import set_pace
from sgctl.api.settings import Settings
from sgctl.errors import StoreError
from sgctl.model import Cut, Handover, Job, Nic, Vm
from sgctl.store import Change, Database, Delete

LOG = logging.getLogger(__name__)

_EVERY = 60.0
_BATCH = 500


def sweep_forever(database: Database, settings: Settings) -> None:
    """Sweep now and then, at a time of its own for each server, and keep the pace of heartbeats."""
    while True:
        set_pace(database)
        time.sleep(random.uniform(0.5, 1.5) * _EVERY)
        try:
            complete_nics(database)
            complete_pods(database)
            sweep(database, settings, now=round(time.time() * 1000))
        except StoreError as error:
            # Another server was faster, or the database is away: there is a next time.
            LOG.info("not swept this time: %s", error)


def end_own_jobs(database: Database, settings: Settings, *, now: int) -> None:
    """Fail the jobs that an earlier process of this server has left behind; for the start, before there are others."""
    for job in database.replica.find(Job, status=PENDING):
        if job.server == settings.server:
            try:
                end_job(database, job.id, FAILED, int(Code.INTERNAL), _abandoned(job), now=now)
            except StoreError as error:
                # There is the sweep, too.
                LOG.info("job %s of an earlier process is not ended yet: %s", job.id, error)


def sweep(database: Database, settings: Settings, *, now: int) -> int:
    """Fail jobs that nobody works on any more, delete what is older than `settings.job_keep_ms`; how much that was."""
    oldest = now - settings.job_keep_ms
    reads = database.replica
    for job in reads.find(Job, status=PENDING):
        if job.created < now - 2 * settings.job_wait_ms:
            end_job(database, job.id, FAILED, int(Code.INTERNAL), _abandoned(job), now=now)
    jobs = reads.all(Job)
    old: list[Change] = [Delete(Job, job.id) for job in jobs if job.completed and job.completed < oldest]
    remembered = {job.instance for job in jobs if job.completed >= oldest}
    old += [
        Delete(Vm, vm.id)
        for vm in reads.all(Vm)
        if vm.wanted == "Destroyed" and vm.created < oldest and vm.id not in remembered
    ]
    old += [Delete(Cut, cut.id) for cut in reads.all(Cut) if cut.created < now - settings.cut_keep_ms]
    # Of NICs that are gone, said by hosts that may be gone too.
    old += [Delete(Handover, row.id) for row in reads.all(Handover) if row.nic is None]
    for start in range(0, len(old), _BATCH):
        database.write(old[start : start + _BATCH], comment="sweep")
    return len(old)


def complete_nics(database: Database) -> int:
    """See that NICs' rows say all that agents need to know of them; how many did not."""
    reads = database.replica
    suspects = [nic for nic in reads.all(Nic) if not nic.complete]
    stopped = [vm for vm in reads.all(Vm) if vm.wanted != "Running"]
    suspects += [nic for vm in stopped for nic in reads.find(Nic, vm=vm.id) if nic.wanted != vm.wanted]
    for start in range(0, len(suspects), _BATCH):
        draft = Draft(reads)
        for nic in suspects[start : start + _BATCH]:
            copy_to(draft, nic)
        changes, guards = draft.changes()
        if changes:
            database.write(changes, guards, comment="complete NICs")
    return len(suspects)


def complete_pods(database: Database) -> None:
    """See that pods' rows say what NICs of theirs share."""
    draft = Draft(database.replica)
    share_all(draft)
    changes, guards = draft.changes()
    if changes:
        database.write(changes, guards, comment="complete pods")


def _abandoned(job: Job) -> dict[str, object]:
    text = f"the API server {job.server} ended before the job did; what the command changed is stored"
    return {"errorcode": int(Code.INTERNAL), "errortext": text}
