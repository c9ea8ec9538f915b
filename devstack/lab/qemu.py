# SPDX-License-Identifier: Apache-2.0
"""A real guest: QEMU without KVM, Debian's kernel, and an initramfs of a static busybox and one script.

Its tap is plugged in and it is live-migrated as libvirt does it: the destination's QEMU and port are there first, the
state is sent, and QEMU announces the guest where it goes on.
"""

import json
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devstack.lab.hypervisor import BRIDGE, Hypervisor
from devstack.lab.namespace import ROOT, Lab, checked_name, wait_for

KERNEL = ROOT / ".venv" / "guest"
"""Where `devstack/guest-kernel.sh` puts the kernel and its modules."""
MEMORY = 96
"""MiB of a guest."""
INIT = """#!/bin/sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod $module; done
for word in $(cat /proc/cmdline); do
    case $word in
        address=*) address=${word#address=} ;;
        server=*) server=${word#server=} ;;
    esac
done
ip link set lo up
ip link set eth0 up
ip address add $address dev eth0
echo "READY $address"
if [ -n "$server" ]; then
    count() { n=0; while true; do n=$((n + 1)); echo $n; usleep 50000; done; }
    count | nc $server 5000 | while read line; do echo "BACK $line"; done
    echo "ENDED"
else
    nc -ll -p 5000 -e cat &
fi
while true; do sleep 1000; done
"""


def initramfs(directory: Path) -> Path:
    """The root file system of all guests, as a compressed cpio archive."""
    root = directory / "root"
    for name in ("bin", "proc", "sys", "dev", "modules"):
        (root / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, root / "bin" / "busybox")
    for module in sorted(KERNEL.glob("*.ko")):
        shutil.copy(module, root / "modules")
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    (root / "bin" / "sh").symlink_to("busybox")
    archive = directory / "initramfs.gz"
    names = "\n".join(str(path.relative_to(root)) for path in [root, *root.rglob("*")])
    pack = ["cpio", "--quiet", "-o", "-H", "newc"]
    packed = subprocess.run(pack, cwd=root, input=names.encode(), capture_output=True, check=True).stdout
    archive.write_bytes(subprocess.run(["gzip", "-1"], input=packed, capture_output=True, check=True).stdout)
    return archive


class Process:
    """One QEMU: on one hypervisor, with its tap."""

    def __init__(self, guest: "QemuGuest", hypervisor: Hypervisor, number: int, *, incoming: bool) -> None:
        self.hypervisor = hypervisor
        self.port = f"{guest.name[:8]}q{number}"
        self.console = guest.directory / f"console{number}"
        self._qmp = guest.directory / f"qmp{number}"
        hypervisor.namespace.ip(f"tuntap add {self.port} mode tap")
        hypervisor.namespace.sysctl(f"net.ipv6.conf.{self.port}.disable_ipv6", 1)
        hypervisor.namespace.ip(f"link set {self.port} up")
        written = {"iface-id": guest.nic, "attached-mac": guest.mac, "iface-status": "active", "vm-name": guest.name}
        hypervisor.vsctl(
            "add-port", BRIDGE, self.port, "--", "set", "Interface", self.port,
            *(f'external_ids:{name}="{value}"' for name, value in written.items()),
        )  # fmt: skip
        words = " ".join(["console=ttyS0", "quiet", *(f"{name}={value}" for name, value in guest.words.items())])
        self.process = hypervisor.namespace.popen(
            "qemu-system-x86_64", "-machine", "pc,accel=tcg", "-cpu", "qemu64", "-m", str(MEMORY), "-smp", "1",
            "-nodefaults", "-no-user-config", "-display", "none",
            "-kernel", KERNEL / "vmlinuz", "-initrd", guest.image, "-append", words,
            "-netdev", f"tap,id=net0,ifname={self.port},script=no,downscript=no,vnet_hdr=off",
            "-device", f"virtio-net-pci,netdev=net0,mac={guest.mac},romfile=",
            "-serial", f"file:{self.console}", "-qmp", f"unix:{self._qmp},server=on,wait=off",
            *(["-incoming", "defer"] if incoming else []),
            stdin=subprocess.DEVNULL, stdout=(guest.directory / f"log{number}").open("w"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        wait_for(f"{guest.name}: QEMU's monitor", self._qmp.exists, timeout=30)

    def command(self, name: str, **arguments: Any) -> Any:
        """The result of a command of QEMU's monitor (QMP)."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(30)
            monitor.connect(str(self._qmp))
            lines = monitor.makefile("rw")
            lines.readline()
            for request in ({"execute": "qmp_capabilities"}, {"execute": name, "arguments": arguments}):
                lines.write(json.dumps(request) + "\n")
                lines.flush()
                answer = _answer(lines)
            return answer

    def lines(self) -> list[str]:
        """What the guest has said on its console here."""
        return self.console.read_text(errors="replace").splitlines() if self.console.exists() else []

    def close(self) -> None:
        """End QEMU, and remove its port as libvirt does."""
        self.process.kill()
        self.process.wait()
        self.hypervisor.vsctl("--if-exists", "del-port", BRIDGE, self.port)
        self.hypervisor.namespace.ip(f"link del {self.port}")


def _answer(lines: Any) -> Any:
    """The next line that is not an event."""
    while True:
        found = json.loads(lines.readline())
        if "error" in found:
            raise RuntimeError(found["error"]["desc"])
        if "return" in found:
            return found["return"]


class QemuGuest:
    """A guest with one network card; `words` are for its script: ``address=…`` and, for a client, ``server=…``."""

    def __init__(
        self, lab: Lab, name: str, nic: str, mac: str, image: Path, hypervisor: Hypervisor, words: Mapping[str, str]
    ) -> None:
        self.name = checked_name(name)
        self.nic, self.mac, self.image, self.words = nic, mac, image, dict(words)
        self.directory = lab.subdirectory(name)
        self._made = 0
        self.processes: list[Process] = []
        self.start(hypervisor)

    @property
    def process(self) -> Process:
        """The QEMU that runs it."""
        return self.processes[-1]

    def start(self, hypervisor: Hypervisor, *, incoming: bool = False) -> Process:
        """Another QEMU for the guest, which boots it or waits for its state."""
        self._made += 1
        process = Process(self, hypervisor, self._made, incoming=incoming)
        self.processes.append(process)
        return process

    def lines(self) -> list[str]:
        """What it has said on its console, wherever it was."""
        return [line for process in self.processes for line in process.lines()]

    def wait_ready(self, *, timeout: float = 120) -> None:
        """Wait until it has booted."""

        def booted() -> bool:
            assert self.process.process.poll() is None, f"{self.name}: QEMU has ended"
            return any(line.startswith("READY") for line in self.lines())

        wait_for(f"{self.name} has booted", booted, timeout=timeout, step=0.1)

    def prepare(self, hypervisor: Hypervisor) -> Process:
        """The destination of a migration: its QEMU and its port, which wait."""
        source, target = self.process, self.start(hypervisor, incoming=True)
        self.processes = [one for one in self.processes if one is not target] + [target]
        target.command("migrate-incoming", uri=f"unix:{self.directory}/state{self._made}")
        self._source = source
        return target

    def migrate(self, *, timeout: float = 60) -> None:
        """Send the guest's state to the destination that is prepared; it goes on there."""
        source = self._source
        source.command("migrate", uri=f"unix:{self.directory}/state{self._made}")

        def completed() -> bool:
            status = source.command("query-migrate").get("status")
            assert status != "failed", f"{self.name}: the migration has failed"
            return bool(status == "completed")

        wait_for(f"{self.name}: migration", completed, timeout=timeout)
