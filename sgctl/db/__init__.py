# SPDX-License-Identifier: Apache-2.0
"""The database as an application: ``sgctl-manager sgctl.db``, and its operators' tool ``sgctl-db``.

    app       keeps the role of agents in the database, and logs what becomes of a cluster
    roles     what agents may write
    command   ``sgctl-db``: status, backup, restore, convert, leave, kick, pki
    contents  snapshots
    pki       certificates
    talk      one connection to one server

The server itself is started by the launcher, before anything that needs it (`sgctl.dbserver`).
"""

from typing import Any

_APPLICATION = "DatabaseApp"


def __getattr__(name: str) -> Any:
    if name != _APPLICATION:
        raise AttributeError(name)
    from sgctl.db.app import DatabaseApp

    return DatabaseApp


def __dir__() -> list[str]:
    return [*globals(), _APPLICATION]
