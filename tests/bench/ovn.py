# SPDX-License-Identifier: Apache-2.0
"""OVN as Debian packages it, measured like sgctl: one logical switch, port groups with ACLs.

The members elsewhere are logical ports that another chassis has bound, in a port group whose addresses the ACLs name:
VMs of the same cloud, as in sgctl's case.  `OvnAddressSet` knows of them no more than their addresses, in an address
set, which is how OVN is fastest.  Transactions go straight to the databases, without the start of an `ovn-nbctl`.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path

from tests.bench.cloud import CIDR_PORT, GROUP_PORT, MORE_PORT, NEAR, Machine, Size, cidr
from tests.bench.fabric import Fabric, Restart
from tests.bench.ovsdb import Json, Ovsdb, insert, mutate, named, select
from tests.functional.vswitch_sandbox import answers, eventually

SCHEMAS = Path("/usr/share/ovn")
PROGRAMS = ("ovn-northd", "ovn-controller")
SWITCH, ELSEWHERE = "ls0", "far1"
SECONDARY = "10.10.240.1"


class Ovn(Fabric):
    """The databases and ovn-northd run from the start, ovn-controller on demand."""

    name, quiet, agent = "OVN", 1.0, "ovn-controller"
    sources = "sources_ip4"

    @classmethod
    def installed(cls) -> bool:
        """As `Fabric`."""
        return all(map(shutil.which, PROGRAMS))

    def begin(self, stack: ExitStack) -> None:
        """Start the central part, and tell the hypervisor of it."""
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        stack.callback(self._stop_all)
        for name in ("nb", "sb"):
            file = self.directory / f"{name}.db"
            self.sandbox.run("ovsdb-tool", "create", str(file), str(SCHEMAS / f"ovn-{name}.ovsschema"))
            self._start(f"{name} database", "ovsdb-server", str(file), f"--remote=p{self._remote(name)}")
            eventually(lambda name=name: answers(self.directory / f"{name}.sock"))  # type: ignore[misc]
        self._start("northd", "ovn-northd", f"--ovnnb-db={self._remote('nb')}", f"--ovnsb-db={self._remote('sb')}")
        self._asked = self._central = self._done = 0
        self._names, self._acls = count(), dict[int, Json]()
        self.north = stack.enter_context(closing(Ovsdb(self.directory / "nb.sock", "OVN_Northbound", self._note)))
        self.north.transact(insert("NB_Global", "g"), insert("Logical_Switch", "s", name=SWITCH))
        self.north.monitor(NB_Global=["sb_cfg", "hv_cfg"])
        self.south = stack.enter_context(closing(Ovsdb(self.directory / "sb.sock", "OVN_Southbound")))
        self.sandbox.vsctl(
            "set", "Open_vSwitch", ".", f'external_ids:ovn-remote="{self._remote("sb")}"', "external_ids:system-id=hv1",
            "external_ids:ovn-encap-type=geneve", "external_ids:ovn-encap-ip=127.0.0.1",
            "external_ids:ovn-bridge-datapath-type=dummy",
        )  # fmt: skip

    def _remote(self, name: str) -> str:
        return f"unix:{self.directory}/{name}.sock"

    def _start(self, name: str, program: str, *arguments: str) -> None:
        stem = self.directory / name.replace(" ", "-")
        files = [f"--pidfile={stem}.pid", f"--log-file={stem}.log", "-vconsole:off"]
        files += [] if program == "ovn-controller" else [f"--unixctl={stem}.ctl"]
        self._daemons[name] = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", program, *arguments, *files], stderr=subprocess.DEVNULL,
            env=self.sandbox.env | {"OVN_RUNDIR": str(self.directory), "OVN_DBDIR": str(self.directory)},
        )  # fmt: skip

    def _stop_all(self) -> None:
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
            daemon.wait(20)

    def pids(self) -> dict[str, int]:
        """All processes by what they are."""
        return super().pids() | {name: daemon.pid for name, daemon in self._daemons.items()}

    def log(self) -> str:
        """As `Fabric`."""
        return (self.directory / "ovn-controller.log").read_text()[-3000:]

    def _note(self, tables: Json) -> None:
        for row in tables.get("NB_Global", {}).values():
            self._central, self._done = row["new"]["sb_cfg"], row["new"]["hv_cfg"]

    def finish(self) -> None:
        """What `ovn-nbctl --wait=hv sync` does: the hypervisor confirms that it has come so far."""
        self._asked += 1
        self.north.transact({"op": "update", "table": "NB_Global", "where": [], "row": {"nb_cfg": self._asked}})
        self.north.wait(lambda: self._done >= self._asked, "the hypervisor has everything", 120)

    def start_agent(self) -> None:
        """As `Fabric`."""
        self._start(self.agent, "ovn-controller", self.sandbox.connection)
        self.finish()

    def restart_agent(self) -> Restart:
        """As `Fabric`, by the command for upgrades, which leaves the flows in the switch."""
        old = self._daemons[self.agent]
        self.sandbox.run("ovs-appctl", "-t", f"{self.directory}/ovn-controller.{old.pid}.ctl", "exit", "--restart")
        old.wait(20)
        started = time.perf_counter()
        self.start_agent()
        return Restart(started, time.perf_counter())

    def prepare(self, size: Size, spare: int) -> None:
        """As `Fabric`; the other chassis is only a row, and its ports are said to be up."""
        acl = self._acl("more", f"udp.dst == {MORE_PORT}")
        self.north.transact(acl, insert("Port_Group", "g", name="more", acls=named(acl["uuid-name"])))
        self._elsewhere([Machine("far", number) for number in range(size.members + spare)], size.members)
        self._settle()

    def _elsewhere(self, machines: list[Machine], members: int) -> None:
        ports = [self._port(machine) for machine in machines]
        names = [port["uuid-name"] for port in ports]
        self.north.transact(
            *ports, mutate("Logical_Switch", SWITCH, "ports", "insert", named(*names)),
            insert("Port_Group", "g", name="sources", ports=named(*names[:members])),
        )  # fmt: skip
        encap = insert("Encap", "e", type="geneve", ip="127.0.0.2", chassis_name=ELSEWHERE)
        self.south.transact(encap, insert("Chassis", "c", name=ELSEWHERE, encaps=named("e")))
        eventually(lambda: len(self._bindings()) >= len(machines), 120)
        chassis = self.south.transact(select("Chassis", ELSEWHERE))[0]["rows"][0]["_uuid"]
        bound = {"chassis": chassis, "up": True}
        self.south.transact({"op": "update", "table": "Port_Binding", "where": [], "row": bound})

    def _bindings(self) -> list[Json]:
        return list(
            self.south.transact({"op": "select", "table": "Port_Binding", "where": [], "columns": ["_uuid"]})[0]["rows"]
        )

    def _settle(self) -> None:
        """Until ovn-northd has worked off everything; no hypervisor is there yet that could confirm it."""
        self._asked += 1
        self.north.transact({"op": "update", "table": "NB_Global", "where": [], "row": {"nb_cfg": self._asked}})
        self.north.wait(lambda: self._central >= self._asked, "ovn-northd has everything", 120)

    def cold(self, size: Size) -> Callable[[], None]:
        """As `Fabric`; who is not let in by a rule is dropped, everything may leave."""
        ports = [self._port(Machine("near", number)) for number in range(size.ports)]
        acls = [self._rule(number) for number in range(size.rules)]
        acls += [
            self._acl("web", f"ip4.src == ${self.sources} && tcp.dst == {GROUP_PORT + number}")
            for number in range(size.group_rules)
        ]
        acls.append(self._acl("web", "ip", action="drop", priority=1000))
        acls.append(self._acl("web", "ip", direction="from-lport"))
        names = named(*(port["uuid-name"] for port in ports))
        group = insert("Port_Group", "g", name="web", ports=names, acls=named(*(acl["uuid-name"] for acl in acls)))
        into = mutate("Logical_Switch", SWITCH, "ports", "insert", names)
        return partial(self._transact, *ports, *acls, group, into)

    def _transact(self, *operations: Json) -> None:
        self.north.transact(*operations)

    def _port(self, machine: Machine) -> Json:
        both = f"{machine.mac} {machine.address}"
        name = f"p{next(self._names)}"
        return insert("Logical_Switch_Port", name, name=machine.nic, addresses=both, port_security=both)

    def _acl(
        self,
        group: str,
        match: str,
        *,
        direction: str = "to-lport",
        action: str = "allow-related",
        priority: int = 1001,
    ) -> Json:
        side = "outport" if direction == "to-lport" else "inport"
        return insert(
            "ACL", f"a{next(self._names)}", priority=priority, direction=direction, action=action,
            match=f"{side} == @{group} && {match}",
        )  # fmt: skip

    def _rule(self, number: int) -> Json:
        return self._acl("web", f"ip4.src == {cidr(number)} && tcp.dst == {CIDR_PORT + number}")

    def _add_acl(self, acl: Json) -> Json:
        add = mutate("Port_Group", "web", "acls", "insert", named(acl["uuid-name"]))
        return self.north.transact(acl, add)[0]["uuid"]

    def add_rule(self, number: int) -> None:
        """As `Fabric`."""
        self._acls[number] = self._add_acl(self._rule(number))

    def remove_rule(self, number: int) -> None:
        """As `Fabric`."""
        self.north.transact(mutate("Port_Group", "web", "acls", "delete", self._acls.pop(number)))

    def allow_datagrams(self) -> None:
        """As `Fabric`."""
        self._add_acl(self._acl("web", f"ip4.src == {NEAR} && udp.dst == {GROUP_PORT}"))

    def join(self, machine: Machine) -> None:
        """As `Fabric`."""
        self._member(machine, "sources", "insert")

    def leave(self, machine: Machine) -> None:
        """As `Fabric`."""
        self._member(machine, "sources", "delete")

    def regroup(self, machine: Machine, *, more: bool) -> None:
        """As `Fabric`."""
        self._member(machine, "more", "insert" if more else "delete")

    def _member(self, machine: Machine, group: str, mutator: str) -> None:
        port = self.north.transact(select("Logical_Switch_Port", machine.nic))[0]["rows"][0]["_uuid"]
        self.north.transact(mutate("Port_Group", group, "ports", mutator, port))

    def deploy(self, machine: Machine) -> None:
        """As `Fabric`."""
        port = self._port(machine)
        name = named(port["uuid-name"])
        targets = (("Logical_Switch", SWITCH), ("Port_Group", "web"))
        self.north.transact(port, *(mutate(table, one, "ports", "insert", name) for table, one in targets))

    def add_address(self, machine: Machine) -> None:
        """As `Fabric`."""
        self._address(machine, f"{machine.mac} {machine.address} {IPv4Address(SECONDARY) + machine.number}")

    def remove_address(self, machine: Machine) -> None:
        """As `Fabric`."""
        self._address(machine, f"{machine.mac} {machine.address}")

    def _address(self, machine: Machine, both: str) -> None:
        where, row = [["name", "==", machine.nic]], {"addresses": both, "port_security": both}
        self.north.transact({"op": "update", "table": "Logical_Switch_Port", "where": where, "row": row})


class OvnAddressSet(Ovn):
    """The same, where the members elsewhere are addresses and nothing else."""

    name, sources = "OVN, address set", "sources"

    def _elsewhere(self, machines: list[Machine], members: int) -> None:
        addresses = [machine.address for machine in machines[:members]]
        self.north.transact(insert("Address_Set", "a", name="sources", addresses=["set", addresses]))

    def join(self, machine: Machine) -> None:
        """As `Fabric`."""
        self.north.transact(mutate("Address_Set", "sources", "addresses", "insert", machine.address))

    def leave(self, machine: Machine) -> None:
        """As `Fabric`."""
        self.north.transact(mutate("Address_Set", "sources", "addresses", "delete", machine.address))
