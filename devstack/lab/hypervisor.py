# SPDX-License-Identifier: Apache-2.0
"""A hypervisor: a namespace with an Open vSwitch of its own, in user space, and the ports of its VMs."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from devstack.lab.manager import Manager
from devstack.lab.namespace import PATIENCE, Lab, checked_name, wait_for
from devstack.lab.segment import Segment, be_patient, wire
from devstack.lab.vm import VM

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
BRIDGE = "br-int"
IN_TIME = f"--timeout={PATIENCE:.0f}"


class Hypervisor:
    """Has `br-int` (datapath_type=netdev) and whatever uplinks and VMs are plugged into it.

    `br-int` starts as Open vSwitch makes it: standalone, forwarding like a plain switch until somebody takes control.
    """

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.name = checked_name(name)
        self.namespace = lab.namespace(name)
        self.directory = lab.subdirectory(name)
        self.socket = self.directory / "db.sock"
        self.environment = {f"OVS_{kind}DIR": str(self.directory) for kind in ("RUN", "LOG", "DB", "SYSCONF")}
        self._numbers = iter(range(1, 1 << 16))
        self._processes: dict[str, subprocess.Popen[Any]] = {}
        self._create_database()
        self.start_ovsdb()
        self.vsctl(
            "--no-wait", "--", "init", "--", "set", "Open_vSwitch", ".", f"external_ids:hostname={name}",
            "other_config:n-handler-threads=1", "other_config:n-revalidator-threads=1",
        )  # fmt: skip
        self.start_vswitchd()
        self.vsctl("add-br", BRIDGE, "--", "set", "Bridge", BRIDGE, "datapath_type=netdev")

    @property
    def ovsdb(self) -> str:
        """The local switch database, as sgctl-manager's --ovsdb-connection takes it."""
        return f"unix:{self.socket}"

    def _create_database(self) -> None:
        self.namespace.run("ovsdb-tool", "create", self.directory / "conf.db", SCHEMA)

    def _daemon(self, program: str, *arguments: str | Path) -> None:
        """Start an Open vSwitch daemon as a plain child and wait for its control socket."""
        control = self.directory / f"{program}.ctl"
        control.unlink(missing_ok=True)
        log = self.directory / f"{program}.log"
        self._processes[program] = self.namespace.popen(
            program, "-vconsole:off", *arguments, f"--unixctl={control}", f"--log-file={log}", "--no-chdir",
            f"--pidfile={self.directory / program}.pid",
            env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(f"{self.name}: {program}", control.exists)

    def start_ovsdb(self) -> None:
        """Start the local ovsdb-server."""
        self._daemon("ovsdb-server", self.directory / "conf.db", f"--remote=punix:{self.socket}")

    def start_vswitchd(self) -> None:
        """Start ovs-vswitchd."""
        self._daemon("ovs-vswitchd", self.ovsdb)

    def _stop(self, program: str, *, kill: bool) -> None:
        process = self._processes.pop(program)
        if kill:
            process.kill()
        else:
            process.terminate()
        process.wait(timeout=PATIENCE)

    def stop_vswitchd(self, *, kill: bool = False) -> None:
        """End ovs-vswitchd, by SIGKILL if `kill`: flows and connections are gone."""
        self._stop("ovs-vswitchd", kill=kill)

    def stop_ovsdb(self, *, kill: bool = False) -> None:
        """End the local ovsdb-server."""
        self._stop("ovsdb-server", kill=kill)

    def restart_vswitchd(self, *, kill: bool = False) -> None:
        """Stop it and start it again."""
        self.stop_vswitchd(kill=kill)
        self.start_vswitchd()

    def vsctl(self, *arguments: str) -> str:
        """`ovs-vsctl` on this switch; it waits for ovs-vswitchd unless told --no-wait."""
        return self.namespace.run("ovs-vsctl", f"--db={self.ovsdb}", IN_TIME, *arguments, env=self.environment)

    def ofctl(self, *arguments: str, stdin: str = "") -> str:
        """`ovs-ofctl` (OpenFlow 1.4) on this switch."""
        return self.namespace.run(
            "ovs-ofctl", "-O", "OpenFlow10,OpenFlow14", IN_TIME, *arguments, stdin=stdin, env=self.environment
        )

    def appctl(self, *arguments: str) -> str:
        """`ovs-appctl` to ovs-vswitchd."""
        return self.namespace.run("ovs-appctl", IN_TIME, *arguments, env=self.environment)

    def set_flows(self, *flows: str) -> None:
        """Replace all flows of the bridge, which becomes secure, by these in ovs-ofctl's words."""
        self.vsctl("set-fail-mode", BRIDGE, "secure")
        self.ofctl("--bundle", "replace-flows", BRIDGE, "-", stdin="\n".join(flows) + "\n")

    def add_uplink(self, segment: Segment, device: str = "eth1") -> None:
        """Connect the bridge to a pod's segment by `device`, marked as an uplink."""
        segment.connect(self.namespace, device, quiet=True)
        self._add_port(device, {"sgctl-role": "uplink"})

    def plug(
        self, vm: VM, nic_id: str, mac: str, *, device: str = "eth0", external_ids: Mapping[str, str] | None = None
    ) -> str:
        """Give `vm` a network card: a veth pair whose host end is a port of the bridge; the port's name.

        external_ids are what libvirt writes (iface-id, attached-mac, iface-status), then `external_ids`; a value of ""
        leaves one out.
        """
        port = f"tap{next(self._numbers)}"
        wire(vm.namespace, device, self.namespace, port, mac=mac, far_quiet=True, hasty=True)
        written = {"iface-id": nic_id, "attached-mac": mac, "iface-status": "active", "vm-name": vm.name}
        self._add_port(port, {**written, **(external_ids or {})})
        be_patient(vm.namespace, device)
        return port

    def _add_port(self, port: str, external_ids: Mapping[str, str]) -> None:
        settings = [f'external_ids:{name}="{value}"' for name, value in external_ids.items() if value]
        self.vsctl("add-port", BRIDGE, port, "--", "set", "Interface", port, *settings)

    def unplug(self, port: str) -> None:
        """Take the port off the bridge and its network card out of the VM."""
        self.vsctl("--if-exists", "del-port", BRIDGE, port)
        self.namespace.ip(f"link del {port}")

    def ofport(self, port: str) -> int:
        """The OpenFlow number of a port, waited for."""

        def known() -> int:
            text = self.vsctl("get", "Interface", port, "ofport").strip()
            return int(text) if text.lstrip("-").isdigit() else 0

        return int(wait_for(f"{self.name}: ofport of {port}", known))

    def start_manager(
        self, *options: str, db: str | None = None, db_listen: str | None = None, api_host: str = "127.0.0.1",
        apps: Sequence[str] = (), ready: bool = True,
    ) -> Manager:  # fmt: skip
        """Run `sgctl-manager` for this switch, with an embedded database unless `db` names one.

        `options` are further command-line options; returns when it is ready, unless told not to wait.
        """
        chosen = {"--db": db, "--db-listen": db_listen, "--api-host": api_host, "--host": self.name}
        manager = Manager(
            self.lab, self.namespace, self.name,
            [f"--ovsdb-connection={self.ovsdb}", f"--bridge={BRIDGE}",
             *(f"{name}={value}" for name, value in chosen.items() if value), *options, *apps],
            environment=self.environment,
        )  # fmt: skip
        if ready:
            manager.wait_ready()
        return manager
