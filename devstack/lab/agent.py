# SPDX-License-Identifier: Apache-2.0
"""The asking end of the agent in a VM, and handles on what it does in the background."""

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from devstack.lab.namespace import ROOT, Namespace

PROBE_TIMEOUT = 1.0
"""Seconds after which a probe gives up."""
RESOLVE_TIMEOUT = 20.0
"""Seconds after which a question for a name is given up."""
PROBE_TRIES = 3
"""How often a probe sends its datagram within that time."""


class GuestError(Exception):
    """The agent in a VM could not do what it was asked."""


@dataclass(frozen=True, slots=True)
class Sniffer:
    """Keeps the frames that arrive at a device."""

    guest: "Guest"
    number: int

    def total(self) -> int:
        """How many frames have arrived."""
        return int(self.guest.call("frames", number=self.number, clear=False)["total"])

    def frames(self, containing: bytes = b"", *, clear: bool = False) -> list[bytes]:
        """The frames so far (the first 20,000) that hold these bytes; `clear` forgets all afterwards."""
        answer = self.guest.call("frames", number=self.number, clear=clear)
        return [frame for frame in map(base64.b64decode, answer["frames"]) if containing in frame]

    def stop(self) -> None:
        """End it."""
        self.guest.call("stop", number=self.number)


@dataclass(frozen=True, slots=True)
class Repeater:
    """Sends the same frames again and again."""

    guest: "Guest"
    number: int

    def sent(self) -> int:
        """How many frames it has sent so far."""
        return int(self.guest.call("repeated", number=self.number)["sent"])

    def stop(self) -> None:
        """End it."""
        self.guest.call("stop", number=self.number)


class Guest:
    """The asking end of `devstack.guest`, in a VM or elsewhere; requests may overlap, answers have their number."""

    def __init__(self, namespace: Namespace) -> None:
        self._name = namespace.name
        self._process = namespace.popen(
            sys.executable, "-E", "-s", "-S", "-m", "devstack.guest",
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self._answers: dict[int, dict[str, Any]] = {}
        self._asked = 0
        self._lock = threading.Lock()

    def ask(self, do: str, **request: Any) -> int:
        """Send a request; the number is for `result`."""
        with self._lock:
            self._asked += 1
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps({"id": self._asked, "do": do, **request}) + "\n")
            self._process.stdin.flush()
            return self._asked

    def result(self, number: int) -> Any:
        """The result of a request, waited for; GuestError if it failed."""
        assert self._process.stdout is not None
        with self._lock:
            while number not in self._answers:
                line = self._process.stdout.readline()
                if not line:
                    raise GuestError(f"the agent in {self._name} has ended")
                answer = json.loads(line)
                self._answers[answer["id"]] = answer
            answer = self._answers.pop(number)
        if "error" in answer:
            raise GuestError(f"{self._name}: {answer['error']}")
        return answer["result"]

    def call(self, do: str, **request: Any) -> Any:
        """Ask and wait."""
        return self.result(self.ask(do, **request))

    def sniff(self, device: str, *, promiscuous: bool = True, only: bytes = b"") -> Sniffer:
        """Keep what arrives at `device` from now on and holds the bytes `only`."""
        encoded = base64.b64encode(only).decode()
        return Sniffer(self, self.call("sniff", device=device, promiscuous=promiscuous, only=encoded))

    def repeat(self, device: str, frames: Iterable[bytes], *, interval: float) -> "Repeater":
        """Send raw frames again and again."""
        encoded = [base64.b64encode(frame).decode() for frame in frames]
        return Repeater(self, self.call("repeat", device=device, frames=encoded, interval=interval))

    def close(self) -> None:
        """End the agent."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()


@dataclass(frozen=True, slots=True)
class Report:
    """What a stream has seen: payloads sent and echoed, the longest gap and the present silence (s), how it ended."""

    sent: int
    received: int
    gap: float
    silence: float
    error: str


@dataclass(frozen=True, slots=True)
class Stream:
    """A conversation that goes on in the background of a VM."""

    guest: Guest
    number: int

    def report(self, *, clear: bool = False) -> Report:
        """What it has seen so far; `clear` lets later reports tell of gaps from now on."""
        return Report(**self.guest.call("report", number=self.number, clear=clear))

    def stop(self) -> Report:
        """The last report, and its end."""
        report = self.report()
        self.guest.call("stop", number=self.number)
        return report


def probe_request(
    proto: str, address: str, port: int, *, timeout: float = PROBE_TIMEOUT, size: int = 32, source_port: int = 0,
    tries: int = PROBE_TRIES,
) -> dict[str, Any]:  # fmt: skip
    """The fields of a guest's ``probe`` request."""
    return {
        "proto": proto, "address": address, "port": port, "timeout": timeout, "size": size,
        "source_port": source_port, "tries": tries,
    }  # fmt: skip
