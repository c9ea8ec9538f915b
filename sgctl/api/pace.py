# SPDX-License-Identifier: Apache-2.0
"""The pace of all hypervisors' heartbeats, which the API servers keep in the row about the whole cloud."""

from __future__ import annotations

import logging

from sgctl import heartbeat
from sgctl.errors import StoreError
from sgctl.model import Cloud, Host
from sgctl.store import Database, Guard, Update

LOG = logging.getLogger(__name__)


def set_pace(database: Database) -> None:
    """See that heartbeats come as often as so many hypervisors may make them."""
    hosts = len(database.replica.all(Host))
    for cloud in database.replica.all(Cloud):
        now = heartbeat.wanted([cloud])
        suited = heartbeat.suited(hosts, now)
        if suited == now:
            continue
        try:
            database.write(
                [Update(Cloud, cloud.id, {"heartbeat": suited})],
                [Guard(Cloud, cloud.id, {"heartbeat": cloud.heartbeat})],
                comment="pace of heartbeats",
            )
            LOG.info("%d hypervisors: a heartbeat of each every %.1f s from now on", hosts, suited / 1000)
        except StoreError as error:
            # Another server was faster, or the database is away: there is a next time.
            LOG.info("the pace of heartbeats is not changed this time: %s", error)
