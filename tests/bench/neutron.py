# SPDX-License-Identifier: Apache-2.0
"""Neutron's OVS firewall driver, measured like sgctl, where Neutron is installed in a venv of its own.

The environment variable `NEUTRON_PYTHON` names that venv's Python. What of Neutron runs, and what is left out in its
favour, is told in `neutron_driver.py`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench import usage
from tests.bench.cloud import CIDR_PORT, GROUP_PORT, NEAR, Machine, Size, cidr
from tests.bench.fabric import Fabric
from tests.functional.ports import free_port

DRIVER = Path(__file__).with_name("neutron_driver.py")
PYTHON = "NEUTRON_PYTHON"
START, PATIENCE = 120.0, 300.0
"""Seconds for Neutron to start, and for one of its calls."""


class Neutron(Fabric):
    """The switch runs from the start, Neutron's agent on demand. Restarts and what needs its server are not tried."""

    name, quiet, agent = "Neutron", 1.0, "neutron"
    most_ports = 100
    events = ("rules", "members", "ports", "memory", "datagrams", "audit")

    @classmethod
    def installed(cls) -> bool:
        """As `Fabric`."""
        return PYTHON in os.environ

    def begin(self, stack: ExitStack) -> None:
        """Wait for the driver on a socket."""
        self._listener = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
        self._listener.bind(str(self.directory / "driver.sock"))
        self._listener.listen()
        self._listener.settimeout(START)

    def start_agent(self) -> None:
        """As `Fabric`."""
        log = self._stack.enter_context((self.directory / "neutron.log").open("w"))
        command = [os.environ[PYTHON], "-P", str(DRIVER), str(self.directory / "driver.sock"), self.sandbox.connection]
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", *command, str(free_port())], stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, env=self.sandbox.env | {"PYTHONWARNINGS": "ignore"}, cwd=self.directory,
        )  # fmt: skip
        self._stack.callback(self._process.wait, 20)
        self._stack.callback(self._process.kill)
        self._connection = self._stack.enter_context(closing(self._listener.accept()[0]))
        self._connection.settimeout(PATIENCE)
        self._answers = self._connection.makefile("r")
        self._do("tag", names=[row["name"] for row in self.ports.interfaces() if row["name"].startswith("near")])

    def _do(self, command: str, **arguments: Any) -> None:
        self._connection.sendall(json.dumps({"do": command, **arguments}).encode() + b"\n")
        if not self._answers.readline():
            raise RuntimeError(f"Neutron has failed:\n{self.log()}")

    def pids(self) -> dict[str, int]:
        """All processes by what they are; ovs-ofctl's time counts as its parent's."""
        return super().pids() | {self.agent: self._process.pid}

    def cpu(self) -> dict[str, float]:
        """As `Hypervisor`, with the children that the agent has had."""
        used = super().cpu()
        used[self.agent] += usage.children(self._process.pid)
        return used

    def log(self) -> str:
        """As `Fabric`."""
        return (self.directory / "neutron.log").read_text()[-3000:]

    def prepare(self, size: Size, spare: int) -> None:
        """As `Fabric`; Neutron's agent knows members when rules name them."""

    def cold(self, size: Size) -> Callable[[], None]:
        """As `Fabric`."""
        near = [Machine("near", number) for number in range(size.ports)]
        far = [Machine("far", number) for number in range(size.members)]
        rules = [[CIDR_PORT + number, cidr(number)] for number in range(size.rules)]
        rules += [[GROUP_PORT + number, ""] for number in range(size.group_rules)]
        return partial(
            self._do, "cold", devices=[[one.nic, one.mac, one.address] for one in near], rules=rules,
            members=[[one.address, one.mac] for one in far],
        )  # fmt: skip

    def add_rule(self, number: int) -> None:
        """As `Fabric`."""
        self._do("rule", protocol="tcp", port=CIDR_PORT + number, source=cidr(number), come=True)

    def remove_rule(self, number: int) -> None:
        """As `Fabric`."""
        self._do("rule", protocol="tcp", port=CIDR_PORT + number, source=cidr(number), come=False)

    def allow_datagrams(self) -> None:
        """As `Fabric`."""
        self._do("rule", protocol="udp", port=GROUP_PORT, source=NEAR, come=True)

    def join(self, machine: Machine) -> None:
        """As `Fabric`."""
        self._do("member", address=machine.address, mac=machine.mac, come=True)

    def leave(self, machine: Machine) -> None:
        """As `Fabric`."""
        self._do("member", address=machine.address, mac=machine.mac, come=False)

    def deploy(self, machine: Machine) -> None:
        """As `Fabric`."""
        self._do("know", device=machine.nic, mac=machine.mac, address=machine.address)

    def plug_one(self, machine: Machine) -> None:
        """As `Fabric`; the agent is told at once, it need not look for new ports."""
        super().plug_one(machine)
        self.ports.wait_numbered([machine.name])
        self._do("plugged", device=machine.nic, name=machine.name)

    def unplug_one(self, machine: Machine) -> None:
        """As `Fabric`, likewise."""
        super().unplug_one(machine)
        self._do("unplugged", device=machine.nic)
