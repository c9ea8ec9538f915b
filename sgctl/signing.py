# SPDX-License-Identifier: Apache-2.0
"""Signatures of the CloudStack query API: one implementation for the server and for the command line.

The rule is CloudStack's own (``ApiServer.verifyRequest``): all parameters but ``signature``, sorted by name, values
encoded as Java's URLEncoder does with spaces as ``%20``, joined by ``&``, the whole text lower-cased, HMAC-SHA1 with
the secret key, base64.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote


def encoded_value(value: str, *, literal: str = "") -> str:
    """`value` as Java's URLEncoder writes it, a space as ``%20``; characters in `literal` are left as they are.

    `literal` serves clients that deviate: Python's leave ``~`` alone, libcloud ``[]``.
    """
    encoded = quote(value, safe="*" + literal)
    return encoded if "~" in literal else encoded.replace("~", "%7E")


def signed_text(params: Mapping[str, str], *, literal: str = "") -> str:
    """The text that is signed for `params` (decoded names and values); a ``signature`` among them is left out."""
    names = sorted(name for name in params if name.lower() != "signature")
    return "&".join(f"{name}={encoded_value(params[name], literal=literal)}" for name in names).lower()


def signature(params: Mapping[str, str], secret: str, *, literal: str = "") -> str:
    """The base64 signature of `params` with the secret key `secret`, not yet URL-encoded."""
    digest = hmac.new(secret.encode(), signed_text(params, literal=literal).encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode("ascii")
