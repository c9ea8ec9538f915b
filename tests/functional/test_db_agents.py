# SPDX-License-Identifier: Apache-2.0
"""Real agents at a cluster whose members die one after the other: no flow is touched, and changes arrive later."""

import signal
import time
from pathlib import Path

import pytest

from sgctl.model import Nic
from sgctl.store import Database, Insert
from tests.functional.agent_rig import Rig
from tests.functional.api_servers import until
from tests.functional.db_nodes import Cluster, cluster
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import rows, uid, world

#: Several databases on a machine that may be busy with other tests.
pytestmark = pytest.mark.timeout(300)

CLOUD = world({"web1": ("web",), "web2": ("web",)})


def bound(database: Database, nic: str) -> bool:
    """Whether its row says that it is up on the rig's host."""
    found = database.replica.get(Nic, uid(nic))
    return found is not None and (found.host, found.state) == ("hv1", "up")


def each_member_dies_once(three: Cluster) -> None:
    for node in three.nodes:
        node.stop(signal.SIGKILL)
        time.sleep(1)
        node.start()
        until(three.complete, "the member comes back")


def test_agents_notice_no_more_than_a_delay(tmp_path: Path) -> None:
    with cluster(tmp_path) as three, Rig(CLOUD) as rig, Database(three.remotes) as database:
        assert database.wait_insync(30)
        database.write([Insert(row) for row in rows(CLOUD)])  # type: ignore[arg-type]
        agent = rig.manager(f"--db={three.remotes}")
        rig.plug("web1", 7)
        eventually(lambda: bound(database, "web1"))
        before, started = rig.ages(), time.monotonic()
        each_member_dies_once(three)
        passed, after = time.monotonic() - started, rig.ages()
        assert after.keys() == before.keys()
        assert all(age > passed - 1 for age in after.values()), "no flow was written again"
        rig.plug("web2", 8)
        eventually(lambda: bound(database, "web2"), 30)
        assert agent.stop() == 0
