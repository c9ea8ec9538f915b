# SPDX-License-Identifier: Apache-2.0
"""A real sgctl-manager with a real Open vSwitch (dummy ports) and a real SG database, for tests of the agent."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sgctl.dbserver import DatabaseServer
from sgctl.model import Nic
from sgctl.store import Database, Insert
from sgctl.world import World
from tests.functional.ports import free_port
from tests.functional.vswitch_sandbox import Sandbox, eventually
from tests.unit.worlds import rows, uid

PROGRAM = Path(sys.executable).with_name("sgctl-manager")
BRIDGE = "br-int"
PATIENCE = 60.0
"""Seconds that a manager may take on a busy machine."""
_FLOW = re.compile(r"cookie=(0x[0-9a-f]+), duration=([\d.]+)s")


class Rig:
    """A switch with `br-int` and an uplink, an SG database, and agents that are started on demand."""

    def __init__(self, of: World) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sgrig"))
        self.sandbox = Sandbox()
        self.server = DatabaseServer(self.directory)
        self.managers: list[Manager] = []
        self._cloud = of

    def __enter__(self) -> Rig:
        self.sandbox.__enter__()
        self.server.start()
        self.database = Database(self.server.remote, deadline=PATIENCE, patience=PATIENCE)
        self.database.start()
        assert self.database.wait_insync(30)
        self.database.write([Insert(row) for row in rows(self._cloud)])  # type: ignore[arg-type]
        self.sandbox.run(
            "ovs-vsctl", f"--db={self.sandbox.connection}", "add-br", BRIDGE, "--", "set", "Bridge", BRIDGE,
            "datapath_type=dummy",
        )  # fmt: skip
        self.sandbox.add_port(BRIDGE, "eth1", "external_ids:sgctl-role=uplink")
        return self

    def __exit__(self, *exc: object) -> None:
        for manager in self.managers:
            manager.kill()
        self.database.stop()
        self.server.stop()
        self.sandbox.__exit__(*exc)
        shutil.rmtree(self.directory)

    def manager(self, *options: str, ready: bool = True) -> Manager:
        """A running agent."""
        manager = Manager(self, options)
        self.managers.append(manager)
        if ready:
            manager.wait_ready()
        return manager

    def plug(self, nic: str, ofport: int, mac: str = "") -> str:
        """Add a port for a NIC of the cloud."""
        name = f"tap{ofport}"
        settings = [f"ofport_request={ofport}", f"external_ids:iface-id={uid(nic)}"]
        settings += [f'external_ids:attached-mac="{mac}"'] if mac else []
        self.sandbox.add_port(BRIDGE, name, *settings)
        return name

    def restart_switch(self, number: int) -> None:
        """ovs-vswitchd ends by this signal and starts again."""
        self.sandbox.stop("ovs-vswitchd", number)
        management = self.sandbox.directory / f"{BRIDGE}.mgmt"
        management.unlink(missing_ok=True)
        self.sandbox.start_switch()
        eventually(management.exists)

    def stop_database(self) -> None:
        """The SG database goes away."""
        self.server.stop()

    def start_database(self) -> None:
        """The SG database is back, with what it had."""
        self.server = DatabaseServer(self.directory)
        self.server.start()

    def unplug(self, name: str) -> None:
        self.sandbox.vsctl("del-port", BRIDGE, name)

    def cookies(self) -> set[int]:
        """The cookies of all flows in the switch."""
        return set(self.ages())

    def ages(self) -> dict[int, float]:
        """For how many seconds each flow has been in the switch, by cookie; a flow mod would have set it to 0."""
        text = self.sandbox.ofctl("dump-flows", BRIDGE)
        return {int(cookie, 16): float(age) for cookie, age in _FLOW.findall(text)}

    def set_external_id(self, port: str, key: str, value: str) -> None:
        self.sandbox.vsctl("set", "Interface", port, f'external_ids:{key}="{value}"')

    def nic(self, name: str) -> Nic:
        """The row of a NIC as it is now."""
        nic = self.database.replica.get(Nic, uid(name))
        assert nic
        return nic

    def wait_nic(self, name: str, host: str, state: str) -> None:
        """Wait until the row of a NIC says where it is."""
        eventually(lambda: (self.nic(name).host, self.nic(name).state) == (host, state))


class Manager:
    """One sgctl-manager process that runs the agent; `start` starts it (again) with the same options."""

    def __init__(self, rig: Rig, options: Sequence[str] = ()) -> None:
        self.admin_port, self.ofp_port = free_port(), free_port()
        self.log = rig.directory / f"manager-{self.admin_port}.log"
        self.command = [
            str(PROGRAM), "--host=hv1", f"--db={rig.server.remote}", f"--ovsdb-connection={rig.sandbox.connection}",
            f"--admin-port={self.admin_port}", f"--ofp-tcp-listen-port={self.ofp_port}",
            f"--state-dir={rig.directory}", *options, "sgctl.agent",
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def get(self, path: str) -> tuple[int, Any]:
        """Status and content of an answer; status 0 if nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=PATIENCE) as answer:
                return answer.status, _content(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _content(error.read())
        except OSError as error:
            return 0, str(error)

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return self.get("/readyz")[0] == 200

        eventually(ready, PATIENCE)

    def ports(self) -> dict[str, Any]:
        """The ports by name, once the agent is ready."""
        self.wait_ready()
        return {port["name"]: port for port in self.get("/admin/ports")[1]["ports"]}

    def wait_state(self, port: str, state: str, reason: str = "") -> dict[str, Any]:
        """Wait until a port has this state, for this reason (a part of it)."""

        def reached() -> dict[str, Any] | None:
            found = self.ports().get(port)
            return found if found and found["state"] == state and reason in found["reason"] else None

        found = eventually(reached, PATIENCE)
        assert found
        return found


def _content(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode()
