# SPDX-License-Identifier: Apache-2.0
"""The time of day jumps: as after a broken NTP server, a paused machine, or an operator's mistake.

Each manager is started with `shifted` in its Python path, and reads from a file how far its clock is off; so does the
database's server, if it runs one, by libfaketime.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from time import sleep, time

from devstack.lab import Manager
from tests.faults.database import file_of
from tests.faults.harness import Fault
from tests.faults.scene import Scene

SHIFTED = Path(__file__).parent / "shifted"
DATED = re.compile(rb'"_date":(\d+)')
MINUTE, HOUR, DAY = 60, 3600, 86400


def environment(file: Path) -> dict[str, str]:
    """For a manager whose time of day, and that of its database's server, is off by what a file says."""
    path = os.pathsep.join(filter(None, (str(SHIFTED), os.environ.get("PYTHONPATH"))))
    programs = os.pathsep.join((str(SHIFTED / "bin"), os.environ["PATH"]))
    return {"PYTHONPATH": path, "PATH": programs, "SGCTL_CLOCK_FILE": str(file)}


def set_file(file: Path, seconds: int) -> None:
    """Clocks that follow this file are off by so much from now on."""
    fresh = file.with_suffix(".new")
    fresh.write_text(f"{seconds:+d}\n")
    fresh.replace(file)


def dates(database: Path, since: int = 0) -> list[float]:
    """The times of day at which a server has written the records of its file after so many bytes, as it saw them."""
    return [int(date) / 1000 for date in DATED.findall(database.read_bytes()[since:])]


def _file(manager: Manager) -> Path:
    return manager.directory / "clock"


def set_clock(manager: Manager, seconds: int) -> None:
    """The manager's clock is off by so much from now on."""
    set_file(_file(manager), seconds)


def clock_of(manager: Manager) -> float:
    """The manager's time of day, as its admin endpoint dates its answers."""
    connection = HTTPConnection("127.0.0.1", manager.admin_port, timeout=30)
    with closing(connection), manager.namespace.entered():
        connection.request("GET", "/healthz")
        return parsedate_to_datetime(connection.getresponse().headers["Date"]).timestamp()


@contextmanager
def own_clocks(scene: Scene) -> Iterator[None]:
    """Each manager has a clock of its own, for which they are restarted."""
    managers = scene.cloud.managers.values()
    for manager in reversed(managers):
        set_clock(manager, 0)
        manager.environment |= environment(_file(manager))
        manager.stop()
    for manager in managers:
        manager.start()
    scene.settle()
    yield


def jump(scene: Scene, chance: Random, *, numbers: tuple[int, ...], by: int, seconds: float = 4.0) -> None:
    """The clocks of these hypervisors' managers jump, and a while later back to what is right."""
    managers = [scene.manager(number) for number in numbers]
    for manager in managers:
        set_clock(manager, by)
    size = file_of(scene).stat().st_size
    try:
        sleep(seconds)
        for manager in managers:
            assert abs(clock_of(manager) - time() - by) < MINUTE, "the clock has not jumped"
        for date in dates(file_of(scene), size)[-1:] if scene.keeper in managers else ():
            assert abs(date - time() - by) < MINUTE, "the database's clock has not jumped"
    finally:
        for manager in managers:
            set_clock(manager, 0)


def restart_in(scene: Scene, chance: Random, *, number: int, by: int) -> None:
    """An agent is killed, and starts while the clock is wrong."""
    manager = scene.manager(number)
    set_clock(manager, by)
    try:
        manager.restart(kill=True)
        sleep(1)
    finally:
        set_clock(manager, 0)


def shake(scene: Scene, chance: Random, *, times: int = 5) -> None:
    """All clocks jump about, each for itself."""
    for _ in range(times):
        for manager in scene.cloud.managers.values():
            set_clock(manager, chance.randint(-HOUR, HOUR))
        sleep(chance.uniform(0.5, 2))
    for manager in scene.cloud.managers.values():
        set_clock(manager, 0)


CLOCK = (
    Fault(name="clock 2 an hour ahead", inject=partial(jump, numbers=(2,), by=HOUR)),
    Fault(name="clock 2 an hour behind", inject=partial(jump, numbers=(2,), by=-HOUR)),
    Fault(name="clocks 1 and 2 thirty days ahead", inject=partial(jump, numbers=(1, 2), by=30 * DAY)),
    Fault(name="clock 1 a day behind", inject=partial(jump, numbers=(1,), by=-DAY)),
    Fault(name="agent 2 restarted a day behind", inject=partial(restart_in, number=2, by=-DAY)),
    Fault(name="agent 1 restarted a year ahead", inject=partial(restart_in, number=1, by=365 * DAY)),
    Fault(name="clocks jump about", inject=shake),
)
