# SPDX-License-Identifier: Apache-2.0
"""A private ovsdb-server and ovs-vswitchd in a directory of their own, with ports that exist in memory only."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from sgctl.openflow.control import request

T = TypeVar("T")
PATIENCE = 30.0
"""Seconds for which something is waited for, on a machine that may stand still for ten of them."""
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


def eventually(probe: Callable[[], T], seconds: float = PATIENCE) -> T:
    """What `probe` answers as soon as it is true."""
    end = time.monotonic() + seconds
    while not (seen := probe()):
        assert time.monotonic() < end, f"not within {seconds} s: {probe}"
        time.sleep(0.02)
    return seen


def answers(path: Path) -> bool:
    """Whether somebody listens on a unix socket."""
    with socket.socket(socket.AF_UNIX) as one:
        try:
            one.connect(str(path))
        except OSError:
            return False
        return True


class Sandbox:
    """The switch; `env` is for commands that talk to it."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sgovs"))
        self.env = os.environ | {"OVS_RUNDIR": str(self.directory), "OVS_DBDIR": str(self.directory)}
        self.socket = self.directory / "db.sock"
        self.database = self.directory / "conf.db"
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.run("ovsdb-tool", "create", str(self.database), SCHEMA)

    def __enter__(self) -> Sandbox:
        self.start_database()
        self.vsctl("init")
        self.start_switch()
        return self

    def __exit__(self, *exc: object) -> None:
        for name in list(self.daemons):
            self.stop(name)
        shutil.rmtree(self.directory)

    @property
    def connection(self) -> str:
        return f"unix:{self.socket}"

    def start_database(self) -> None:
        self._start("ovsdb-server", str(self.database), f"--remote=punix:{self.socket}")
        eventually(lambda: answers(self.socket))

    def start_switch(self) -> None:
        self._start("ovs-vswitchd", f"unix:{self.socket}", "--enable-dummy", "--disable-system")
        eventually(lambda: answers(self.directory / "ovs-vswitchd.ctl"))

    def _start(self, name: str, *arguments: str) -> None:
        control = self.directory / f"{name}.ctl"
        control.unlink(missing_ok=True)
        stem = f"{self.directory}/{name}"
        files = (f"--pidfile={stem}.pid", f"--unixctl={control}", f"--log-file={stem}.log")
        command = ["setpriv", "--pdeathsig=KILL", name, *arguments, *files, "--no-chdir", "-vconsole:off"]
        self.daemons[name] = subprocess.Popen(command, env=self.env, stderr=subprocess.DEVNULL)

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        daemon = self.daemons.pop(name)
        daemon.send_signal(number)
        daemon.wait(PATIENCE)

    def signal(self, name: str, number: int) -> None:
        self.daemons[name].send_signal(number)

    def run(self, *command: str, text: str | None = None) -> str:
        done = subprocess.run(command, env=self.env, input=text, capture_output=True, text=True, timeout=2 * PATIENCE)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def vsctl(self, *arguments: str) -> str:
        return self.run("ovs-vsctl", f"--db={self.connection}", "--no-wait", *arguments).strip()

    def add_bridge(self, name: str, *ports: str, controller: str | None = None) -> None:
        self.run(
            "ovs-vsctl", f"--db={self.connection}", "add-br", name, "--", "set", "Bridge", name, "datapath_type=dummy",
            "fail_mode=secure", "other_config:disable-in-band=true",
        )  # fmt: skip
        for port in ports:
            self.add_port(name, port)
        if controller:
            self.vsctl("set-controller", name, controller, "--", "set", "Controller", name, "max_backoff=1000")

    def add_port(self, bridge: str, port: str, *settings: str) -> None:
        self.run(
            "ovs-vsctl", f"--db={self.connection}", "add-port", bridge, port,
            "--", "set", "Interface", port, "type=dummy", *settings,
        )  # fmt: skip

    def set_prefixes(self, bridge: str, prefixes: Mapping[int, tuple[str, ...]]) -> None:
        """Let tables, by their numbers, have prefix trees of these fields."""
        words: list[str] = []
        for number, names in prefixes.items():
            words += ["--", f"--id=@t{number}", "create", "Flow_Table", f"prefixes={','.join(names)}"]
        rows = ",".join(f"{number}=@t{number}" for number in prefixes)
        self.vsctl(*words, "--", "set", "Bridge", bridge, f"flow_tables={rows}")

    def ofctl(self, command: str, bridge: str, *arguments: str, text: str | None = None) -> str:
        target = f"unix:{self.directory}/{bridge}.mgmt"
        return self.run("ovs-ofctl", "-O", "OpenFlow14", command, target, *arguments, text=text)

    def differences(self, bridge: str, flows: Path) -> list[str]:
        """What is different between a bridge and a file of flows.

        ovs-ofctl finds its own ``nw_frag=yes`` different from what a switch has made of it: equal lines are no
        difference.
        """
        command = ["ovs-ofctl", "-O", "OpenFlow14", "diff-flows", f"unix:{self.directory}/{bridge}.mgmt", str(flows)]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=2 * PATIENCE)
        assert done.returncode in (0, 2), done.stderr
        lines = done.stdout.splitlines()
        sides = [{line[1:] for line in lines if line.startswith(sign)} for sign in "-+"]
        return sorted(sides[0] ^ sides[1])

    def appctl(self, command: str, *arguments: str) -> str:
        """`ovs-appctl` to ovs-vswitchd, without a process for it: some tests ask hundreds of times."""
        answer = request(self.directory / "ovs-vswitchd.ctl", command, arguments, PATIENCE)
        assert not answer.get("error"), f"{command} {arguments}: {answer['error']}"
        return str(answer["result"])
