# SPDX-License-Identifier: Apache-2.0
"""All processes of a small cloud, real ones: Open vSwitch, the SG database, an API server, one hypervisor's agent."""

from __future__ import annotations

import configparser
import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from sgctl.cli.access import Access
from sgctl.cli.client import ApiClient, job_of
from sgctl.dbserver import DatabaseServer
from sgctl.model import Row
from sgctl.store import Database, Insert
from tests.bench import usage
from tests.bench.cloud import PODS, Place
from tests.bench.ports import PortDatabase
from tests.bench.watch import FlowWatch
from tests.functional.vswitch_sandbox import Sandbox, eventually, free_port

PROGRAM = Path(sys.executable).with_name("sgctl-manager")
BRIDGE = "br-int"
PATIENCE = 60.0


class Process:
    """One `sgctl-manager`; `start` starts it (again) with the same options."""

    def __init__(self, directory: Path, app: str, *options: str) -> None:
        self.admin_port, self.log = free_port(), directory / f"{app}.log"
        self._command = [str(PROGRAM), f"--state-dir={directory}", f"--admin-port={self.admin_port}", *options, app]
        self._connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=30)
        self.started = 0.0

    def start(self) -> None:
        """Start it; does not wait."""
        self.started = time.perf_counter()
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig=KILL", *self._command], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(20)

    def get(self, path: str) -> tuple[int, str]:
        """An answer of its admin endpoint; status 0 if nobody answers."""
        try:
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, ""

    def wait_ready(self) -> float:
        """Wait until it is in sync; when (perf_counter)."""

        def ready() -> bool:
            assert self._process.poll() is None, self.log.read_text()[-4000:]
            return self.get("/readyz")[0] == 200

        eventually(ready, PATIENCE)
        return time.perf_counter()

    def flow_mods(self) -> int:
        """How many it has sent since it was started."""
        found = re.findall(r"^sgctl_flow_mods_total\{.*\} ([0-9.e+]+)$", self.get("/metrics")[1], re.MULTILINE)
        return round(sum(map(float, found)))


class System:
    """The switch with its uplink, the SG database and the API run from the start; the agent on demand."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sgbench"))
        self.sandbox = Sandbox()
        self._stack = ExitStack()

    def __enter__(self) -> System:
        with self._stack as stack:
            stack.callback(shutil.rmtree, self.directory)
            stack.enter_context(self.sandbox)
            self._add_bridge()
            self.server = stack.enter_context(DatabaseServer(self.directory))
            self.api = self._process("sgctl.api", f"--api-port={free_port()}")
            self.api.start()
            stack.callback(self.api.stop)
            self.agent = self._process(
                "sgctl.agent", "--host=hv1", f"--ovsdb-connection={self.sandbox.connection}",
                f"--ofp-tcp-listen-port={free_port()}",
            )  # fmt: skip
            self.database = stack.enter_context(Database(self.server.remote))
            self.ports = stack.enter_context(closing(PortDatabase(self.sandbox.socket, BRIDGE)))
            self._client = self._first_admin()
            self.place = self._found()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.__exit__(*exc)  # type: ignore[arg-type]

    def start_agent(self) -> None:
        """Start the agent and wait until it is in sync; it ends with the system."""
        self.agent.start()
        self._stack.callback(self.agent.stop)
        self.agent.wait_ready()

    def _process(self, app: str, *options: str) -> Process:
        return Process(self.directory, app, f"--db={self.server.remote}", *options)

    def _add_bridge(self) -> None:
        self.sandbox.run(
            "ovs-vsctl", f"--db={self.sandbox.connection}", "add-br", BRIDGE, "--", "set", "Bridge", BRIDGE,
            "datapath_type=dummy", "fail_mode=secure",
        )  # fmt: skip
        self.sandbox.add_port(BRIDGE, "eth1", "external_ids:sgctl-role=uplink")

    def _first_admin(self) -> ApiClient:
        file = self.directory / "admin.ini"
        eventually(file.exists, PATIENCE)
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(file)
        keys = parser["cloudstack"]
        return ApiClient(Access(keys["endpoint"], keys["key"], keys["secret"]))

    def _found(self) -> Place:
        """A zone with two pods, and three groups of the root admin's."""
        zone = self.call(
            "createZone", name="zone", networktype="Basic", securitygroupenabled="true", dns1="10.10.0.2",
            internaldns1="10.10.0.2",
        )["zone"]["id"]  # fmt: skip
        pods = {name: self._pod(name, number, zone) for name, number in PODS.items()}
        groups = {
            name: self.call("createSecurityGroup", name=name)["securitygroup"]["id"]
            for name in ("web", "sources", "others", "more")
        }
        account = self.call("listAccounts", name="admin")["account"][0]["id"]
        return Place(account, zone, pods, groups)

    def _pod(self, name: str, number: int, zone: str) -> str:
        subnet = {"zoneid": zone, "gateway": f"10.{number}.0.1", "netmask": "255.255.0.0"}
        pod = self.call("createPod", name=name, startip=f"10.{number}.0.3", endip=f"10.{number}.0.9", **subnet)["pod"]
        self.call(
            "createVlanIpRange", podid=pod["id"], vlan="untagged", forvirtualnetwork="false",
            startip=f"10.{number}.0.10", endip=f"10.{number}.250.250", **subnet,
        )  # fmt: skip
        return str(pod["id"])

    def ask(self, command: str, **params: str) -> dict[str, Any]:
        """An API call; of an asynchronous one only its job's id."""
        return self._client.call(command, params)

    def result(self, answer: dict[str, Any]) -> dict[str, Any]:
        """What a call has come to, after its job if it has one."""
        job = job_of(answer)
        return answer if job is None else self._client.result(job, lambda _: None)

    def call(self, command: str, **params: str) -> dict[str, Any]:
        """An API call and what it has come to."""
        return self.result(self.ask(command, **params))

    def write(self, rows: Iterable[Row]) -> None:
        """One transaction with new rows."""
        self.database.write([Insert(row) for row in rows], deadline=PATIENCE)  # type: ignore[arg-type]

    def watch(self) -> FlowWatch:
        """Follow the bridge's flows from now on."""
        return FlowWatch(self.sandbox.directory / f"{BRIDGE}.mgmt")

    def pids(self) -> dict[str, int]:
        """All processes by what they are."""
        daemons = {name: process.pid for name, process in self.sandbox.daemons.items()}
        return {**daemons, "sg database": self.server.pid or 0, "api": self.api.pid, "agent": self.agent.pid}

    def cpu(self) -> dict[str, float]:
        """Seconds on a processor so far, by process."""
        return usage.cpu(self.pids())

    def flows(self) -> int:
        """How many flows the bridge has."""
        text = self.sandbox.ofctl("dump-aggregate", BRIDGE)
        return int(re.search(r"flow_count=(\d+)", text)[1])  # type: ignore[index]

    def restart_switch(self) -> float:
        """Kill ovs-vswitchd and start it; when (perf_counter) its bridge could be spoken to again."""
        management = self.sandbox.directory / f"{BRIDGE}.mgmt"
        self.sandbox.stop("ovs-vswitchd", signal.SIGKILL)
        management.unlink(missing_ok=True)
        self.sandbox.start_switch()
        eventually(management.exists, PATIENCE)
        return time.perf_counter()


def as_json(value: Mapping[str, Any]) -> str:
    """For files."""
    return json.dumps(value, indent=1, default=str) + "\n"
