# SPDX-License-Identifier: Apache-2.0
"""Who signed a request: CloudStack's check, tolerant where its clients deviate."""

from __future__ import annotations

import hmac
from datetime import datetime

from sgctl.api.command import Caller
from sgctl.api.draft import Reads
from sgctl.api.errors import Code, EarlyError
from sgctl.api.request import Request
from sgctl.api.sealing import Sealer
from sgctl.model import Account, Key, User
from sgctl.signing import signature

_REFUSAL = "unable to verify user credentials and/or request signature"
_UNKNOWN_KEY_SECRET = "the secret of nobody"


def authenticate(reads: Reads, request: Request, *, now: float, sealer: Sealer) -> Caller:
    """The caller whose key signed `request`; EarlyError 401 otherwise, with one text for all reasons but expiry."""
    api_key = request.given.get("apikey", "")
    keys = reads.find(Key, api_key=api_key) if api_key else []
    # An unknown key costs as much time as a known one.
    signed = _signed(request, sealer.open(keys[0].secret) if keys else _UNKNOWN_KEY_SECRET)
    user = reads.get(User, keys[0].user) if keys else None
    account = reads.get(Account, user.account) if user else None
    if not signed or user is None or account is None:
        raise EarlyError(Code.UNAUTHORIZED, _REFUSAL)
    if request.given.get("signatureversion") == "3" and _expired(request.given.get("expires", ""), now):
        raise EarlyError(Code.UNAUTHORIZED, "the request has expired, or its parameter expires is not a time")
    return Caller(account, user)


def _signed(request: Request, secret: str) -> bool:
    given = request.given.get("signature", "").encode()
    expected = (signature(request.signed, secret, literal=literal) for literal in _literals(request))
    return any(hmac.compare_digest(given, text.encode()) for text in expected)


def _literals(request: Request) -> list[str]:
    """What clients may have left unencoded: Python's ``~``, libcloud ``[]``; mostly the values have neither."""
    values = "".join(request.signed.values())
    tilde = ["", "~"] if "~" in values else [""]
    brackets = ["", "[]"] if "[" in values or "]" in values else [""]
    return [first + second for first in tilde for second in brackets]


def _expired(expires: str, now: float) -> bool:
    try:
        moment = datetime.strptime(expires.strip(), "%Y-%m-%dT%H:%M:%S%z")
        return moment.timestamp() < now
    except (ValueError, OverflowError):
        return True
