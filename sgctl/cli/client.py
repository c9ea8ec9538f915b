# SPDX-License-Identifier: Apache-2.0
"""Signed calls of the query API, and the wait for their jobs."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from sgctl.cli.access import Access
from sgctl.cli.errors import ApiError, CliError, Unreachable
from sgctl.cli.http import Answer, request, shown
from sgctl.signing import signature

EXPIRY = 600.0
"""Seconds that a signed request stays valid."""
FIRST_POLL, LAST_POLL = 0.05, 2.0
"""Seconds between two questions about a job: at first, and after a while."""
OUTAGE = 15.0
"""Seconds for which the API may be away (it may be restarting) while a job is waited for."""


def job_of(answer: Mapping[str, Any]) -> str | None:
    """The id of the job that `answer` announces, if that is all it says."""
    return str(answer["jobid"]) if answer.keys() in ({"jobid"}, {"id", "jobid"}) else None


@dataclass(frozen=True, slots=True)
class ApiClient:
    """Calls commands of one endpoint with one account's keys."""

    access: Access

    def call(self, command: str, params: Mapping[str, str]) -> dict[str, Any]:
        """What the answer's envelope holds. ApiError if the API refuses, Unreachable if there is none."""
        access = self.access
        signed = {
            **params,
            "command": command,
            "apiKey": access.key,
            "response": "json",
            "signatureVersion": "3",
            "expires": time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(time.time() + EXPIRY)),
        }
        signed["signature"] = signature(signed, access.secret)
        body = urlencode(signed, errors="surrogateescape").encode("ascii")
        answer = request(access.endpoint, body, timeout=access.timeout, verify=access.verify)
        content = self._content(answer)
        if answer.status != 200:
            raise self._refusal(answer.status, content, command)
        return content

    def _content(self, answer: Answer) -> dict[str, Any]:
        """The object in the answer's envelope (its only key)."""
        try:
            envelope = answer.object()
        except CliError as error:
            raise CliError(
                f"{shown(answer.url)} answered {answer.status}, but not as CloudStack's API does: "
                "is the endpoint's path right (usually /client/api)?"
            ) from error
        content = next(iter(envelope.values())) if len(envelope) == 1 else envelope
        if not isinstance(content, dict):
            raise CliError(f"{shown(answer.url)} answered without an object in {', '.join(envelope)}")
        return content

    def _refusal(self, status: int, content: Mapping[str, Any], command: str) -> ApiError:
        text = str(content.get("errortext") or "the API gave no reason")
        hint = ""
        if status == 401 and "credentials" in text:
            hint = f"check the key and the secret in {self.access.source}, and this machine's clock"
        elif status in (401, 432):
            hint = f"the account of {self.access.source} may not call {command}, or the API has no such command"
        return ApiError(_code(content.get("errorcode"), status), text, hint)

    def result(self, job: str, waiting: Callable[[float], None]) -> dict[str, Any]:
        """The result of `job`; `waiting` is called with the seconds passed before each new question.

        A failed job is an ApiError, one that outlasts the access' job_timeout a CliError that says how to go on.
        """
        started = heard = time.monotonic()
        pause = FIRST_POLL
        while True:
            try:
                answer = self.call("queryAsyncJobResult", {"jobid": job})
                heard = time.monotonic()
            except Unreachable:
                if time.monotonic() - heard > OUTAGE:
                    raise
                answer = {}
            if str(answer.get("jobstatus", 0)) != "0":
                return _job_result(answer)
            passed = time.monotonic() - started
            if passed >= self.access.job_timeout:
                raise CliError(
                    f"job {job} has not ended after {self.access.job_timeout:g} s; it goes on: "
                    f"`sgctl query asyncjobresult jobid={job}` asks again"
                )
            waiting(passed)
            time.sleep(min(pause, self.access.job_timeout - passed))
            pause = min(pause * 1.5, LAST_POLL)


def _job_result(answer: Mapping[str, Any]) -> dict[str, Any]:
    result = answer.get("jobresult")
    if not isinstance(result, dict):
        result = {} if result is None else {"result": result}
    if str(answer["jobstatus"]) == "1":
        return result
    code = _code(result.get("errorcode"), _code(answer.get("jobresultcode"), 530))
    raise ApiError(code, str(result.get("errortext") or "the job failed and gave no reason"))


def _code(value: object, default: int) -> int:
    try:
        return int(str(value))
    except ValueError:
        return default
