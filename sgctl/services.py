# SPDX-License-Identifier: Apache-2.0
"""What the applications of one sgctl-manager process share; each gets it as the keyword argument ``sgctl``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import eventlet
from eventlet.support.greenlets import GreenletExit

from sgctl.config import Settings
from sgctl.health import Health
from sgctl.store import Database, Interest


@dataclass(frozen=True, slots=True)
class Services:
    """settings: the options.  database: the SG database.  fatal: ends the process with an error.

    interest: what to replicate of the database; None if all of it is.  health: what `/readyz` and `/metrics` show.
    """

    settings: Settings
    database: Database
    interest: Interest | None
    fatal: Callable[[BaseException], None]
    health: Health = field(default_factory=Health)

    def spawn(self, function: Callable[..., object], *arguments: Any) -> Any:
        """Run a function in a green thread; an error that it raises ends the process (and systemd starts it anew)."""

        def guarded() -> None:
            try:
                function(*arguments)
            except GreenletExit:
                raise
            except BaseException as error:  # noqa: BLE001 - not swallowed: it ends the process
                self.fatal(error)

        return eventlet.spawn(guarded)
