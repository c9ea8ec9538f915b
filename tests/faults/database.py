# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with the SG database: it hangs, dies, is replaced, cannot write, or its file is spoilt."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from time import sleep

from devstack.lab import Manager
from devstack.lab.namespace import wait_for
from tests.faults.harness import Fault
from tests.faults.scene import Scene

DISK = "128m"
SIZE_OF_BLOCK = 65536


@contextmanager
def small_disk(manager: Manager) -> Iterator[None]:
    """Put the state directory of a manager, which is restarted for it, on a small disk of its own."""
    manager.stop()
    directory = manager.directory
    copy = directory.with_name(f"{directory.name}-copy")
    shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("*.sock", "*.ctl"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "sgctl-test", directory], check=True)
    try:
        shutil.copytree(copy, directory, dirs_exist_ok=True)
        manager.start()
        manager.wait_ready()
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def server_of(scene: Scene) -> int:
    """The process id of the database's server."""
    return int((scene.keeper.directory / "sg.pid").read_text())


def file_of(scene: Scene) -> Path:
    """The database's file."""
    return scene.keeper.directory / "sg.db"


def new_server(scene: Scene, old: int) -> None:
    """Wait until another server has the database and the keeper is in sync with it."""

    def changed() -> bool:
        with suppress(OSError, ValueError):
            return server_of(scene) != old
        return False

    wait_for("a new database server", changed)
    scene.keeper.wait_ready()


def kill(scene: Scene, chance: Random, *, times: int) -> None:
    """The server dies, several times."""
    for _ in range(times):
        old = server_of(scene)
        os.kill(old, signal.SIGKILL)
        new_server(scene, old)
        sleep(chance.uniform(0, 0.5))


def freeze(scene: Scene, chance: Random, *, seconds: float) -> None:
    """The server hangs."""
    server = server_of(scene)
    os.kill(server, signal.SIGSTOP)
    try:
        sleep(seconds)
    finally:
        os.kill(server, signal.SIGCONT)


def fill_disk(scene: Scene, chance: Random) -> None:
    """No block is left on the disk for a while."""
    blocks = scene.keeper.directory / "blocks"
    with blocks.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(SIZE_OF_BLOCK))
    sleep(3)
    blocks.unlink()
    wait_writable(scene)


def wait_writable(scene: Scene) -> None:
    """Wait until the API can write again."""
    tenant = scene.tenant

    def writes() -> bool:
        done = tenant.type("sgctl create securitygroup name=trial && sgctl delete securitygroup name=trial")
        return done.returncode == 0

    wait_for("the API to write again", writes, timeout=60, step=0.5)


def replaced(scene: Scene, change: Callable[[Path], object]) -> None:
    """Kill the server once its file has been replaced by a changed copy."""
    file, old = file_of(scene), server_of(scene)
    copy = file.with_name("sg.new")
    shutil.copy(file, copy)
    change(copy)
    os.kill(old, signal.SIGSTOP)
    copy.replace(file)
    os.kill(old, signal.SIGKILL)
    new_server(scene, old)


def restore(scene: Scene, chance: Random) -> None:
    """An older copy of the file takes the place of what was written since."""
    file = file_of(scene)
    backup = file.with_name("sg.backup")
    shutil.copy(file, backup)
    sleep(2)
    replaced(scene, lambda copy: shutil.copy(backup, copy))


def other_content(scene: Scene, chance: Random) -> None:
    """While it was away somebody has deleted the rules that came lately."""

    def change(copy: Path) -> None:
        operations = [
            {"op": "delete", "table": "Rule", "where": [["first", ">", 20000]]},
            {"op": "update", "table": "Group", "where": [["name", "==", "extra"]], "row": {"description": "restored"}},
        ]
        command = ["ovsdb-tool", "transact", str(copy), json.dumps(["SG", *operations])]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "error" not in answer, answer

    replaced(scene, change)


def spoil(scene: Scene, chance: Random, *, last: bool) -> None:
    """Bytes in the file are not what was written: those of the last record, as after a crash, or earlier ones.

    What cannot be read whole is not served: somebody must put a copy back.
    """
    file, old, keeper = file_of(scene), server_of(scene), scene.keeper
    os.kill(old, signal.SIGSTOP)
    good = file.read_bytes()
    if last:
        file.write_bytes(good + b"OVSDB JSON 4000 0123456789012345678901234567890123456789\n{\"torn")
    else:
        at = good.index(b"OVSDB JSON ", len(good) // 2) + 80
        file.write_bytes(good[:at] + b"XXXX" + good[at + 4 :])
    os.kill(old, signal.SIGKILL)
    if last:
        new_server(scene, old)
        return
    wait_for("a complaint", lambda: "is damaged" in keeper.tail(), step=0.1)
    assert keeper.get("/healthz")[0] == 200
    sleep(2)
    file.write_bytes(good)
    new_server(scene, old)


DATABASE = (
    Fault(name="database SIGKILL", inject=partial(kill, times=3)),
    Fault(name="database SIGSTOP 3 s", inject=partial(freeze, seconds=3.0)),
    Fault(name="database's disk full", inject=fill_disk),
    Fault(name="database restored from a backup", inject=restore, rewrites=True),
    Fault(name="database with other content", inject=other_content, rewrites=True),
    Fault(name="database file with a torn end", inject=partial(spoil, last=True)),
    Fault(name="database file spoilt", inject=partial(spoil, last=False)),
)
MORE = tuple(
    Fault(name=f"database SIGSTOP {seconds:g} s", inject=partial(freeze, seconds=seconds)) for seconds in (12.0, 60.0)
)
"""Only in long runs."""
