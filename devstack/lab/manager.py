# SPDX-License-Identifier: Apache-2.0
"""The real `sgctl-manager`, run in a namespace of the lab."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from devstack.lab.namespace import PATIENCE, Lab, Namespace, wait_for

PROGRAM = Path(sys.executable).with_name("sgctl-manager")
ADMIN_PORT = 8081
READY_TIMEOUT = 60.0
LOG_TAIL = 60
"""Lines of a log that an error shows."""


class ManagerEnded(Exception):
    """The manager has ended though nobody asked it to; the text holds the end of its log."""


class Manager:
    """One `sgctl-manager` process, started at once; `restart` keeps its options and its state directory.

    environment: that of its next start.
    """

    def __init__(
        self, lab: Lab, namespace: Namespace, name: str, options: Sequence[str], *,
        admin_port: int = ADMIN_PORT, environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.namespace = namespace
        self.name = name
        self.directory = lab.subdirectory(f"manager-{name}")
        self.log = self.directory / "manager.log"
        self.admin_port = admin_port
        self.environment = {**os.environ, **(environment or {})}
        self._options = [f"--state-dir={self.directory}", f"--admin-port={admin_port}", *options]
        self.start()

    @property
    def admin_file(self) -> Path:
        """Where a manager with an embedded database writes the first account's keys."""
        return self.directory / "admin.ini"

    def start(self) -> None:
        """Start it; does not wait."""
        with self.log.open("a") as log:
            self.process = self.namespace.popen(
                PROGRAM, *self._options, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text().splitlines()[-LOG_TAIL:])

    def alive(self) -> bool:
        """True, or ManagerEnded."""
        if self.process.poll() is not None:
            raise ManagerEnded(f"sgctl-manager of {self.name} ended with {self.process.returncode}:\n{self.tail()}")
        return True

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON (or text) of its admin endpoint; status 0 if nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=PATIENCE)
        try:
            with self.namespace.entered():
                connection.connect()
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read().decode()
        except OSError as error:
            return 0, str(error)
        finally:
            connection.close()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(body) if is_json else body

    def wait_ready(self, *, timeout: float = READY_TIMEOUT) -> None:
        """Wait until /readyz says 200: connected to switch and database, and in sync."""
        state: Any = None

        def ready() -> bool:
            nonlocal state
            self.alive()
            status, state = self.get("/readyz")
            return status == 200

        try:
            wait_for(f"{self.name}: sgctl-manager ready", ready, timeout=timeout, step=0.05)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it says {state}\n{self.tail()}") from error

    def stop(self, *, timeout: float = PATIENCE) -> int:
        """SIGTERM, and its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL, as a crash does."""
        self.process.kill()
        self.process.wait()

    def restart(self, *, kill: bool = False) -> None:
        """End it, start it again, wait until it is ready."""
        if kill:
            self.kill()
        else:
            self.stop()
        self.start()
        self.wait_ready()
