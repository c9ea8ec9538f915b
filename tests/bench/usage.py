# SPDX-License-Identifier: Apache-2.0
"""Processor time and memory of processes, as the kernel counts them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path


def cpu(pids: Mapping[str, int]) -> dict[str, float]:
    """Seconds on a processor of each process with all its threads, in nanosecond resolution."""
    return {name: sum(map(_nanoseconds, Path(f"/proc/{pid}/task").iterdir())) / 1e9 for name, pid in pids.items()}


def _nanoseconds(task: Path) -> int:
    try:
        return int((task / "schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def children(pid: int) -> float:
    """Seconds of the children that a process has waited for, in the kernel's ticks (10 ms)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    """The most memory that a process has had resident."""
    return _mib(pid, "VmHWM")


def resident_mib(pid: int) -> float:
    """The memory that a process has resident."""
    return _mib(pid, "VmRSS")


def _mib(pid: int, name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return round(int(found[1]) / 1024, 1) if found else 0.0
