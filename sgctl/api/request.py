# SPDX-License-Identifier: Apache-2.0
"""The parameters of an HTTP request: query string and form, as they were signed and as commands look them up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

import webob

from sgctl.api.errors import Code, EarlyError
from sgctl.api.params import printable

MAX_PARAMS = 2000
#: A request without Content-Type is text/plain to eventlet.
_FORMS = frozenset({"", "text/plain", "application/x-www-form-urlencoded"})


@dataclass(frozen=True, slots=True)
class Request:
    """`signed`: names and values as sent.  `given`: the same by lower-case name."""

    signed: Mapping[str, str]
    given: Mapping[str, str]

    @property
    def command(self) -> str:
        """The name of the command, empty if there is none."""
        return self.given.get("command", "")


def read(request: webob.Request, *, max_body: int) -> Request:
    """The parameters of `request`; EarlyError if they cannot be read without guessing."""
    pairs = _pairs(request.query_string)
    if request.method == "POST":
        pairs += _pairs(_body(request, max_body))
    if len(pairs) > MAX_PARAMS:
        raise EarlyError(Code.MALFORMED, f"more than {MAX_PARAMS} parameters")
    signed: dict[str, str] = {}
    given: dict[str, str] = {}
    for name, value in pairs:
        lower = name.lower()
        if given.setdefault(lower, value) != value:
            raise EarlyError(Code.MALFORMED, f"parameter {printable(lower)} is given twice")
        signed[name] = value
    return Request(signed, given)


def _pairs(text: str) -> list[tuple[str, str]]:
    try:
        # Servers hand over bytes as Latin-1; what is not percent-encoded should be UTF-8.
        text = text.encode("latin-1").decode()
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMS)
    except ValueError as error:
        raise EarlyError(Code.MALFORMED, f"the parameters cannot be decoded: {printable(str(error))}") from None


def _body(request: webob.Request, limit: int) -> str:
    if request.content_type not in _FORMS:
        raise EarlyError(Code.MALFORMED, "the body must be application/x-www-form-urlencoded")
    try:
        if (request.content_length or 0) > limit:
            raise EarlyError(Code.TOO_LARGE, f"the body is larger than {limit} bytes")
        # Not by webob, which takes a chunked body for none.
        body: bytes = request.environ["wsgi.input"].read(limit + 1)
    except (OSError, ValueError):
        raise EarlyError(Code.MALFORMED, "the body cannot be read") from None
    if len(body) > limit:
        raise EarlyError(Code.TOO_LARGE, f"the body is larger than {limit} bytes")
    return body.decode("latin-1")
