# SPDX-License-Identifier: Apache-2.0
"""What the managers use: resident memory and open descriptors, which must not grow."""

from __future__ import annotations

from pathlib import Path

from tests.faults.scene import Scene

MORE_DESCRIPTORS = 12
MORE_MEMORY = 48 << 20
"""Bytes that a manager may need more than when it was first looked at: what changes has made it remember meanwhile."""


def used(pid: int) -> tuple[int, int]:
    """Bytes of resident memory, and open descriptors, of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096, sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


class Usage:
    """Remembers the first look at each process of a manager."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._first: dict[int, tuple[int, int]] = {}

    def hold(self) -> None:
        """AssertionError if a manager has grown."""
        for name, manager in self._scene.cloud.managers.items():
            memory, descriptors = used(manager.process.pid)
            first = self._first.setdefault(manager.process.pid, (memory, descriptors))
            assert descriptors <= first[1] + MORE_DESCRIPTORS, (name, first, descriptors)
            assert memory <= first[0] + MORE_MEMORY, (name, first, memory)
