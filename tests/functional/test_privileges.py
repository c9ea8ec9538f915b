# SPDX-License-Identifier: Apache-2.0
"""Each process works with the few privileges that its systemd unit leaves it, and keeps its files to itself."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.agent_rig import Manager, Rig
from tests.functional.api_servers import Server
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import mac_of, world

pytestmark = pytest.mark.functional
NOBODY = 65534
NO_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
#: May read anything, since the Python that runs this may be in root's home.
USER = (
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all,+dac_read_search",
    "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search", "--no-new-privs",
)  # fmt: skip


def capabilities(pid: int) -> str:
    """The effective capabilities of a process, in hexadecimal digits."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("CapEff"))


def test_an_agent_is_root_without_capabilities() -> None:
    with Rig(world({"web1": ("web",)})) as rig:
        manager = Manager(rig)
        manager.kill()
        manager.command[:0] = NO_CAPABILITIES
        manager.start()
        rig.managers.append(manager)
        manager.wait_state(rig.plug("web1", 5, mac_of(1)), "active")
        assert int(capabilities(manager.process.pid), 16) == 0
        assert "ERROR" not in manager.log.read_text()
        assert manager.stop() == 0


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that a user without rights may write to."""
    with tempfile.TemporaryDirectory(prefix="sgnobody") as name:
        os.chown(name, NOBODY, NOBODY)
        yield Path(name)


def test_database_and_api_need_no_root(directory: Path) -> None:
    server = Server(directory, "--admin-port=0", prefix=USER)
    with server:
        server.admin().listZones()
        assert {path.stat().st_uid for path in directory.iterdir() if path.name != "log"} == {NOBODY}
    assert " ERROR " not in server.log


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    with Server(tmp_path / "state", "--admin-port=0") as server:
        server.admin().listZones()
        eventually(lambda: (server.directory / "admin.ini").exists())
        kept = [path for path in server.directory.iterdir() if path.name != "log"]
        assert {"sg.db", "sg.sock", "sg.ctl", "sg.lock", "admin.ini", "ovsdb-server.log"} <= {one.name for one in kept}
        open_to_others = [one.name for one in kept if stat.S_IMODE(one.stat().st_mode) & 0o077]
        assert open_to_others == []
