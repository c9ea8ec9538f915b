# SPDX-License-Identifier: Apache-2.0
"""What goes wrong while VMs move: agents, the SG database and its relay, switches and their databases.

A trouble begins at a step of a move and ends by itself some time later, while the move goes on; those of switches are
over when they have begun. What it may cost is the switch's own floor (`catalogue`), the time for which it lasts, and
what it takes to start again on a machine that does much else.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import Random
from threading import Thread
from time import sleep
from typing import TypeAlias

from devstack.lab import Hypervisor, Manager
from tests.faults.catalogue import SWITCH_FLOOR
from tests.faults.fleet import Fleet

STEPS = ("plugged", "waiting", "arrived", "open", "closed")
"""When it happens: the port is there; it is on standby; right after the VM has come; the destination is open, before
the source need have closed; the source has closed."""
STARTING = 8.0
"""Seconds in which a manager that starts anew has caught up."""
FINDING = 14.0
"""Seconds in which an agent whose database was away has found it again: it waits up to eight between attempts."""
SWITCH = 1.5
"""Seconds in which an agent has filled an empty switch."""
OVSDB_FLOORS = ((0.0, 1.0), (1.0, 3.0))
"""Seconds for which the switch's own database is away, and for how long the switch in user space stops for it."""

End: TypeAlias = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Roles:
    """The hypervisors of a move."""

    source: Hypervisor
    target: Hypervisor

    def one(self, side: str) -> Hypervisor:
        """By its role."""
        return self.source if side == "source" else self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that goes wrong at a step.

    begin: returns what ends it.  lasts: seconds until then.  gap: seconds without traffic that it excuses.
    forgets: the switch loses its connections, so that those whose rule is gone may end.
    """

    name: str
    step: str
    begin: Callable[[Fleet, Roles], End]
    lasts: float = 0.0
    gap: float = 0.0
    forgets: bool = False

    def __str__(self) -> str:
        return f"{self.name} when {self.step}"


class Underway:
    """Troubles that have begun and have not ended."""

    def __init__(self) -> None:
        self._threads: list[Thread] = []
        self._errors: list[Exception] = []

    def begin(self, trouble: Trouble, fleet: Fleet, roles: Roles) -> None:
        """Let it happen, and end in due time."""
        end = trouble.begin(fleet, roles)
        thread = Thread(target=self._end, args=(trouble.lasts, end), name=trouble.name)
        thread.start()
        self._threads.append(thread)

    def _end(self, lasts: float, end: End) -> None:
        sleep(lasts)
        try:
            end()
        except Exception as error:  # raised in the thread of who waits for us
            self._errors.append(error)

    def wait(self) -> None:
        """Until all have ended."""
        while self._threads:
            self._threads.pop().join()
        if self._errors:
            raise self._errors.pop()


def _nothing() -> None:
    """What has been over since it began."""


def _killed(manager: Manager) -> End:
    """Kill it, unless an earlier trouble has done so and will start it again."""
    if manager.process.poll() is not None:
        return _nothing
    manager.kill()
    return manager.start


def _stopped(pid: int) -> End:
    _signal(pid, signal.SIGSTOP)
    return partial(_signal, pid, signal.SIGCONT)


def _signal(pid: int, number: int) -> None:
    """Send a signal to a process that an earlier trouble may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _agent(fleet: Fleet, roles: Roles, *, side: str, kill: bool) -> End:
    manager = fleet.agent(roles.one(side))
    return _killed(manager) if kill else _stopped(manager.process.pid)


def _database(fleet: Fleet, roles: Roles, *, kill: bool) -> End:
    if fleet.control.process.poll() is not None:
        return _nothing
    server = int((fleet.control.directory / "sg.pid").read_text())
    if not kill:
        return _stopped(server)
    _signal(server, signal.SIGKILL)
    return _nothing


def _manager(fleet: Fleet, roles: Roles, *, name: str) -> End:
    return _killed(fleet.control if name == "control" else fleet.relay)


def _switch(fleet: Fleet, roles: Roles, *, side: str) -> End:
    roles.one(side).restart_vswitchd(kill=True)
    return _nothing


def _ovsdb(fleet: Fleet, roles: Roles, *, side: str, away: float) -> End:
    hypervisor = roles.one(side)
    hypervisor.stop_ovsdb(kill=True)
    sleep(away)
    hypervisor.start_ovsdb()
    return _nothing


def of_agent(step: str, side: str, lasts: float, *, kill: bool) -> Trouble:
    """The agent of a side is away."""
    word = "SIGKILL" if kill else "SIGSTOP"
    return Trouble(
        name=f"agent of the {side} {word} {lasts:.1f} s", step=step, begin=partial(_agent, side=side, kill=kill),
        lasts=lasts, gap=lasts + STARTING,
    )  # fmt: skip


def of_database(step: str, lasts: float, *, kill: bool) -> Trouble:
    """The SG database's server dies or hangs."""
    word = "SIGKILL" if kill else f"SIGSTOP {lasts:.1f} s"
    return Trouble(
        name=f"database {word}", step=step, begin=partial(_database, kill=kill), lasts=0.0 if kill else lasts,
        gap=lasts + FINDING,
    )  # fmt: skip


def of_manager(step: str, name: str, lasts: float) -> Trouble:
    """The API's manager, and with it the database, or the relay is killed and started again."""
    return Trouble(
        name=f"{name} SIGKILL {lasts:.1f} s", step=step, begin=partial(_manager, name=name), lasts=lasts,
        gap=lasts + FINDING,
    )  # fmt: skip


def of_switch(step: str, side: str) -> Trouble:
    """ovs-vswitchd of a side starts anew."""
    return Trouble(
        name=f"vswitchd of the {side} SIGKILL", step=step, begin=partial(_switch, side=side),
        gap=SWITCH_FLOOR + SWITCH, forgets=True,
    )  # fmt: skip


def of_ovsdb(step: str, side: str, away: float, floor: float) -> Trouble:
    """The switch's own database of a side is away."""
    return Trouble(
        name=f"ovsdb-server of the {side} away {away:g} s", step=step, begin=partial(_ovsdb, side=side, away=away),
        gap=away + floor + SWITCH,
    )  # fmt: skip


def drawn(chance: Random) -> Trouble:
    """One by chance."""
    step, side = chance.choice(STEPS), chance.choice(("source", "target"))
    lasts = chance.choice((0.0, chance.uniform(0, 1), chance.uniform(1, 4)))
    kind = chance.choices(("kill", "stop", "database", "manager", "switch", "ovsdb"), (3, 3, 3, 2, 2, 1))[0]
    if kind in ("kill", "stop"):
        return of_agent(step, side, lasts, kill=kind == "kill")
    if kind == "database":
        return of_database(step, lasts, kill=chance.random() < 0.5)
    if kind == "manager":
        return of_manager(step, chance.choice(("control", "relay")), lasts)
    if kind == "switch":
        return of_switch(step, side)
    return of_ovsdb(step, side, *chance.choice(OVSDB_FLOORS))
