# SPDX-License-Identifier: Apache-2.0
"""Commands of the API: from the words typed to the result shown."""

from collections.abc import Mapping
from typing import Any

from sgctl.cli import views
from sgctl.cli.catalogue import Command
from sgctl.cli.client import job_of
from sgctl.cli.errors import UsageError
from sgctl.cli.session import Progress, Session

RESERVED = ("command", "apikey", "signature", "signatureversion", "expires", "response", "sessionkey")
"""Parameters that the client sets itself."""


def run(session: Session) -> None:
    """Call the command of the session's line, wait for its job, show what it gives."""
    words = session.invocation.words
    params = dict(session.invocation.params)
    columns = [name.strip() for name in params.pop("filter", "").split(",") if name.strip()]
    _check_names(params)
    command = session.directory.resolve(words, params)
    answer = session.client.call(command.name, params)
    job = job_of(answer)
    if job is not None and session.invocation.wait:
        answer = _wait(session, command, job)
    elif command.verb == "list" and not {"page", "pagesize"} & {name.lower() for name in params}:
        answer = _whole(session, command.name, params, answer)
    _show(session, command, answer, columns)


def _check_names(params: dict[str, str]) -> None:
    for name in params:
        if name.lower() in RESERVED:
            raise UsageError(f"parameter {name} is set by sgctl itself and cannot be given")


def listed(session: Session, name: str, params: Mapping[str, str]) -> dict[str, Any]:
    """All that the list command `name` gives, page by page."""
    return _whole(session, name, params, session.client.call(name, params))


def _whole(session: Session, name: str, params: Mapping[str, str], answer: dict[str, Any]) -> dict[str, Any]:
    """`answer` with the pages that follow it: a server gives no more than so many objects at a time."""
    key, found = views.subject(answer)
    if not key or not isinstance(found, list) or not found:
        return answer
    items, size, page = list(found), len(found), 1
    total = answer.get("count")
    while isinstance(total, int) and len(items) < total:
        page += 1
        more = session.client.call(name, {**params, "page": str(page), "pagesize": str(size)}).get(key)
        if not more:
            break
        items += more
    return {**answer, key: items}


def _wait(session: Session, command: Command, job: str) -> dict[str, Any]:
    progress = Progress(session.err, f"waiting for {command.name}")
    try:
        return session.client.result(job, progress)
    except KeyboardInterrupt:
        progress.clear()
        session.note(f"job {job} goes on: `sgctl query asyncjobresult jobid={job}` asks for its result")
        raise
    finally:
        progress.clear()


def _show(session: Session, command: Command, answer: dict[str, Any], columns: list[str]) -> None:
    reduced = views.reduced(answer, columns)
    blocks = views.blocks(answer, columns)
    session.show(reduced, lambda: blocks)
    if ignorance := views.unknown(answer, columns):
        session.note(ignorance)
    if session.invocation.output != "table":
        return
    if not blocks:
        session.note("nothing found" if command.verb == "list" else "done")
    if shortage := views.shortage(answer):
        session.note(shortage)
