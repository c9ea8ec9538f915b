# SPDX-License-Identifier: Apache-2.0
"""What goes wrong around the process of an agent: whoever reads its log, signals, descriptors, names."""

from __future__ import annotations

import fcntl
import os
import re
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from sgctl.store import Insert
from tests.functional.agent_rig import BRIDGE, Manager, Rig
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import cidr_rule, world

ROOM = 4096
"""Bytes that the pipe of a log holds."""


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(world({"web1": ("web",)})) as rig:
        yield rig


class Piped(Manager):
    """A manager whose log is a pipe that nobody reads unless told to."""

    reader = -1

    def start(self) -> None:
        self.reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, ROOM)
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer)
        os.close(writer)

    def lost(self) -> int:
        """How many lines it says nobody has taken."""
        found = re.search(r"^sgctl_log_lines_lost (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        assert found
        return round(float(found[1]))


def test_a_log_that_nobody_reads_stops_nothing(rig: Rig) -> None:
    manager = Piped(rig)
    rig.managers.append(manager)
    manager.wait_ready()

    def full() -> bool:
        rig.plug("web1", 5)
        manager.wait_state("tap5", "active")
        rig.unplug("tap5")
        eventually(lambda: "tap5" not in manager.ports())
        return manager.lost() > 0

    eventually(full, 60)
    rig.plug("web1", 5)
    manager.wait_state("tap5", "active")
    rig.database.write([Insert(cidr_rule("new", "web", "192.0.2.0/24"))])
    eventually(lambda: "192.0.2.0/24" in rig.sandbox.ofctl("dump-flows", BRIDGE))
    os.read(manager.reader, 1 << 16)
    rig.unplug("tap5")
    said = ""
    while "lines were lost: nobody read the log\n" not in said:
        said += os.read(manager.reader, 1 << 16).decode()
    os.close(manager.reader)
    rig.plug("web1", 6)
    manager.wait_state("tap6", "active")
    assert manager.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_who_is_asked_to_end_says_so(rig: Rig, number: int) -> None:
    """By a terminal that is closed, too; systemd starts it anew, with the options that there are then."""
    manager = rig.manager()
    manager.process.send_signal(number)
    assert manager.process.wait(60) == 0
    assert "asked to end; the switch goes on enforcing what it has" in manager.log.read_text()


def test_without_descriptors_the_agent_goes_on_and_clients_wait(rig: Rig) -> None:
    manager = rig.manager()
    process = manager.process.pid
    usual = resource.prlimit(process, resource.RLIMIT_NOFILE)
    resource.prlimit(process, resource.RLIMIT_NOFILE, (max(map(int, os.listdir(f"/proc/{process}/fd"))) + 1, usual[1]))
    rig.plug("web1", 5)
    with socket.create_connection(("127.0.0.1", manager.admin_port), timeout=60) as client:
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        eventually(lambda: f"clients of port {manager.admin_port} have to wait" in manager.log.read_text())
        eventually(lambda: "in_port=5" in rig.sandbox.ofctl("dump-flows", BRIDGE, "table=0"))
        rig.database.write([Insert(cidr_rule("new", "web", "192.0.2.0/24"))])
        eventually(lambda: "192.0.2.0/24" in rig.sandbox.ofctl("dump-flows", BRIDGE))
        resource.prlimit(process, resource.RLIMIT_NOFILE, usual)
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
    manager.wait_ready()
