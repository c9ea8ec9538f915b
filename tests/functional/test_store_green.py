# SPDX-License-Identifier: Apache-2.0
"""Server and client in a process that eventlet has patched through and through, as the manager is."""

import subprocess
import sys

PROGRAM = """
import eventlet
eventlet.monkey_patch()
import os, signal, time
from dataclasses import replace
from uuid import uuid4
from sgctl.errors import Conflict, Unavailable
from sgctl.model import Group
from sgctl.store import Insert, Update
from tests.functional.store_server import ACME, BASE, WEB, connected, eventually, held, served, truth
from tests.unit.store_rows import group

def add(database, name):
    try:
        database.write([Insert(replace(group(name, ACME), id=str(uuid4())))])
    except Conflict:
        return 0
    return 1

clock, native_sleep = time.monotonic, eventlet.patcher.original("time").sleep

def watch():
    \"\"\"How late a thread is that nobody has patched: what the machine costs.\"\"\"
    while True:
        due = clock() + 0.01
        native_sleep(0.01)
        late.append(max(0.0, clock() - due))

late = []
eventlet.patcher.original("_thread").start_new_thread(watch, ())

with served() as server, connected(server) as database, connected(server) as other:
    database.write([Insert(row) for row in BASE])
    ticks = []
    ticker = eventlet.spawn(lambda: [(ticks.append(time.monotonic()), time.sleep(0.01)) for _ in range(10_000)])
    pool = eventlet.GreenPool(50)
    won = sum(pool.starmap(add, [(one, f"g{n}") for n in range(200) for one in (database, other)]))
    assert won == 200, won
    began, known = time.monotonic(), len(late)
    for number in range(100):
        database.write([Update(Group, WEB.id, {"description": str(number)})])
    assert time.monotonic() - began - sum(late[known:]) < 5
    eventually(lambda: held(database) == held(other))
    assert held(database) == truth(server)
    os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: not database.connected)
    database.write([Update(Group, WEB.id, {"name": "later"})], deadline=10)
    assert held(database) == truth(server)
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        database.write([Update(Group, WEB.id, {"name": "never"})], deadline=0.3)
    except Unavailable as error:
        assert error.uncertain
    else:
        raise AssertionError("a stopped server answered")
    os.kill(pid, signal.SIGCONT)
    pauses = [later - earlier for earlier, later in zip(ticks, ticks[1:])]
    assert max(pauses) < 1 + 2 * max(late), (max(pauses), max(late))
print("fine")
"""


def test_everything_works_in_green_threads() -> None:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    result = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert (result.returncode, result.stdout) == (0, "fine\n"), result.stderr
