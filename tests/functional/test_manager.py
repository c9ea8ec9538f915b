# SPDX-License-Identifier: Apache-2.0
"""sgctl-manager as a process: options, errors, applications, the embedded database, and its end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.functional.agent_rig import PROGRAM, Rig
from tests.functional.ports import free_port
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import world


@pytest.fixture
def state() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="sgmgr"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(world({"web1": ("web",)})) as rig:
        yield rig


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def running(*arguments: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [PROGRAM, *arguments], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ | (env or {})
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def answers(port: int, path: str = "/") -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def api_options(state: Path) -> tuple[list[str], int]:
    port = free_port()
    return [f"--state-dir={state}", f"--api-port={port}", "sgctl.api"], port


def test_help_and_version() -> None:
    helped = run("--help")
    assert helped.returncode == 0 and "--ovsdb-connection" in helped.stdout and "--ofp-tcp-listen-port" in helped.stdout
    assert helped.stderr == ""
    shown = run("--version")
    assert (shown.returncode, shown.stdout) == (0, f"sgctl-manager {version('sgctl')}\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--nonsense"], "--nonsense"),
        (["--api-port=x"], "--api-port"),
        (["--config-file=/does/not/exist"], "/does/not/exist"),
        (["--db=nonsense:1"], "--db nonsense:1"),
        (["--db=unix:/x", "--db-listen=ptcp:1"], "--db-listen"),
        (["--ovsdb-connection=/run/x"], "--ovsdb-connection"),
        (["--uplink=br-int"], "--uplink"),
        (["no.such.module"], "no.such.module"),
        (["string"], "'string' has no os-ken application"),
        (["--state-dir=/proc/nowhere"], "--state-dir /proc/nowhere"),
    ],
)
def test_a_bad_option_is_one_clear_line_and_status_1(state: Path, arguments: list[str], text: str) -> None:
    chosen = [] if any("state-dir" in one for one in arguments) else [f"--state-dir={state}"]
    ended = run(*chosen, *arguments)
    assert ended.returncode == 1
    assert text in ended.stderr and "Traceback" not in ended.stderr


def test_a_misspelt_application_leaves_no_state_directory(tmp_path: Path) -> None:
    ended = run(f"--state-dir={tmp_path / 'state'}", "no.such.module")
    assert ended.returncode == 1
    assert not (tmp_path / "state").exists()


def test_a_taken_port_is_one_clear_line_and_status_1(rig: Rig) -> None:
    with socket.socket() as taken:
        # As another manager has it; a port that may be shared would be had by both.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for option in ("--admin-port", "--ofp-tcp-listen-port"):
            manager = rig.manager(f"{option}={port}", ready=False)
            assert manager.process.wait(60) == 1
            said = manager.log.read_text()
            assert option in said and str(port) in said and "Traceback" not in said


def test_a_second_agent_of_the_same_bridge_does_not_start(rig: Rig) -> None:
    rig.manager()
    second = rig.manager(ready=False)
    assert second.process.wait(60) == 1
    assert "another sgctl agent works on bridge br-int" in second.log.read_text()


def test_an_agent_waits_for_the_switch(rig: Rig) -> None:
    rig.sandbox.stop("ovs-vswitchd")
    rig.sandbox.stop("ovsdb-server")
    manager = rig.manager(ready=False)
    eventually(lambda: "waiting for the switch's database" in manager.log.read_text())
    time.sleep(2)
    assert manager.log.read_text().count("waiting") == 1
    rig.sandbox.start_database()
    rig.sandbox.start_switch()
    manager.wait_ready()


def test_the_api_alone_has_an_embedded_database_and_ends_cleanly(state: Path) -> None:
    options, port = api_options(state)
    with running(*options) as process:
        eventually(lambda: answers(port, "/client/api"))
        admin = state / "admin.ini"
        assert admin.stat().st_mode & 0o777 == 0o600
        database = int((state / "sg.pid").read_text())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert not Path(f"/proc/{database}").exists()
    assert "Traceback" not in (process.stderr.read() if process.stderr and not process.stderr.closed else "")


def test_the_embedded_database_dies_with_a_killed_manager(state: Path) -> None:
    options, port = api_options(state)
    with running(*options) as process:
        eventually(lambda: answers(port, "/client/api"))
        database = int((state / "sg.pid").read_text())
        process.kill()
        eventually(lambda: not Path(f"/proc/{database}").exists())


def test_a_foreign_application_runs_beside(state: Path) -> None:
    (state / "beside.py").write_text(
        "from os_ken.base.app_manager import OSKenApp\n"
        "class Beside(OSKenApp):\n"
        "    def start(self):\n"
        f"        open({str(state / 'ran')!r}, 'w').close()\n"
        "        return super().start()\n"
    )
    options, port = api_options(state)
    with running(*options, "beside", env={"PYTHONPATH": str(state)}):
        eventually(lambda: answers(port, "/client/api") and (state / "ran").exists())


def test_options_come_from_a_file_too(state: Path) -> None:
    port = free_port()
    (state / "sgctl.conf").write_text(f"[DEFAULT]\nstate_dir = {state}\napi_port = {port}\n")
    with running(f"--config-file={state / 'sgctl.conf'}", "sgctl.api"):
        eventually(lambda: answers(port, "/client/api"))


def test_an_error_of_a_green_thread_ends_the_process(state: Path) -> None:
    (state / "broken.py").write_text(
        "from os_ken.base.app_manager import OSKenApp\n"
        "class Broken(OSKenApp):\n"
        "    def __init__(self, *args, sgctl, **kwargs):\n"
        "        super().__init__(*args, **kwargs)\n"
        "        sgctl.spawn(lambda: 1 / 0)\n"
    )
    options, _ = api_options(state)
    with running(*options, "broken", env={"PYTHONPATH": str(state)}) as process:
        assert process.wait(60) == 1
        assert process.stderr and "ZeroDivisionError" in process.stderr.read()

