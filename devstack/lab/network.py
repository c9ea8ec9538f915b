# SPDX-License-Identifier: Apache-2.0
"""Who can reach whom: expectations first, then all of them tried at once.

::

    network = Network()
    network.some(web, db, "tcp/5432")
    network.none(db, web, "tcp/5432")
    network.check()

A service is ``tcp/PORT``, ``udp/PORT`` or ``icmp``. Targets that are VMs get a server for it when needed.
"""

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from devstack.lab.agent import PROBE_TIMEOUT, probe_request
from devstack.lab.vm import VM

WITHIN = 20.0
"""Seconds for which cells that disagree are tried again, as changes take their time."""
BLOCKED = frozenset({"timeout", "unreachable"})
"""What a probe sees when its packets are dropped. A refusal or a reset has come back from the other end."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One expectation: whether `source` reaches `service` at `target`, a VM or an address."""

    source: VM
    target: VM | str
    service: str
    reachable: bool
    version: int = 4

    @property
    def address(self) -> str:
        """Where the probe goes."""
        return self.target if isinstance(self.target, str) else self.target.address(self.version)

    @property
    def target_name(self) -> str:
        """The target in words."""
        return self.target if isinstance(self.target, str) else self.target.name

    @property
    def endpoint(self) -> tuple[str, int]:
        """Protocol and port (0 for icmp)."""
        proto, _, port = self.service.partition("/")
        return proto, int(port or 0)


@dataclass(frozen=True, slots=True)
class Seen:
    """A cell and what its last probe saw."""

    cell: Cell
    result: str

    @property
    def agrees(self) -> bool:
        """Whether that is what was expected."""
        return self.result == "open" if self.cell.reachable else self.result in BLOCKED

    def __str__(self) -> str:
        cell = self.cell
        expected = "open" if cell.reachable else "blocked"
        return (
            f"{cell.source.name:>12} -> {cell.target_name:<12} {cell.service:<10} IPv{cell.version}"
            f"  expected {expected:<8} seen {self.result}"
        )


def probe(cells: Iterable[Cell], *, timeout: float = PROBE_TIMEOUT) -> list[Seen]:
    """Try all cells at once."""
    by_source: dict[VM, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_source[cell.source].append(cell)
        if isinstance(cell.target, VM) and cell.endpoint[0] != "icmp":
            cell.target.serve(*cell.endpoint)
    asked: list[tuple[VM, list[Cell], int]] = []
    for source, row in by_source.items():
        requests = [
            probe_request(proto, cell.address, port, timeout=timeout) for cell in row for proto, port in [cell.endpoint]
        ]
        asked.append((source, row, source.guest.ask("probes", probes=requests)))
    return [
        Seen(cell, result)
        for source, row, number in asked
        for cell, result in zip(row, source.guest.result(number), strict=True)
    ]  # fmt: skip


@dataclass(slots=True)
class Network:
    """A growing list of expectations."""

    cells: list[Cell] = field(default_factory=list)

    def some(self, source: VM, target: VM | str, *services: str, version: int = 4) -> None:
        """`source` reaches each service at `target`."""
        self.cells += [Cell(source, target, service, True, version) for service in services]

    def none(self, source: VM, target: VM | str, *services: str, version: int = 4) -> None:
        """`source` reaches none of them."""
        self.cells += [Cell(source, target, service, False, version) for service in services]

    def both(self, source: VM, target: VM, *services: str, version: int = 4) -> None:
        """Each reaches the other."""
        self.some(source, target, *services, version=version)
        self.some(target, source, *services, version=version)

    def look(self, *, within: float = WITHIN, timeout: float = PROBE_TIMEOUT) -> list[Seen]:
        """What all cells see; those that disagree are tried again for `within` seconds."""
        deadline = time.monotonic() + within
        seen = {one.cell: one for one in probe(self.cells, timeout=timeout)}
        while (wrong := [one.cell for one in seen.values() if not one.agrees]) and time.monotonic() < deadline:
            time.sleep(0.1)
            seen.update((one.cell, one) for one in probe(wrong, timeout=timeout))
        return [seen[cell] for cell in self.cells]

    def check(self, *, within: float = WITHIN, timeout: float = PROBE_TIMEOUT) -> None:
        """AssertionError with every difference if some cell disagrees; otherwise the list starts anew."""
        seen = self.look(within=within, timeout=timeout)
        wrong = [one for one in seen if not one.agrees]
        if wrong:
            lines = "\n".join(map(str, wrong))
            raise AssertionError(f"{len(wrong)} of {len(seen)} cells are not as expected:\n{lines}")
        self.cells.clear()
