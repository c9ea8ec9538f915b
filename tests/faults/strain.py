# SPDX-License-Identifier: Apache-2.0
"""How much longer than its own work a process takes on this machine, whose other work nobody here knows.

``python strain.py``: for each line on standard input, the ratio of the time that a little work has taken to the time
for which it had a processor, on average since the last line.
"""

from __future__ import annotations

import select
import subprocess
import sys
import time
from typing import Self

WORK, PAUSE = 0.01, 0.05
"""Seconds of work, and between two pieces of it."""


class Strain:
    """Measures from now on."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def ratio(self) -> float:
        """That ratio, since the last time; 1 on an idle machine."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return max(1.0, float(self._process.stdout.readline()))

    def stop(self) -> None:
        """End it."""
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _piece() -> tuple[float, float]:
    """Work a little: how long it took, and the time on a processor."""
    started, worked = time.monotonic(), time.process_time()
    while (used := time.process_time() - worked) < WORK:
        pass
    return time.monotonic() - started, used


def _main() -> None:
    took = used = 0.0
    while True:
        more = _piece()
        took, used = took + more[0], used + more[1]
        if select.select([sys.stdin], [], [], PAUSE)[0]:
            if not sys.stdin.readline():
                return
            print(took / used, flush=True)
            took = used = 0.0


if __name__ == "__main__":
    _main()
