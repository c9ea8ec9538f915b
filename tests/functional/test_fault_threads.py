# SPDX-License-Identifier: Apache-2.0
"""No thread of a manager ends unnoticed: the process ends with status 1 and says why, and the switch keeps its flows.

Each fault is a real one: a database that is not what this program takes it for.
"""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest

from sgctl.store import Insert
from sgctl.vswitch import LocalSwitch
from tests.functional.agent_rig import BRIDGE, Manager, Rig
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import cidr_rule, peer_rule, world

CLOUD = world({"web1": ("web",), "nag1": ("nagios",)}, rules=(peer_rule("r", "web", "nagios"),))
MOST = 2000
"""Rules that take more memory than an agent has already, and does not use."""


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(CLOUD) as rig:
        yield rig


@pytest.fixture
def agent(rig: Rig) -> Manager:
    agent = rig.manager()
    agent.wait_state(rig.plug("web1", 5), "active")
    rig.wait_nic("web1", "hv1", "up")
    return agent


def assert_ends_closed(rig: Rig, agent: Manager, before: set[int]) -> None:
    """It has ended because of an error, and enforcement goes on."""
    assert agent.process.wait(60) == 1
    assert "ends because of an error" in agent.log.read_text()
    assert rig.cookies() == before


def records_of(data: bytes) -> Iterator[dict[str, Any]]:
    """The records of a database file."""
    while data:
        head, _, rest = data.partition(b"\n")
        size = int(head.split()[2])
        yield json.loads(rest[:size])
        data = rest[size:]


def written(record: dict[str, Any]) -> bytes:
    """A record as it stands in a file."""
    body = json.dumps(record).encode() + b"\n"
    return b"OVSDB JSON %d %s\n" % (len(body), sha1(body).hexdigest().encode()) + body


def with_texts_for_numbers(data: bytes, column: str) -> bytes:
    """A file that has another type for a column of table Rule, in the schema and in the rows alike."""
    schema, *records = records_of(data)
    schema["tables"]["Rule"]["columns"][column] = {"type": "string"}
    for record in records:
        for row in filter(None, record.get("Rule", {}).values()):
            row |= {column: str(row[column])} if column in row else {}
    return b"".join(map(written, (schema, *records)))


def replace_file(rig: Rig, data: bytes) -> None:
    """Let another server start, with this content."""
    assert rig.server.pid
    os.kill(rig.server.pid, signal.SIGSTOP)
    (rig.server.directory / "sg.db").write_bytes(data)
    os.kill(rig.server.pid, signal.SIGKILL)


def test_rows_that_are_not_what_the_writer_takes_them_for(rig: Rig, agent: Manager) -> None:
    before = rig.cookies()
    good = (rig.server.directory / "sg.db").read_bytes()
    replace_file(rig, with_texts_for_numbers(good, "first"))
    assert_ends_closed(rig, agent, before)
    replace_file(rig, good)
    agent.start()
    agent.wait_state("tap5", "active")
    assert rig.cookies() == before


def test_an_error_of_any_thread(rig: Rig, agent: Manager, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "from threading import Thread\n"
        "from os_ken.base.app_manager import OSKenApp\n"
        "class Broken(OSKenApp):\n"
        "    def __init__(self, *args, sgctl, **kwargs):\n"
        "        super().__init__(*args, **kwargs)\n"
        "        Thread(target=lambda: 1 / 0).start()\n"
    )
    before = rig.cookies()
    agent.stop()
    agent.command = ["env", f"PYTHONPATH={tmp_path}", *agent.command, "broken"]
    agent.start()
    assert_ends_closed(rig, agent, before)
    assert "ZeroDivisionError" in agent.log.read_text()


def test_an_error_while_the_local_switch_is_followed(rig: Rig) -> None:
    errors: list[BaseException] = []
    local = LocalSwitch(rig.sandbox.connection, BRIDGE, on_fault=errors.append)
    local.start()
    eventually(lambda: local.insync)
    local.on_change(lambda: 1 / 0)  # type: ignore[arg-type]
    rig.plug("web1", 5)
    eventually(lambda: any(isinstance(error, ZeroDivisionError) for error in errors))
    local.stop()


def test_an_agent_that_cannot_hear_the_switch_any_more(rig: Rig, agent: Manager) -> None:
    """Out of file descriptors, os-ken's listener ends."""
    before = rig.cookies()
    in_use = max(int(one.name) for one in Path(f"/proc/{agent.process.pid}/fd").iterdir()) + 1
    resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, (5, in_use))
    control = str(rig.sandbox.directory / "ovs-vswitchd.ctl")
    rig.sandbox.run("ovs-appctl", "-t", control, "bridge/reconnect", BRIDGE)
    assert_ends_closed(rig, agent, before)


def test_an_agent_that_has_no_memory_left(rig: Rig, agent: Manager) -> None:
    """Whichever of its threads is the first to want some: the process ends, and none is left out for ever."""
    before, process = rig.cookies(), agent.process.pid
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[0])
    resource.prlimit(process, resource.RLIMIT_AS, (pages * resource.getpagesize(), resource.RLIM_INFINITY))
    for number in range(MOST):
        rig.database.write([Insert(cidr_rule(f"rule{number}", "web", f"192.0.{number // 256}.{number % 256}/32"))])
        agent.get("/metrics")
        if agent.process.poll() is not None:
            break
    assert agent.process.wait(30) == 1
    said = agent.log.read_text()
    assert "MemoryError" in said or "there is no memory left" in said
    assert before <= rig.cookies()
    agent.start()
    agent.wait_ready()
