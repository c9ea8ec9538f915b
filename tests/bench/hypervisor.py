# SPDX-License-Identifier: Apache-2.0
"""A hypervisor's switch, the same for all that are measured: a real Open vSwitch with ports that are sockets."""

from __future__ import annotations

import re
import shutil
import signal
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TypeVar

from tests.bench import usage
from tests.bench.cloud import Machine
from tests.bench.ports import PortDatabase
from tests.bench.watch import FlowWatch
from tests.functional.vswitch_sandbox import Sandbox, eventually

BRIDGE = "br-int"
UPLINK = "eth1"
PATIENCE = 60.0
H = TypeVar("H", bound="Hypervisor")


class Hypervisor(ABC):
    """The switch and its bridge run from `__enter__` to `__exit__`; `directory` is for everybody's files."""

    def __init__(self, datapath: str = "dummy") -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sgbench"))
        self.sandbox = Sandbox()
        self._datapath = datapath
        self._stack = ExitStack()

    def __enter__(self: H) -> H:
        with self._stack as stack:
            stack.callback(shutil.rmtree, self.directory)
            stack.enter_context(self.sandbox)
            self.sandbox.run(
                "ovs-vsctl", f"--db={self.sandbox.connection}", "add-br", BRIDGE, "--", "set", "Bridge", BRIDGE,
                f"datapath_type={self._datapath}", "fail_mode=secure",
            )  # fmt: skip
            self.ports = stack.enter_context(closing(PortDatabase(self.sandbox.socket, BRIDGE)))
            self.begin(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.__exit__(*exc)  # type: ignore[arg-type]

    @abstractmethod
    def begin(self, stack: ExitStack) -> None:
        """Start what belongs to the switch and the cloud, but not the agent."""

    def callback(self, stop: object) -> None:
        """Have something done at the end."""
        self._stack.callback(stop)  # type: ignore[arg-type]

    def pids(self) -> dict[str, int]:
        """All processes by what they are."""
        return {name: process.pid for name, process in self.sandbox.daemons.items()}

    def cpu(self) -> dict[str, float]:
        """Seconds on a processor so far, by process."""
        return usage.cpu(self.pids())

    def peaks(self) -> dict[str, float]:
        """The most memory (MiB) that each process has had."""
        return {name: usage.peak_mib(pid) for name, pid in self.pids().items()}

    def wire(self, port: str) -> Path:
        """The socket that is a port's wire, if it has one."""
        return self.directory / f"{port}.wire"

    def plug(self, *machines: Machine, wired: bool = False) -> None:
        """Plug in VMs as libvirt does, in one transaction; `wired`: frames can be sent and received."""
        if not wired:
            self.ports.plug({machine.name: machine.external_ids for machine in machines})
            return
        for machine in machines:
            self.ports.plug({machine.name: machine.external_ids}, pstream=f"punix:{self.wire(machine.name)}")

    def watch(self) -> FlowWatch:
        """Follow the bridge's flows from now on."""
        return FlowWatch(self.sandbox.directory / f"{BRIDGE}.mgmt")

    def flows(self) -> int:
        """How many flows the bridge has."""
        text = self.sandbox.ofctl("dump-aggregate", BRIDGE)
        return int(re.search(r"flow_count=(\d+)", text)[1])  # type: ignore[index]

    def restart_switch(self) -> float:
        """Kill ovs-vswitchd and start it; when (perf_counter) its bridge could be spoken to again."""
        management = self.sandbox.directory / f"{BRIDGE}.mgmt"
        self.sandbox.stop("ovs-vswitchd", signal.SIGKILL)
        management.unlink(missing_ok=True)
        self.sandbox.start_switch()
        eventually(management.exists, PATIENCE)
        return time.perf_counter()
