# SPDX-License-Identifier: Apache-2.0
"""The test's end of `openflow_driver`: a `Switch` whose methods run in the driver's process."""

from __future__ import annotations

import pickle
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.functional.ports import free_port
from tests.functional.vswitch_sandbox import Sandbox, eventually

PATIENCE = 60.0
"""Seconds that a driver may take to start on a busy machine."""
LISTENING = "0A"
"""A state in /proc/net/tcp."""


class Failed(Exception):
    """The method raised: the exception's name, text and, of Refused, the flows."""

    def __init__(self, name: str, text: str, reasons: dict[Any, str]) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.reasons = reasons


class Remote:
    """A running driver; attributes are methods of its Switch, or of its application."""

    def __init__(self, sandbox: Sandbox, bridge: str, *, echo: float = 0) -> None:
        self.port = free_port()
        self._socket, theirs = socket.socketpair()
        management = f"unix:{sandbox.directory}/{bridge}.mgmt"
        arguments = [str(theirs.fileno()), str(self.port), bridge, management, str(echo)]
        self.log = (sandbox.directory / f"driver-{bridge}.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.functional.openflow_driver", *arguments],
            pass_fds=[theirs.fileno()],
            stderr=self.log,
            cwd=Path(__file__).parents[2],
        )
        theirs.close()
        self._answers = self._socket.makefile("rb")

    def __enter__(self) -> Remote:
        # A switch that calls before somebody listens tries again a second later.
        eventually(self._listens, PATIENCE)
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _listens(self) -> bool:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return self.process.poll() is not None or any(
            row[1].endswith(f":{self.port:04X}") and row[3] == LISTENING for row in rows
        )

    @property
    def target(self) -> str:
        return f"tcp:127.0.0.1:{self.port}"

    def send(self, method: str, *args: Any, **kwargs: Any) -> None:
        request = pickle.dumps((method, args, kwargs))
        self._socket.sendall(struct.pack("!I", len(request)) + request)

    def receive(self) -> Any:
        head = self._answers.read(4)
        assert head, f"the driver has ended: {self.output()}"
        failure, result = pickle.loads(self._answers.read(struct.unpack("!I", head)[0]))
        if failure:
            raise Failed(*failure)
        return result

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.send(method, *args, **kwargs)
            return self.receive()

        return call

    def output(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
        self._answers.close()
        self._socket.close()
        self.log.close()
