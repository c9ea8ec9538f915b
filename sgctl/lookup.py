# SPDX-License-Identifier: Apache-2.0
"""Names in the remotes of databases.

They are looked up once, when a process starts. At each attempt to reach a database, that would hold up all that the
process does for as long as no name server answers: no port and no rule would be followed.
"""

from __future__ import annotations

import re
import socket

from sgctl.configfile import OptionError

_REMOTE = re.compile(r"(tcp|ssl):(\[[0-9a-fA-F:.]+\]|[\w.-]+):(\d+)", re.ASCII)


def looked_up(option: str, remotes: str) -> str:
    """Remotes, separated by commas, with addresses for names: one remote for each address that a name has.

    The IPv4 addresses of a name, or if it has none, its IPv6 addresses. Raises OptionError.
    """
    return ",".join(one for remote in remotes.split(",") if remote for one in _remotes(option, remote))


def _remotes(option: str, remote: str) -> list[str]:
    kind = remote.partition(":")[0]
    if kind not in ("tcp", "ssl"):
        return [remote]
    if not (found := _REMOTE.fullmatch(remote)):
        raise OptionError(f"{option} {remote}: must be {kind}:HOST:PORT")
    name, port = found[2], int(found[3])
    if name.startswith("["):
        return [remote]
    try:
        answers = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise OptionError(f"{option} {remote}: {name} cannot be looked up: {error}") from error
    old = [str(where[0]) for family, _, _, _, where in answers if family is socket.AF_INET]
    new = [f"[{where[0]}]" for family, _, _, _, where in answers if family is socket.AF_INET6]
    return [f"{kind}:{address}:{port}" for address in dict.fromkeys(old or new)]
