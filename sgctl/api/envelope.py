# SPDX-License-Identifier: Apache-2.0
"""Answers on the wire: JSON with exactly one key, and errors as CloudStack writes them."""

from __future__ import annotations

import json
from typing import Any

import webob

from sgctl.api.command import Command, Object
from sgctl.api.errors import ApiError, Code
from sgctl.api.params import printable

ERROR_KEY = "errorresponse"


def success(command: Command, content: Object) -> webob.Response:
    """The answer of a command."""
    return _response(200, {command.envelope: content})


def failure(error: ApiError, command: Command | None) -> webob.Response:
    """The answer to what was refused."""
    known = command is not None and error.code is not Code.UNSUPPORTED
    response = _response(int(error.code), {command.envelope if command and known else ERROR_KEY: error_object(error)})
    response.headers["X-Description"] = printable(error.text, length=500)
    return response


def error_object(error: ApiError) -> Object:
    """An error as HTTP answers carry it."""
    return {
        "uuidList": [],
        "errorcode": int(error.code),
        "cserrorcode": error.cserrorcode,
        "errortext": error.text,
    }


def dumps(value: Any) -> str:
    """JSON as compact as it gets."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _response(status: int, body: Object) -> webob.Response:
    return webob.Response(
        status=status,
        body=dumps(body).encode("utf-8", "backslashreplace"),
        content_type="application/json",
        charset="UTF-8",
    )
