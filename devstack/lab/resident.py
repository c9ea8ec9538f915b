# SPDX-License-Identifier: Apache-2.0
"""A lab that stays: a process in the background holds it, a directory says where everything is.

The directory (`.lab`, private) holds `lab.json`, the log, and `lab`, a short way to call this package. Whether a lab is
there is told by a lock that its process holds, so a crash leaves nothing that could be taken for a lab.
"""

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Self

from devstack.lab.example import Example, build
from devstack.lab.namespace import ROOT, Lab, wait_for

START_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Description:
    """What `lab.json` says: the process, namespaces by name, VMs' addresses and resolver, environments by account."""

    pid: int
    namespaces: dict[str, str]
    addresses: dict[str, list[str]]
    resolvers: dict[str, str]
    environments: dict[str, dict[str, str]]

    @classmethod
    def of(cls, example: Example) -> Self:
        """The description of a built cloud."""
        cloud = example.cloud
        vms = {name: machine.vm for name, machine in example.machines.items()}
        places = {
            **{vm.name: vm.namespace for vm in (*vms.values(), example.outside)},
            **{hypervisor.name: hypervisor.namespace for hypervisor in cloud.hypervisors},
            "desk": cloud.desk, "router": cloud.router.namespace,
        }  # fmt: skip
        resolvers = {
            name: machine.order.pod.server.addresses[0].partition("/")[0] for name, machine in example.machines.items()
        }
        return cls(
            pid=os.getpid(),
            namespaces={name: namespace.path for name, namespace in places.items()},
            addresses={vm.name: vm.addresses for vm in (*vms.values(), example.outside)},
            resolvers=resolvers,
            environments={name: account.environment for name, account in cloud.accounts.items()},
        )


class Resident:
    """The lab of a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.file = directory / "lab.json"
        self.log = directory / "lab.log"

    def lock(self) -> IO[str] | None:
        """The lock, if nobody holds it: then no lab is there."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (self.directory / "lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file

    def running(self) -> bool:
        """Whether a lab is there (perhaps still being built)."""
        lock = self.lock()
        if lock is not None:
            lock.close()
        return lock is None

    def description(self) -> Description | None:
        """What is where, if the lab is ready."""
        if not self.running() or not self.file.exists():
            return None
        return Description(**json.loads(self.file.read_text()))

    def hold(self) -> None:
        """Be the process that holds the lab, until SIGTERM."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        lock = self.lock()
        if lock is None:
            raise SystemExit("a lab is running already")
        try:
            with lock, Lab() as lab:
                example = build(lab, lambda text: print(text, flush=True))
                new = self.file.with_suffix(".new")
                new.write_text(json.dumps(asdict(Description.of(example)), indent=1))
                new.rename(self.file)
                while True:
                    signal.pause()
        finally:
            self.file.unlink(missing_ok=True)

    def start(self, say: Callable[[str], None]) -> Description:
        """Start that process and wait until the lab is ready; `say` hears what it does."""
        if self.running():
            raise SystemExit("a lab is running already: `make lab-down` removes it")
        self.file.unlink(missing_ok=True)
        with self.log.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "devstack.lab", "--directory", str(self.directory), "hold"],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        heard = 0
        deadline = time.monotonic() + START_TIMEOUT
        while not self.file.exists():
            heard = self._relay(heard, say)
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the lab could not be built:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.1)
        self._relay(heard, say)
        wrapper = self.directory / "lab"
        call = shlex.join([sys.executable, "-m", "devstack.lab", "--directory", str(self.directory)])
        wrapper.write_text(f'#!/bin/sh\ncd {shlex.quote(str(ROOT))} && exec {call} "$@"\n')
        wrapper.chmod(0o700)
        description = self.description()
        assert description is not None
        return description

    def _relay(self, heard: int, say: Callable[[str], None]) -> int:
        lines = self.log.read_text().splitlines()
        for line in lines[heard:]:
            say(line)
        return len(lines)

    def stop(self) -> bool:
        """End it, wait until it is gone; False if there was none."""
        if not self.running():
            return False
        wait_for("the lab is built", lambda: self.file.exists() or not self.running(), timeout=START_TIMEOUT, step=0.1)
        if self.file.exists():
            os.kill(json.loads(self.file.read_text())["pid"], signal.SIGTERM)
        wait_for("the lab's end", lambda: not self.running(), timeout=30, step=0.1)
        for file in (self.log, self.directory / "lab", *self.directory.glob("resolv.*")):
            file.unlink(missing_ok=True)
        return True
