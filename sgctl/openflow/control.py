# SPDX-License-Identifier: Apache-2.0
"""ovs-vswitchd's control socket, for what OpenFlow has no message for.

It speaks JSON-RPC (ovs-appctl(8)). An answer can be megabytes in one JSON string, for which the `ovs` package's own
parser takes seconds, so the standard library's is used.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from sgctl.openflow.errors import SwitchError, SwitchGone

DEADLINE = 5.0
"""Seconds that ovs-vswitchd has for an answer."""
PURGE = "revalidator/purge"
"""Deletes what all datapaths have cached of decisions."""
CACHED = "upcall/show"
"""Says, among others, how many decisions each datapath has cached: ``flows : (current N) …``."""
#: What other programs with a control socket, such as ovsdb-server, say of our commands.
_FOREIGN = "is not a valid command"


class Control:
    """Asks the ovs-vswitchd of a run directory such as ``/run/openvswitch``, each time on a new connection."""

    def __init__(self, rundir: Path, *, deadline: float = DEADLINE) -> None:
        self._rundir, self._deadline = rundir, deadline
        self._known: Path | None = None

    def ask(self, command: str, *arguments: str) -> str:
        """The answer to a command.

        Raises SwitchGone if ovs-vswitchd does not answer, SwitchError if it does not understand.
        """
        for path in self._candidates():
            try:
                answer = request(path, command, arguments, self._deadline)
            except OSError:
                self._known = None
                continue
            error = str(answer.get("error") or "").strip()
            if _FOREIGN in error:
                continue
            self._known = path
            if error:
                raise SwitchError(f"{command}: {error}")
            return str(answer["result"])
        raise SwitchGone(f"no control socket of ovs-vswitchd answers in {self._rundir} (ovs-vswitchd.PID.ctl or *.ctl)")

    def listen(self, command: str, *arguments: str) -> Iterator[bytes]:
        """The answer, one JSON object, as it comes; whoever listens knows where it ends.

        For who has just been answered: raises OSError if ovs-vswitchd does not answer any more.
        """
        assert self._known is not None, "it has just answered"
        return _parts(self._known, command, arguments, self._deadline)

    def _candidates(self) -> Iterator[Path]:
        """Where it may listen: where it did, by its process id, else by a name that somebody has chosen."""
        tried: set[Path | None] = {None}
        for path in chain((self._known,), self._by_pid(), self._by_name()):
            if path is not None and path not in tried:
                tried.add(path)
                yield path

    def _by_pid(self) -> Iterator[Path]:
        try:
            pid = (self._rundir / "ovs-vswitchd.pid").read_text().strip()
        except OSError:
            return
        yield self._rundir / f"ovs-vswitchd.{pid}.ctl"

    def _by_name(self) -> Iterator[Path]:
        try:
            yield from sorted(self._rundir.glob("*.ctl"))
        except OSError as error:
            raise SwitchGone(f"no control socket of ovs-vswitchd answers, or can be looked for: {error}") from error


def request(path: Path, command: str, arguments: tuple[str, ...], deadline: float) -> dict[str, object]:
    """What a control socket answers, one JSON object; raises OSError.

    It ends where it can be read; only a closing brace can be the end.
    """
    parts: list[bytes] = []
    for part in _parts(path, command, arguments, deadline):
        parts.append(part)
        if part.endswith(b"}"):
            try:
                return dict(json.loads(b"".join(parts)))
            except ValueError:
                continue
    raise OSError("closed without an answer")


def _parts(path: Path, command: str, arguments: tuple[str, ...], deadline: float) -> Iterator[bytes]:
    """The answer as it comes; whoever listens knows where it ends."""
    request = json.dumps({"id": 0, "method": command, "params": arguments}).encode()
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(deadline)
        control.connect(str(path))
        control.sendall(request)
        while part := control.recv(1 << 18):
            yield part
