# SPDX-License-Identifier: Apache-2.0
"""What hypervisors deliver to a VM that moves, by hypervisor: the asking end of `watcher`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devstack.lab.mobile import Mobile
from tests.faults.prober import MARK

SCRIPT = Path(__file__).with_name("watcher.py")


@dataclass(slots=True)
class Seen:
    """Frames that were delivered to a NIC: by hypervisor their number and the times of the first and the last; by
    hypervisor and mark those that must not arrive; those that two hypervisors have delivered; the last by each."""

    legs: dict[str, tuple[int, float, float]] = field(default_factory=dict)
    marked: Counter[tuple[str, int]] = field(default_factory=Counter)
    twice: list[str] = field(default_factory=list)
    samples: dict[str, str] = field(default_factory=dict)

    def count(self, host: str) -> int:
        """How many frames a hypervisor has delivered."""
        return self.legs.get(host, (0, 0.0, 0.0))[0]

    def overlap(self, source: str, target: str) -> float:
        """Seconds from the first frame that came to the new place to the last that came to the old one."""
        if not self.count(source) or not self.count(target):
            return 0.0
        return max(0.0, self.legs[source][2] - self.legs[target][1])

    def __iadd__(self, other: Seen) -> Seen:
        for leg, (number, first, last) in other.legs.items():
            known = self.legs.get(leg, (0, first, last))
            self.legs[leg] = (known[0] + number, known[1], last)
        self.marked += other.marked
        self.twice += other.twice
        return self


class Watch:
    """Watches one VM from now on."""

    def __init__(self, mobile: Mobile) -> None:
        self.mobile = mobile
        self._process = mobile.wires.popen(
            sys.executable, "-I", "-S", SCRIPT, mobile.mac, MARK.decode(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the watcher has ended"
        return dict(json.loads(line))

    def seen(self) -> Seen:
        """What has been delivered since the last time."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self._answer()
        found = Seen(twice=list(answer["twice"]), samples=dict(answer["samples"]))
        for leg, (number, first, last) in answer["legs"].items():
            found.legs[leg] = (int(number), first, last)
        for place, number in answer["marked"].items():
            leg, _, mark = place.partition(" ")
            found.marked[leg, int(mark[:2])] += int(number)
        return found

    def stop(self) -> None:
        """End it."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()
