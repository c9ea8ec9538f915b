# SPDX-License-Identifier: Apache-2.0
"""Debian's keepalived in a VM, and configurations that give the cluster's addresses to one of its nodes."""

import os
import signal
import subprocess
from pathlib import Path

from devstack.lab.cloud import Machine
from tests.functional.cluster import CLUSTER, LENGTH
from tests.functional.promised import BOTH

ROUTERS = {4: 51, 6: 52}
"""The VRIDs."""
VIRTUAL_MACS = {4: f"00:00:5e:00:01:{ROUTERS[4]:02x}", 6: f"00:00:5e:00:02:{ROUTERS[6]:02x}"}
INTERVAL = 0.5
"""Seconds between two advertisements; who has missed three of them takes over. Usually it is a second."""
INSTANCE = """
vrrp_instance v{version} {{
    state BACKUP
    interface {device}
    virtual_router_id {router}
    priority {priority}
    version 3
    advert_int {interval}
    {how}
    virtual_ipaddress {{
        {address}/{length}
    }}
}}
"""
UNICAST = """unicast_src_ip {own}
    unicast_peer {{
        {peer}
    }}"""


class Keepalived:
    """The daemon in a VM, with a configuration for both address families."""

    def __init__(self, machine: Machine, config: str) -> None:
        self.machine = machine
        self._directory = machine.vm.directory
        self._config = self._directory / "keepalived.conf"
        self._config.write_text(config)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to take part."""
        pids = ("--pid", self._directory / "parent.pid", "--vrrp_pid", self._pid_file)
        log = (self._directory / "keepalived.log").open("ab")
        self._process = self.machine.vm.namespace.popen(
            "keepalived", "--dont-fork", "--log-console", "--vrrp", "--use-file", self._config, *pids,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip

    @property
    def _pid_file(self) -> Path:
        return self._directory / "vrrp.pid"

    def kill(self) -> None:
        """Let it die without a word, and its addresses with it, as if the VM had."""
        assert self._process is not None
        # The parent would start its child again, and a child without its parent would say good-bye.
        self._process.send_signal(signal.SIGSTOP)
        os.kill(int(self._pid_file.read_text()), signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._pid_file.unlink()
        for version, address in CLUSTER.items():
            device = self._device(version)
            if device == "eth0":
                self.machine.vm.namespace.ip(f"address del {address}/{LENGTH[version]} dev eth0")
        for name in self._virtual():
            self.machine.vm.namespace.ip(f"link del {name}")

    def _virtual(self) -> list[str]:
        shown = self.machine.vm.exec("ip", "-br", "link", "show", "type", "macvlan")
        return [line.split("@")[0] for line in shown.splitlines()]

    def _device(self, version: int) -> str:
        """Where the VM has the shared address of this family; nowhere: empty."""
        shown = self.machine.vm.exec("ip", "-o", f"-{version}", "address", "show")
        return next((line.split()[1] for line in shown.splitlines() if f" {CLUSTER[version]}/" in line), "")

    def has(self, version: int) -> bool:
        """Whether the VM has the shared address of this family now."""
        return bool(self._device(version))

    def stop(self) -> None:
        """End it."""
        end(self)

    def terminate(self) -> subprocess.Popen[bytes] | None:
        """Ask it to end; the process that takes its time for that."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
        return self._process


def end(*daemons: Keepalived) -> None:
    """End these at the same time: each takes a second to say good-bye."""
    for process in [one.terminate() for one in daemons]:
        if process is not None:
            process.wait()


def by_unicast(own: Machine, peer: Machine, priority: int, more: str = "") -> str:
    """Two nodes tell each other; who has the addresses has them with its NIC's MAC, unless `more` says otherwise."""
    return "".join(
        _instance(version, priority, more + UNICAST.format(own=own.vm.address(version), peer=peer.vm.address(version)))
        for version in BOTH
    )


def with_virtual_macs(priority: int, device: str = "eth0", *, interval: float = INTERVAL) -> str:
    """Any number of nodes, by multicast; who has the addresses has them with the virtual MACs."""
    return "".join(_instance(version, priority, "use_vmac", device, interval) for version in BOTH)


def _instance(version: int, priority: int, how: str, device: str = "eth0", interval: float = INTERVAL) -> str:
    """The part of a configuration that is about one address family."""
    return INSTANCE.format(
        version=version, router=ROUTERS[version], priority=priority, how=how, device=device,
        address=CLUSTER[version], length=LENGTH[version], interval=interval,
    )  # fmt: skip
