# SPDX-License-Identifier: Apache-2.0
"""Asynchronous jobs."""

import json
from datetime import datetime

from sgctl.api import fixed
from sgctl.api.command import Answer, Call, Object, command
from sgctl.api.errors import absent, denied, invalid
from sgctl.api.listing import mentions, page
from sgctl.api.owners import OWNED_LISTING, acting
from sgctl.api.params import ident, printable, text
from sgctl.model import Job


def view(job: Job) -> Object:
    """A job; its result is an object as soon as it is finished."""
    shown: Object = {
        "accountid": job.account,
        "userid": job.user,
        "cmd": job.command,
        "jobid": job.id,
        "jobstatus": job.status,
        "jobprocstatus": 0,
        "jobresultcode": job.code,
        "created": fixed.timestamp(job.created),
    }
    if job.instance:
        shown["jobinstanceid"] = job.instance
    if job.completed:
        shown |= {
            "jobresulttype": "object",
            "jobresult": json.loads(job.result),
            "completed": fixed.timestamp(job.completed),
        }
    return shown


@command(
    "queryAsyncJobResult",
    "Tells how a job is going; its result is under jobresult.",
    ident("jobid", "the job", required=True),
)
def query_job(call: Call) -> Answer:
    """Any API server can tell."""
    job = call.draft.get(Job, call.args.text("jobid"))
    if job is None:
        raise absent("jobid", call.args.text("jobid"))
    if job.account != call.caller.account.id and not call.caller.admin:
        raise denied("the job belongs to another account")
    return view(job)


@command(
    "listAsyncJobs",
    "Lists jobs.",
    *OWNED_LISTING,
    text("startdate", "only those made since, as 2030-01-31 or 2030-01-31T12:00:00+0000"),
    answer="asyncjobs",
)
def list_jobs(call: Call) -> Answer:
    """The account's, or everybody's for a root admin with listall."""
    since = _since(call)
    account = acting(call).id
    everybody = call.caller.admin and call.args.flag("listall") and "account" not in call.args
    jobs = call.draft.all(Job) if everybody else call.draft.find(Job, account=account)
    return page(call, [job for job in jobs if job.created >= since and mentions(call, job.command)], view)


def _since(call: Call) -> float:
    given = call.args.text("startdate")
    if not given:
        return 0
    try:
        moment = datetime.fromisoformat(given)
        return moment.timestamp() * 1000
    except (ValueError, OverflowError):
        raise invalid(f"Invalid parameter startdate: {printable(given)} is no date") from None
