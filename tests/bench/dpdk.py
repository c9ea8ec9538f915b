# SPDX-License-Identifier: Apache-2.0
"""Open vSwitch's userspace datapath on one core, fed by DPDK's pcap devices: packets cost it nothing but its own work.

A port reads its frames from a file, for ever (they lie in memory) or once. Needs Debian's DPDK build of Open vSwitch,
which is unpacked into a directory and not installed; neither huge pages nor a network card.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.tables import TABLES
from tests.functional.vswitch_sandbox import Sandbox, answers, eventually

PACKAGES = (
    "openvswitch-switch-dpdk", "libfdt1", "libpcap0.8",
    *(f"librte-{name}23" for name in (
        "bus-pci", "bus-vdev", "cryptodev", "dmadev", "eal", "ethdev", "hash", "kvargs", "mbuf", "mempool",
        "mempool-ring", "meter", "net", "net-pcap", "pci", "rcu", "ring", "telemetry", "vhost",
    )),
)  # fmt: skip
PROGRAM = "usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
PLUGINS = ("bus_vdev", "mempool_ring", "net_pcap")
BRIDGE = "br-rate"
MEMORY = 2048
"""MiB for packets, not in huge pages."""


def fetch(root: Path) -> None:
    """Download the DPDK build with apt-get and unpack it below `root`."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["apt-get", "download", "-qq", *PACKAGES], cwd=directory, check=True)
        for package in Path(directory).glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(root)], check=True)


@dataclass(frozen=True, slots=True)
class Load:
    """What one core did in a while.

    received, sent: packets.  cycles: processor cycles per packet, idle ones left out.  upcalls: packets that no cached
    flow matched.
    """

    received: int
    cycles: float
    upcalls: int
    sent: int


class DpdkSwitch(Sandbox):
    """One bridge, whose packets one core handles; the others are for everybody else."""

    def __init__(self, root: Path, core: int = 1) -> None:
        super().__init__()
        self._root, self._core = root, core

    def start_switch(self) -> None:
        """Start the DPDK build, and add the bridge."""
        plugins = " ".join(f"-d librte_{name}.so.23" for name in PLUGINS)
        options = {
            "dpdk-init": "true",
            "dpdk-extra": f"--no-huge --legacy-mem -m {MEMORY} --no-pci --no-telemetry {plugins}"
            f" --file-prefix={self.directory.name}",
            "per-port-memory": "true",
            "pmd-cpu-mask": f"{1 << self._core:x}",
            "dpdk-lcore-mask": f"{1 << (0 if self._core else 1):x}",
        }
        self.vsctl("set", "Open_vSwitch", ".", *(f'other_config:{name}="{value}"' for name, value in options.items()))
        control, stem = self.directory / "ovs-vswitchd.ctl", f"{self.directory}/ovs-vswitchd"
        self.daemons["ovs-vswitchd"] = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", str(self._root / PROGRAM), f"unix:{self.socket}", "--enable-dummy",
             "--disable-system", f"--unixctl={control}", f"--pidfile={stem}.pid", f"--log-file={stem}.log",
             "--no-chdir", "-vconsole:off"],
            env=self.env | {"LD_LIBRARY_PATH": str(self._root / LIBRARIES), "XDG_RUNTIME_DIR": str(self.directory)},
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        eventually(lambda: answers(control), 30)
        self.add_bridge(BRIDGE)
        self.set_prefixes(BRIDGE, {table.id: table.prefixes for table in TABLES if table.prefixes})

    def load(self, flows: Iterable[str], meters: Iterable[str] = ()) -> None:
        """Hold these flows and meters, ovs-ofctl lines, and nothing else; forget all connections."""
        self.ofctl("del-flows", BRIDGE)
        self.ofctl("del-meters", BRIDGE)
        for meter in meters:
            self.ofctl("add-meter", BRIDGE, meter)
        self.ofctl("add-flows", BRIDGE, "--bundle", "-", text="".join(f"{flow}\n" for flow in flows))
        self.forget()

    def forget(self) -> None:
        """Forget connections and cached flows."""
        self.appctl("dpctl/flush-conntrack")
        self.appctl("revalidator/purge")

    @contextmanager
    def ports(self, frames: dict[int, Sequence[bytes]], *, once: bool = False) -> Iterator[None]:
        """Ports by their OpenFlow numbers, with the frames that come in by each, for ever or once."""
        for number in frames:
            self._port("add-port", BRIDGE, f"p{number}", "--", "set", "Interface", f"p{number}", "type=dpdk",
                       f"ofport_request={number}", self._device(number, "idle", [], once=True))  # fmt: skip
        try:
            # A port's packets count from when the switch knows the port.
            self.appctl("dpif-netdev/pmd-stats-clear")
            for number, some in frames.items():
                if some:
                    self._port("set", "Interface", f"p{number}", self._device(number, "busy", some, once=once))
            yield
        finally:
            for number in frames:
                self._port("del-port", BRIDGE, f"p{number}")

    def _port(self, *command: str) -> None:
        self.run("ovs-vsctl", f"--db={self.connection}", *command)

    def _device(self, number: int, name: str, frames: Sequence[bytes], *, once: bool) -> str:
        path = self.directory / f"{number}.{name}"
        write(path, frames)
        return f"options:dpdk-devargs=net_pcap_{name}{number},rx_pcap={path}" + ("" if once else ",infinite_rx=1")

    def measure(self, seconds: float) -> Load:
        """What the core does from now on."""
        self.appctl("dpif-netdev/pmd-stats-clear")
        before = self._sent()
        time.sleep(seconds)
        return self.so_far(before)

    def so_far(self, before: dict[str, int] | None = None) -> Load:
        """What the core has done since its first port was added, or its counters were cleared."""
        text = self.appctl("dpif-netdev/pmd-stats-show").partition("main thread")[0]
        received, busy = int(_number(text, "packets received")), _number(text, "processing cycles")
        sent = sum(self._sent().values()) - sum((before or {}).values())
        upcalls = int(_number(text, "miss with success upcall"))
        return Load(received, busy / received if received else 0.0, upcalls, sent)

    def hertz(self) -> float:
        """Cycles per second."""
        with self.ports({1: [bytes(60)]}, once=True):
            time.sleep(0.2)
            self.appctl("dpif-netdev/pmd-stats-clear")
            started = time.perf_counter()
            time.sleep(1)
            text = self.appctl("dpif-netdev/pmd-stats-show").partition("main thread")[0]
            seconds = time.perf_counter() - started
        return (_number(text, "idle cycles") + _number(text, "processing cycles")) / seconds

    def megaflows(self) -> list[str]:
        """The cached flows."""
        return [line for line in self.appctl("dpctl/dump-flows").splitlines() if "packets:" in line]

    def connections(self) -> int:
        """How many conntrack knows."""
        return int(self.appctl("dpctl/ct-get-nconns"))

    def _sent(self) -> dict[str, int]:
        text = self.appctl("dpctl/show", "-s")
        return {port: int(count) for port, count in re.findall(r": (p\d+) \(.*?TX packets:(\d+)", text, re.DOTALL)}


def _number(text: str, name: str) -> float:
    found = re.search(rf"{re.escape(name)}: ([\d.]+)", text)
    return float(found[1]) if found else 0.0


def write(path: Path, frames: Iterable[bytes]) -> None:
    """A pcap file."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for frame in frames:
            file.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)


def default_root() -> Path:
    """Where the DPDK build is, if nobody says otherwise."""
    return Path(os.environ.get("SGCTL_DPDK", Path.home() / ".cache" / "sgctl-dpdk"))
