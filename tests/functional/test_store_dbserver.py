# SPDX-License-Identifier: Apache-2.0
"""The embedded server: its file, its ports, its life and death."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from sgctl import dbfile
from sgctl.dbfile import DatabaseFileError
from sgctl.dbserver import DatabaseServer, DatabaseServerError
from sgctl.model import Account
from sgctl.store import Database, Insert
from tests.functional.ports import free_port
from tests.functional.store_server import ACME, connected, eventually, held, offline, served

#: A manager in miniature: it says where it serves, and lives until it is told to end.
MANAGER = """
import sys
from pathlib import Path
if sys.argv[2] == "green":
    import eventlet
    eventlet.monkey_patch()
from threading import Thread
from sgctl.dbserver import DatabaseServer
server = DatabaseServer(Path(sys.argv[1]))
starter = Thread(target=server.start)
starter.start()
starter.join()
print(server.pid, flush=True)
sys.stdin.read()
server.stop()
"""


def with_version(path: Path, version: str) -> Path:
    """The schema as another release might have it: another version, another column."""
    schema = json.loads((files("sgctl") / "sg.ovsschema").read_text())
    schema["version"] = version
    schema["tables"]["Account"]["columns"]["future"] = {"type": "string"}
    path.write_text(json.dumps(schema))
    return path


def create(directory: Path, version: str) -> Path:
    """A database file made by another release."""
    schema = with_version(directory / "other.ovsschema", version)
    subprocess.run(["ovsdb-tool", "create", str(directory / "sg.db"), str(schema)], check=True)
    return directory / "sg.db"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_only_the_owner_can_read_it() -> None:
    with served() as server:
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in server.directory.iterdir()}
        assert modes["sg.db"] == 0o600
        assert not modes["sg.sock"] & 0o077
        assert not modes["sg.ctl"] & 0o077


def test_it_keeps_what_it_has(tmp_path: Path) -> None:
    for turn in range(2):
        with DatabaseServer(tmp_path / "state") as server, connected(server) as database:
            if turn == 0:
                database.write([Insert(ACME)])
            assert held(database)[Account] == {ACME.id: ACME}


def test_an_older_file_is_converted_and_kept(tmp_path: Path) -> None:
    create(tmp_path, "0.9.0")
    insert = {"op": "insert", "table": "Account", "uuid": ACME.id, "row": {"name": "acme", "name_key": "acme"}}
    server = DatabaseServer(tmp_path)
    offline(server, insert)
    with server, connected(server) as database:
        assert held(database)[Account] == {ACME.id: ACME}
    assert (tmp_path / "sg.db.0.9.0").exists()
    assert stat.S_IMODE((tmp_path / "sg.db").stat().st_mode) == 0o600
    assert dbfile.prepare(tmp_path / "sg.db") is None
    assert not list(tmp_path.glob("*.new*"))


def test_a_newer_file_is_refused_and_untouched(tmp_path: Path) -> None:
    path = create(tmp_path, "1.10.0")
    before = path.read_bytes()
    with pytest.raises(DatabaseFileError, match=r"newer sgctl: its schema is 1\.10\.0"), DatabaseServer(tmp_path):
        pass
    assert path.read_bytes() == before


def test_a_damaged_file_is_an_error_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "sg.db").write_text("not a database\n")
    with pytest.raises(DatabaseFileError, match=re.escape(str(tmp_path / "sg.db"))), DatabaseServer(tmp_path):
        pass


def test_one_directory_serves_one_manager() -> None:
    with served() as server, pytest.raises(DatabaseServerError, match=f"another sgctl-manager.*{server.directory}"):
        DatabaseServer(server.directory).start()


def test_a_file_held_by_a_stranger_is_an_error(tmp_path: Path) -> None:
    dbfile.prepare(tmp_path / "sg.db")
    with subprocess.Popen(
        ["ovsdb-server", f"--remote=punix:{tmp_path}/x", f"--unixctl={tmp_path}/y", str(tmp_path / "sg.db")],
        stderr=subprocess.DEVNULL,
    ) as stranger:
        eventually(lambda: (tmp_path / "y").exists())
        with pytest.raises(DatabaseServerError, match=r"does not start.*lock"):
            DatabaseServer(tmp_path).start()
        stranger.terminate()


def test_a_taken_port_is_an_error() -> None:
    listen = f"ptcp:{free_port()}:127.0.0.1"
    with served(listen) as server:
        with Database(f"tcp:127.0.0.1:{listen.split(':')[1]}") as database:
            assert database.wait_insync(30)
        with pytest.raises(DatabaseServerError, match=f"cannot listen on {listen}.*already in use"), served(listen):
            pass
        assert server.pid is not None


def test_it_comes_back_after_a_kill(caplog: pytest.LogCaptureFixture) -> None:
    with served() as server:
        for _ in range(3):
            killed = server.pid
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            eventually(lambda killed=killed: server.pid not in {None, killed})  # type: ignore[misc]
            assert "killed by SIGKILL" in caplog.text
            with connected(server):
                pass


def test_it_ends_with_stop_even_if_it_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgctl.dbserver._STOP_SECONDS", 0.2)
    with served() as server:
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
    assert not alive(pid)


@pytest.mark.parametrize("hub", ["green", "threads"])
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "asked"])
def test_it_never_outlives_its_manager(tmp_path: Path, hub: str, killed: bool) -> None:
    command = [sys.executable, "-W", "ignore", "-c", MANAGER, str(tmp_path), hub]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as manager:
        assert manager.stdout and manager.stdin
        pid = int(manager.stdout.readline())
        assert alive(pid)
        if killed:
            manager.kill()
        manager.stdin.close()
    eventually(lambda: not alive(pid))
    assert manager.returncode == (-signal.SIGKILL if killed else 0)
    with DatabaseServer(tmp_path) as server, connected(server):
        pass
