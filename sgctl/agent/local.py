# SPDX-License-Identifier: Apache-2.0
"""The bridge in the local switch's database: its ports, and that it stays configured as we need it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from flows.tables import TABLES
from sgctl.config import Settings
from sgctl.localport import VSwitch
from sgctl.vswitch import BridgeSettings, LocalSwitch, VSwitchError

LOG = logging.getLogger(__name__)
DECISIVE = frozenset({"controller", "fail_mode", "other_config:disable-in-band", "protocols"})
"""What makes the difference between a bridge that enforces and one that does not, or forwards everything."""
PATIENCE = 2.0
"""Seconds without the switch's database that are not worth a word."""


class LocalBridge:
    """Follows the bridge, and prepares it again whenever something other than ports has changed there.

    connected: whether the switch has connected to the agent. If it has not when the agent is ready for it, it is told
    to: it has known a former agent, and may be in the pause between two attempts to reach that one.
    repaired: called when somebody else has changed what is decisive, and it is as it was again.
    """

    def __init__(
        self,
        settings: Settings,
        fatal: Callable[[BaseException], None],
        connected: Callable[[], bool],
        repaired: Callable[[], None],
    ) -> None:
        self._connection, self._bridge = settings.ovsdb_connection, settings.bridge
        self._wanted = BridgeSettings(
            controller=settings.controller,
            tables={table.id: table.name for table in TABLES},
            prefixes={table.id: table.prefixes for table in TABLES if table.prefixes},
            timeouts=settings.protection.timeouts,
        )
        self._switch = LocalSwitch(settings.ovsdb_connection, settings.bridge, on_fault=fatal)
        self._connected, self._repaired, self._called = connected, repaired, False
        self._prepared: int | None = None
        self._complaint = ""
        self._away_since = monotonic()
        self._known = False

    def start(self, on_change: Callable[[], None]) -> None:
        """Begin to follow; `on_change` must only take note."""
        self._switch.on_change(on_change)
        self._switch.start()

    def stop(self) -> None:
        """End the connection."""
        self._switch.stop()

    @property
    def insync(self) -> bool:
        """Whether the switch's database is connected."""
        return self._switch.insync

    def look(self) -> VSwitch | None:
        """The bridge as it is; None while its database is away or it does not exist."""
        if not self._switch.insync:
            self._miss()
            return None
        self._greet()
        if self._prepared != self._switch.configuration:
            self._prepare()
        found = self._switch.snapshot()
        return found if found.datapath_id or found.ports else None

    def _miss(self) -> None:
        """Say once that the database is not there, and what of it."""
        if self._known:
            self._known, self._away_since = False, monotonic()
            LOG.warning("the switch's database %s is lost: what is in force stays, but ports that come, go or change "
                        "are not noticed until it is back", self._connection)  # fmt: skip
        elif monotonic() - self._away_since > PATIENCE:
            self._complain(f"waiting for the switch's database {self._connection}")

    def _greet(self) -> None:
        """Say once that it is there."""
        if not self._known:
            self._known, self._complaint = True, ""
            LOG.info("the switch's database %s is followed, after %.1f s without it", self._connection,
                     monotonic() - self._away_since)  # fmt: skip

    def _prepare(self) -> None:
        seen = self._switch.configuration
        try:
            changed = self._switch.prepare(self._wanted, call=not self._called and not self._connected())
            if self._called and changed & DECISIVE:
                LOG.warning("somebody else has changed bridge %s, which may have let everything pass until now: %s",
                            self._bridge, ", ".join(sorted(changed & DECISIVE)))  # fmt: skip
                self._repaired()
            if changed:
                LOG.info("configured bridge %s: controller %s, fail mode secure", self._bridge, self._wanted.controller)
            self._prepared, self._called, self._complaint = seen, True, ""
        except VSwitchError as error:
            self._prepared = None
            self._complain(str(error))

    def _complain(self, text: str) -> None:
        """Log once."""
        if text != self._complaint:
            self._complaint = text
            LOG.warning("%s", text)
