# SPDX-License-Identifier: Apache-2.0
"""Interest only: what an agent holds follows from its own VMs and the groups their rules name, not from the cloud."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sgctl.dbserver import DatabaseServer
from sgctl.model import Nic
from sgctl.store import Database, Interest
from tests.functional import big_cloud
from tests.functional.store_server import eventually

#: Several databases on a machine that may be busy with other tests.
pytestmark = pytest.mark.timeout(300)

LARGE, SMALL = 50_000, 1000
HOST = "h3"
PORTS = [number for number in range(SMALL) if big_cloud.host(number) == HOST]
SECONDS, MEGABYTES, SPREAD = 3.0, 80.0, 4.0

#: The store of an agent in a process of its own: argv is the remote, the host, and the ids of its NICs.
AGENT = """
import json, sys, time
from sgctl.store import Database, Interest
def rss():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) / 1024
remote, host, *nics = sys.argv[1:]
interest = Interest()
interest.watch(host=host, nics=frozenset(nics))
before, started = rss(), time.monotonic()
with Database(remote, interest=interest) as database:
    assert database.wait_insync(60)
    took = time.monotonic() - started
    rows = {kind.TABLE: database.replica.count(kind) for kind in database.replica.kinds}
    print(json.dumps({"seconds": took, "rss": rss(), "grown": rss() - before, "rows": rows}))
"""


def measured(server: DatabaseServer) -> dict[str, Any]:
    """What it takes; once more, and again, if the machine had no time for it."""
    found = _measured(server)
    for _ in range(2):
        if found["seconds"] >= SECONDS:
            found = _measured(server)
    return found


def _measured(server: DatabaseServer) -> dict[str, Any]:
    nics = [big_cloud.nic_id(number) for number in PORTS]
    command = [sys.executable, "-W", "ignore", "-c", AGENT, server.remote, HOST, *nics]
    return dict(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


@pytest.mark.scale
def test_an_agent_of_a_large_cloud_is_as_small_as_one_of_a_small(tmp_path: Path) -> None:
    found: dict[int, dict[str, Any]] = {}
    for size in (SMALL, LARGE):
        directory = tmp_path / str(size)
        directory.mkdir()
        big_cloud.write(directory / "sg.db", size)
        with DatabaseServer(directory) as server:
            found[size] = measured(server)
            if size == LARGE:
                strangers_change_nothing(server)
    small, large = found[SMALL], found[LARGE]
    print(f"with {SMALL} NICs {small}\nwith {LARGE} NICs {large}")
    assert large["rows"] == small["rows"]
    assert large["rows"]["NIC"] == len(PORTS)
    assert large["rows"]["VM"] == large["rows"]["Address"] == 0, "a NIC's row says all"
    assert large["rows"]["Member"] == big_cloud.PER_ACCOUNT
    assert large["rows"]["Account"] == large["rows"]["Group"] == large["rows"]["Rule"] == 1
    assert large["seconds"] < SECONDS
    assert large["rss"] < MEGABYTES and abs(large["grown"] - small["grown"]) < SPREAD


def strangers_change_nothing(server: DatabaseServer) -> None:
    """An agent hears of NICs that it has to do with, and of no others."""
    interest, heard = Interest(), set[str]()
    interest.watch(host=HOST, nics=frozenset())
    with Database(server.remote, interest=interest) as agent:
        assert agent.wait_insync(60)
        agent.replica.on_change(lambda changes: heard.update(id for _, id in changes))
        own, *strangers = (big_cloud.nic_id(number) for number in (PORTS[0], *range(LARGE - 50, LARGE)))
        for nic in (*strangers, own):
            _set_reason(server, nic)
        eventually(lambda: own in heard)
        assert heard == {own}


def _set_reason(server: DatabaseServer, nic: str) -> None:
    row = {"op": "update", "table": Nic.TABLE, "where": [["_uuid", "==", ["uuid", nic]]], "row": {"reason": "x"}}
    command = ["ovsdb-client", "transact", server.remote, json.dumps(["SG", row])]
    assert '"count":1' in subprocess.run(command, capture_output=True, text=True, check=True).stdout
