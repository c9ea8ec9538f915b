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


class Text(str):
    """JSON that is ready, as an item of a list in an answer."""

    __slots__ = ()


def success(command: Command, content: Object) -> webob.Response:
    """The answer of a command."""
    members = (f"{dumps(name)}:{_member(value)}" for name, value in content.items())
    return _response(200, f"{{{dumps(command.envelope)}:{{{','.join(members)}}}}}")


def _member(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], Text):
        return f"[{','.join(value)}]"
    return dumps(value)


def failure(error: ApiError, command: Command | None) -> webob.Response:
    """The answer to what was refused."""
    known = command is not None and error.code is not Code.UNSUPPORTED
    key = command.envelope if command and known else ERROR_KEY
    response = _response(int(error.code), dumps({key: error_object(error)}))
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


def _response(status: int, body: str) -> webob.Response:
    return webob.Response(
        status=status,
        body=body.encode("utf-8", "backslashreplace"),
        content_type="application/json",
        charset="UTF-8",
    )
