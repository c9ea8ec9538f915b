# SPDX-License-Identifier: Apache-2.0
"""Network namespaces, and the lab that they live and die with."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from devstack.lab.keeper import OWN_NAMESPACE, setns

COMMAND_TIMEOUT = 60.0
PATIENCE = 30.0
"""Seconds for which something is waited for, on a machine that may stand still for ten of them."""
ROOT = Path(__file__).parents[2]
"""The checkout, where modules are run from."""
NAME = re.compile(r"[a-z][a-z0-9-]{0,11}")
"""What pods, hypervisors and VMs may be called: the names end up in interfaces, files and dnsmasq's configuration."""


class CommandFailed(Exception):
    """A command in a namespace ended with an error; the text holds what it said."""


def checked_name(name: str) -> str:
    """`name`, or ValueError if it does not match NAME."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r}: names in the lab match {NAME.pattern}")
    return name


def wait_for(what: str, condition: Callable[[], Any], *, timeout: float = PATIENCE, step: float = 0.02) -> Any:
    """The first true value of `condition`, or TimeoutError naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(step)
    return value


class Lab:
    """Everything that is built together and goes together; a context manager.

    The keeper process outlives this one by as long as it takes to clean up, however this one ends. Namespaces are
    entered per thread (`Namespace.entered`), so a lab must not be used in a process that eventlet has patched.
    """

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise CommandFailed("a lab is made of network namespaces: only root can build one")
        self.directory = Path(tempfile.mkdtemp(prefix="sgctl-lab-"))
        script = str(Path(__file__).with_name("keeper.py"))
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", script],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True,
        )  # fmt: skip
        self._tell(f"directory {self.directory}")

    def _tell(self, line: str) -> None:
        assert self._keeper.stdin is not None
        self._keeper.stdin.write(line + "\n")
        self._keeper.stdin.flush()

    def _ask(self, line: str) -> str:
        self._tell(line)
        assert self._keeper.stdout is not None
        answer = self._keeper.stdout.readline().strip()
        if not answer:
            raise CommandFailed(f"the lab's keeper has ended at {line!r}")
        return answer

    def namespace(self, name: str) -> "Namespace":
        """A new, empty namespace with `lo` up."""
        return Namespace(self, name, int(self._ask("new")), self._keeper.pid)

    def drop(self, descriptor: int) -> None:
        """Kill who is in the namespace with this descriptor of the keeper's, and let it go."""
        self._ask(f"drop {descriptor}")

    def subdirectory(self, name: str) -> Path:
        """A new private directory, removed with the lab."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.directory))

    def close(self) -> None:
        """End everything; returns when it is gone."""
        self._keeper.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Namespace:
    """A network namespace. It has no name in the file system: the keeper's descriptor is all there is of it."""

    def __init__(self, lab: Lab, name: str, descriptor: int, keeper: int) -> None:
        self.lab = lab
        self.name = name
        self._descriptor = descriptor
        self.path = f"/proc/{keeper}/fd/{descriptor}"

    def __repr__(self) -> str:
        return f"<Namespace {self.name} {self.path}>"

    def command(self, *argv: str | Path) -> list[str]:
        """`argv` as a command that runs in this namespace."""
        return ["nsenter", f"--net={self.path}", "--", *map(str, argv)]

    def popen(self, *argv: str | Path, **options: Any) -> subprocess.Popen[Any]:
        """Start `argv` here, in a session of its own so that Ctrl-C reaches the lab only."""
        return subprocess.Popen(self.command(*argv), start_new_session=True, **options)

    def run(
        self, *argv: str | Path, stdin: str = "", env: Mapping[str, str] | None = None, timeout: float = COMMAND_TIMEOUT
    ) -> str:
        """The standard output of `argv`, run here; CommandFailed with its standard error if it fails."""
        done = subprocess.run(
            self.command(*argv), input=stdin, capture_output=True, text=True, timeout=timeout, check=False,
            env=None if env is None else {**os.environ, **env},
        )  # fmt: skip
        if done.returncode != 0:
            said = f"{' '.join(map(str, argv))}: status {done.returncode}\n{done.stdout}{done.stderr}".rstrip()
            raise CommandFailed(f"{self.name}: {said}")
        return done.stdout

    def ip(self, *lines: str) -> None:
        """Run `ip` once for all `lines` (``link set …``); the first that fails ends it."""
        self.run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")

    def sysctl(self, name: str, value: str | int) -> None:
        """Set a ``net.…`` setting of this namespace."""
        with self.entered():
            Path("/proc/sys", name.replace(".", "/")).write_text(str(value))

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is in the namespace: the sockets it opens belong there for good."""
        home = os.open(OWN_NAMESPACE, os.O_RDONLY)
        there = os.open(self.path, os.O_RDONLY)
        try:
            setns(there)
            yield
        finally:
            setns(home)
            os.close(there)
            os.close(home)

    def close(self) -> None:
        """Kill who is in it and remove it with its interfaces, before the lab itself ends."""
        self.lab.drop(self._descriptor)
