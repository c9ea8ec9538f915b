# SPDX-License-Identifier: Apache-2.0
"""sgctl itself, all of it in real processes: the SG database, an API server, one hypervisor's agent."""

from __future__ import annotations

import configparser
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Any

from sgctl.cli.access import Access
from sgctl.cli.client import ApiClient, job_of
from sgctl.dbserver import DatabaseServer
from sgctl.model import Member, Row, Rule
from sgctl.store import Database, Delete, Insert, Replica
from sgctl.store.changes import operations
from sgctl.store.columns import SCHEMA_NAME
from tests.bench import audit
from tests.bench.cloud import (
    CIDR_PORT,
    GROUP_PORT,
    MORE_PORT,
    NEAR,
    PODS,
    Machine,
    Place,
    Size,
    cidr,
    cidr_rule,
    rule_rows,
)
from tests.bench.fabric import Fabric, Restart
from tests.bench.hypervisor import PATIENCE
from tests.bench.ovsdb import Json, Ovsdb
from tests.bench.process import Process
from tests.functional.ports import free_port
from tests.functional.vswitch_sandbox import eventually

SETTLED = 0.5
"""Seconds after which an agent that has just come into sync would have sent flow mods, if it had any."""


class System(Fabric):
    """The SG database and the API run from the start; the agent on demand."""

    name, quiet, agent = "sgctl", 0.15, "agent"
    events = ("floor", "rows", *Fabric.events)
    agent_process: Process

    def begin(self, stack: ExitStack) -> None:
        """Start database and API, and set up a zone."""
        self.server = stack.enter_context(DatabaseServer(self.directory))
        self.api = self._process("sgctl.api", f"--api-port={free_port()}")
        self.api.start()
        stack.callback(self.api.stop)
        self.agent_process = self._process(
            "sgctl.agent", f"--host={audit.HOST}", f"--ovsdb-connection={self.sandbox.connection}",
            f"--ofp-tcp-listen-port={free_port()}",
        )  # fmt: skip
        self._database = stack.enter_context(closing(Ovsdb(self.directory / "sg.sock", SCHEMA_NAME)))
        self._client = self._first_admin()
        self.place = self._found()
        self._asked: dict[str, Any] = {}
        self._ids: dict[object, str] = {}

    def start_agent(self) -> None:
        """As `Fabric`."""
        self.agent_process.start()
        self.callback(self.agent_process.stop)
        self.agent_process.wait_ready()

    def restart_agent(self) -> Restart:
        """As `Fabric`; also until it answered, and its switch was connected, and flow mods by its own count."""
        agent = self.agent_process
        agent.stop()
        agent.start()
        ready = agent.wait_ready()
        moments = {"answering": agent.answered, "connected": agent.switch_seen}
        parts = {name: 1000 * (moment - agent.started) for name, moment in moments.items()}
        time.sleep(SETTLED)
        return Restart(agent.started, ready, {**parts, "flow mods sent": agent.flow_mods()})

    def prepare(self, size: Size, spare: int) -> None:
        """As `Fabric`."""
        far = [Machine("far", number) for number in range(size.members + spare)]
        for group, machines in (("sources", far[: size.members]), ("others", far[size.members :])):
            self.write([row for machine in machines for row in machine.rows(self.place, group)])
        self._authorize("more", "udp", MORE_PORT, "0.0.0.0/0")
        self.finish()

    def cold(self, size: Size) -> Callable[[], None]:
        """As `Fabric`."""
        rows = [row for number in range(size.ports) for row in Machine("near", number).rows(self.place, "web")]
        return partial(self._transact, *operations([Insert(row) for row in (*rows, *rule_rows(self.place, size))]))

    def add_rule(self, number: int) -> None:
        """As `Fabric`."""
        self._authorize("web", "tcp", CIDR_PORT + number, cidr(number))

    def remove_rule(self, number: int) -> None:
        """As `Fabric`."""
        self._ask("revokeSecurityGroupIngress", id=self._ids.pop(CIDR_PORT + number))

    def allow_datagrams(self) -> None:
        """As `Fabric`."""
        self._authorize("web", "udp", GROUP_PORT, NEAR)

    def join(self, machine: Machine) -> None:
        """As `Fabric`."""
        self._regroup(machine, "sources")

    def leave(self, machine: Machine) -> None:
        """As `Fabric`."""
        self._regroup(machine, "others")

    def regroup(self, machine: Machine, *, more: bool) -> None:
        """As `Fabric`."""
        self._regroup(machine, "web", *["more"] * more)

    def add_rule_row(self, number: int) -> None:
        """As `Fabric`."""
        self.write([cidr_rule(self.place, number)])

    def remove_rule_row(self, number: int) -> None:
        """As `Fabric`."""
        self._transact(*operations([Delete(Rule, cidr_rule(self.place, number).id)]))

    def join_row(self, machine: Machine) -> None:
        """As `Fabric`."""
        self.write([machine.member(self.place, "sources")])

    def leave_row(self, machine: Machine) -> None:
        """As `Fabric`."""
        self._transact(*operations([Delete(Member, machine.member(self.place, "sources").id)]))

    def deploy(self, machine: Machine) -> None:
        """As `Fabric`."""
        self.write(machine.rows(self.place, "web"))

    def add_address(self, machine: Machine) -> None:
        """As `Fabric`."""
        self._ask("addIpToNic", nicid=machine.nic)

    def remove_address(self, machine: Machine) -> None:
        """As `Fabric`."""
        self._ask("removeIpFromNic", id=self._ids.pop(machine.nic))

    def finish(self) -> None:
        """Wait for the job of what was asked for last, and remember the ids of what it has made."""
        found, self._asked = self.result(self._asked), {}
        for rule in found.get("securitygroup", {}).get("ingressrule", ()):
            self._ids[rule["startport"]] = rule["ruleid"]
        if (address := found.get("nicsecondaryip")) is not None:
            self._ids[address["nicid"]] = str(address["id"])

    def log(self) -> str:
        """As `Fabric`."""
        return self.agent_process.log.read_text()[-3000:]

    def verify(self) -> None:
        """As `Fabric`: computed anew from the rows of the database and the ports of the switch."""
        with self.replica() as replica:
            audit.compare(self, audit.desired(self, replica))

    def audit(self, size: Size) -> dict[str, float]:
        """As `Fabric`."""
        with self.replica() as replica:
            return audit.audit(self, replica, size)

    @contextmanager
    def replica(self) -> Iterator[Replica]:
        """All that is in the database, in this process; nobody follows it while events are measured."""
        with Database(self.server.remote) as database:
            eventually(lambda: database.replica.insync, PATIENCE)
            yield database.replica

    def _authorize(self, group: str, protocol: str, port: int, source: str) -> None:
        self._ask(
            "authorizeSecurityGroupIngress", securitygroupname=group, protocol=protocol, startport=str(port),
            endport=str(port), cidrlist=source,
        )  # fmt: skip

    def _regroup(self, machine: Machine, *groups: str) -> None:
        ids = ",".join(self.place.groups[group] for group in groups)
        self._ask("updateVirtualMachine", id=machine.vm, securitygroupids=ids)

    def _ask(self, command: str, **params: str) -> None:
        """An API call; `finish` waits for its job."""
        self._asked = self._client.call(command, params)

    def _process(self, app: str, *options: str) -> Process:
        return Process(self.directory, app, f"--db={self.server.remote}", *options)

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

    def result(self, answer: dict[str, Any]) -> dict[str, Any]:
        """What a call has come to, after its job if it has one."""
        job = job_of(answer)
        return answer if job is None else self._client.result(job, lambda _: None)

    def call(self, command: str, **params: str) -> dict[str, Any]:
        """An API call and what it has come to."""
        return self.result(self._client.call(command, params))

    def write(self, rows: Iterable[Row]) -> None:
        """One transaction with new rows."""
        self._transact(*operations([Insert(row) for row in rows]))

    def _transact(self, *todo: Json) -> None:
        self._database.transact(*todo)

    def pids(self) -> dict[str, int]:
        """All processes by what they are."""
        ours = {"sg database": self.server.pid or 0, "api": self.api.pid, "agent": self.agent_process.pid}
        return super().pids() | ours
