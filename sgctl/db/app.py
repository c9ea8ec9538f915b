# SPDX-License-Identifier: Apache-2.0
"""The os-ken application that looks after the database server of its process."""

from __future__ import annotations

import json
import logging
from itertools import count
from typing import Any

import eventlet
from os_ken.base.app_manager import OSKenApp

from sgctl.db import elections, roles
from sgctl.db.contents import difference
from sgctl.db.talk import Standing, Talk, TalkError
from sgctl.errors import SgctlError
from sgctl.services import Services
from sgctl.store.columns import schema_json

LOG = logging.getLogger(__name__)
_SECONDS = 2.0
_LOOKS = 15
"""After how many looks at the server the election timer is held against the size of the database."""
_ATTEMPTS = 30


class DatabaseApp(OSKenApp):  # type: ignore[misc]
    """Tells agents' role what it may do, and says in the log what the server is."""

    # os-ken looks for classes of the very module that it was told to load.
    __module__ = "sgctl.db"

    def __init__(self, *args: Any, sgctl: Services, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._services = sgctl
        self._remote = f"unix:{sgctl.settings.state_dir / 'sg.sock'}"
        self._wants_roles = bool(sgctl.settings.db_listen_agents)
        self._said = ""
        self._thread: Any = None

    def start(self) -> Any:
        """Begin to watch; os-ken calls this once."""
        thread = super().start()
        self._thread = self._services.spawn(self._watch)
        return thread

    def close(self) -> None:
        """Stop; os-ken calls this when it ends."""
        self._thread.kill()

    def _watch(self) -> None:
        for look in count(1):
            try:
                with Talk(self._remote) as talk:
                    standing = talk.standing()
                    self._say(standing)
                    if self._wants_roles and standing is not None and standing.connected:
                        set_roles(talk)
                        self._wants_roles = False
                if standing is not None and standing.role == "leader" and not look % _LOOKS:
                    self._adjust_elections()
            except TalkError as error:
                LOG.debug("%s", error)
            eventlet.sleep(_SECONDS)

    def _adjust_elections(self) -> None:
        try:
            elections.adjust(self._services.settings.state_dir)
        except SgctlError as error:
            LOG.debug("%s", error)

    def _say(self, standing: Standing | None) -> None:
        text = described(standing)
        if text != self._said:
            self._said = text
            LOG.info("database: %s", text)


def described(standing: Standing | None) -> str:
    """What a server is, in words."""
    if standing is None:
        return "not there yet"
    if not standing.connected:
        return f"{standing.model}, waiting for the {'database' if standing.model == 'relay' else 'others'}"
    ours, theirs = schema_json()["version"], json.loads(standing.schema or "{}").get("version", "?")
    older = f"; its schema is {theirs}, ours {ours}: run sgctl-db convert" if ours != theirs else ""
    return standing.role + older


def set_roles(talk: Talk) -> None:
    """See that the database says what agents may write; members do this at the same time, and find each other's.

    What operators let others do stays.
    """
    for _ in range(_ATTEMPTS):
        todo = [one for one in difference(talk.rows(roles.TABLES), roles.rows()) if one["op"] != "delete"]
        if not todo:
            return
        try:
            talk.transact(todo)
            LOG.info("agents may now write %s", ", ".join(roles.AGENT))
        except TalkError as error:
            LOG.debug("%s", error)
            eventlet.sleep(_SECONDS)
    raise SgctlError("cannot write what agents may do into the database")
