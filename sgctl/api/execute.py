# SPDX-License-Identifier: Apache-2.0
"""Running a command: one draft, one transaction, again if somebody else was faster; and the job of an asynchronous one.

An asynchronous command is done at once as well. Its job is a row of the same transaction, so that a change is never
there without its job, and any API server can tell about it. Only a job that waits for hypervisors ends later.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping

from sgctl.api import envelope
from sgctl.api.barrier import DONE, FAILED, PENDING, Wait, Waiter, raise_barrier
from sgctl.api.command import Answer, Barrier, Call, Caller, Command, Mode, Object, new_id
from sgctl.api.draft import Draft
from sgctl.api.errors import ApiError, Code, EarlyError
from sgctl.api.limits import check_growth
from sgctl.api.membership import refresh_copies
from sgctl.api.params import Args, parse
from sgctl.api.rendered import Rendered
from sgctl.api.settings import Settings
from sgctl.errors import Conflict, Referenced, Stale, StoreError, Unavailable
from sgctl.model import Job
from sgctl.store import Database

ATTEMPTS = 30
_FIRST_PAUSE = 0.002
_LAST_PAUSE = 0.1


class Executor:
    """Runs commands on a database. `clock`: Unix time in seconds."""

    def __init__(
        self,
        database: Database,
        commands: tuple[Command, ...],
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = database
        self.settings = settings
        self.clock = clock
        self._commands = commands
        self._rendered = Rendered(database.replica)
        self._waiter = Waiter(database, settings, clock)

    def run(self, caller: Caller, command: Command, given: Mapping[str, str]) -> Object:
        """What the answer's envelope holds."""
        args = parse(command.params, given, command=command.name, admin=caller.admin)
        if command.mode is not Mode.ASYNC:
            return self._commit(caller, command, args)
        try:
            return self._commit(caller, command, args)
        except EarlyError:
            raise
        except ApiError as error:
            return self._failed(caller, command, error)

    def _commit(self, caller: Caller, command: Command, args: Args) -> Object:
        lost: StoreError | None = None
        for attempt in range(ATTEMPTS):
            if lost:
                _pause(attempt)
            call = self._call(caller, command, args)
            answer = command.run(call)
            check_growth(call.draft, self.settings.quotas)
            content = command.wrap(answer)
            wait = None
            if command.mode is not Mode.SYNC:
                content, wait = _with_job(call, answer, content)
            refresh_copies(call.draft)
            try:
                self._write(call)
            except (Conflict, Stale, Referenced) as error:
                lost = error
                continue
            if wait:
                self._waiter.start(wait)
            return content
        raise _given_up(lost) from lost

    def _call(self, caller: Caller, command: Command, args: Args) -> Call:
        draft = Draft(self.database.replica)
        now = round(self.clock() * 1000)
        return Call(command, caller, args, draft, self._rendered, self.settings, self._commands, now)

    def _write(self, call: Call) -> None:
        changes, guards = call.draft.changes()
        if not changes:
            return
        comment = f"{call.command.name} by {call.caller.account.id}"
        try:
            self.database.write(changes, guards, comment=comment)
        except Unavailable as error:
            doubt = "; it may have been done all the same" if error.uncertain else ""
            raise EarlyError(Code.UNAVAILABLE, f"the database is not available{doubt}") from error

    def _failed(self, caller: Caller, command: Command, error: ApiError) -> Object:
        result = {"errorcode": int(error.code), "errortext": error.text}
        call = self._call(caller, command, Args({}))
        job = call.draft.insert(_job(call, FAILED, int(Code.INTERNAL), result))
        self._write(call)
        return {"jobid": job.id}


def _with_job(call: Call, answer: Answer, content: Object) -> tuple[Object, Wait | None]:
    """Add the job to the draft, finished unless it has to wait; the answer that names it, and what it waits for."""
    made = next(iter(content.values())) if call.command.answer else None
    instance = str(made["id"]) if isinstance(made, dict) else ""
    wait = None
    if isinstance(answer, Barrier):
        job = call.draft.insert(_job(call, PENDING, 0, {}, instance))
        wait = Wait(job.id, answer.hosts, raise_barrier(call, answer.hosts), content, answer.patience_ms)
    else:
        job = call.draft.insert(_job(call, DONE, 0, content, instance))
    created = {"id": instance} if call.command.mode is Mode.ASYNC_CREATE else {}
    return {**created, "jobid": job.id}, wait


def _job(call: Call, status: int, code: int, result: Object, instance: str = "") -> Job:
    return Job(
        id=new_id(),
        account=call.caller.account.id,
        user=call.caller.user.id,
        command=call.command.name,
        status=status,
        code=code,
        result=envelope.dumps(result),
        instance=instance,
        server=call.settings.server,
        created=call.now,
        completed=0 if status == PENDING else call.now,
    )


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0.5, 1) * min(_FIRST_PAUSE * 2**attempt, _LAST_PAUSE))


def _given_up(lost: StoreError | None) -> ApiError:
    if isinstance(lost, Referenced):
        return ApiError(Code.IN_USE, f"it is in use by others ({lost.table} is still referred to)")
    return ApiError(Code.INTERNAL, "too many others were changing the same objects; please try again")
