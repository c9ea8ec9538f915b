# SPDX-License-Identifier: Apache-2.0
"""One `sgctl-manager`, started as a user does."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.hypervisor import PATIENCE
from tests.functional.ports import free_port
from tests.functional.vswitch_sandbox import eventually

PROGRAM = Path(sys.executable).with_name("sgctl-manager")


class Process:
    """`start` starts it (again) with the same options. started, answered, switch_seen: when (perf_counter) that was,
    when it first answered, and when it first said that its switch was connected."""

    def __init__(self, directory: Path, app: str, *options: str) -> None:
        self.admin_port, self.log = free_port(), directory / f"{app}.log"
        self._command = [str(PROGRAM), f"--state-dir={directory}", f"--admin-port={self.admin_port}", *options, app]
        self._connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=30)
        self.started = self.answered = self.switch_seen = 0.0

    def start(self) -> None:
        """Start it; does not wait."""
        self.started, self.answered, self.switch_seen = time.perf_counter(), 0.0, 0.0
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig=KILL", *self._command], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(20)

    def get(self, path: str) -> tuple[int, str]:
        """An answer of its admin endpoint; status 0 if nobody answers."""
        try:
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, ""

    def wait_ready(self) -> float:
        """Wait until it is in sync; when (perf_counter)."""

        def ready() -> bool:
            assert self._process.poll() is None, self.log.read_text()[-4000:]
            status, body = self.get("/readyz")
            if status and not self.answered:
                self.answered = time.perf_counter()
            if status and not self.switch_seen and json.loads(body).get("switch"):
                self.switch_seen = time.perf_counter()
            return status == 200

        eventually(ready, PATIENCE)
        return time.perf_counter()

    def flow_mods(self) -> int:
        """How many it has sent since it was started."""
        found = re.findall(r"^sgctl_flow_mods_total\{.*\} ([0-9.e+]+)$", self.get("/metrics")[1], re.MULTILINE)
        return round(sum(map(float, found)))
