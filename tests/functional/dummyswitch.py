# SPDX-License-Identifier: Apache-2.0
"""A private Open vSwitch whose ports are files: frames go in by a control command and come out in pcap files.

It is OVS's own userspace datapath with real conntrack (``datapath_type=dummy``, as in OVS's test suite); it needs no
root and no namespaces, so hundreds of frames per second can be compared with what `flows.trace` says of them.
"""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flows import headers, text
from flows.fields import CT_STATES
from flows.flow import Flow
from flows.packet import Packet
from flows.trace import Walk

BRIDGE = "br0"
_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
_PATIENCE = 10.0
#: So many commands the main loop answers before it looks at its ports.
_COMMANDS_PER_ROUND = 10
_PCAP_HEADER, _RECORD_HEADER = 24, 16


class CommandFailed(Exception):
    """A control command was refused."""


class Control:
    """A daemon's control socket (JSON-RPC, as ovs-appctl speaks it)."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_PATIENCE)
        self._socket.connect(str(path))

    def __call__(self, command: str, *args: str) -> str:
        self._socket.sendall(json.dumps({"id": 0, "method": command, "params": args}).encode())
        answer = self._answer()
        if answer["error"] is not None:
            raise CommandFailed(f"{command} {' '.join(args)}: {answer['error']}")
        return str(answer["result"])

    def _answer(self) -> dict[str, Any]:
        data = b""
        while True:
            part = self._socket.recv(1 << 16)
            if not part:
                raise CommandFailed("the daemon has closed its control socket")
            data += part
            try:
                return dict(json.loads(data))
            except ValueError:
                continue

    def close(self) -> None:
        self._socket.close()


class DummySwitch:
    """A bridge with ports of these numbers."""

    def __init__(self, ports: Iterable[int]) -> None:
        self.ports = tuple(ports)
        self._dir = Path(tempfile.mkdtemp(prefix="dummyswitch-"))
        self._idents = 1
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._read: dict[int, int] = dict.fromkeys(self.ports, _PCAP_HEADER)
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        run = self._dir
        database = run / "conf.db"
        subprocess.run(["ovsdb-tool", "create", database, _SCHEMA], check=True, stderr=subprocess.DEVNULL)
        self._daemon("ovsdb-server", str(database), f"--remote=punix:{run}/db.sock", f"--unixctl={run}/db.ctl")
        self._vsctl("--no-wait", "init")
        dummy = ("--enable-dummy", "--disable-system")
        self._daemon("ovs-vswitchd", f"unix:{run}/db.sock", *dummy, f"--unixctl={run}/sw.ctl")
        add = ["add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=dummy", "fail-mode=secure"]
        for port in self.ports:
            add += ["--", "add-port", BRIDGE, f"p{port}", "--", "set", "interface", f"p{port}", "type=dummy"]
            add += [f"ofport_request={port}", f"options:tx_pcap={self._pcap(port)}"]
        self._vsctl(*add)
        self.control = Control(run / "sw.ctl")
        self._ofctl("set-frags", BRIDGE, "nx-match")

    def _daemon(self, name: str, *args: str) -> None:
        log = (self._dir / f"{name}.log").open("wb")
        command = [name, *args, f"--pidfile={self._dir}/{name}.pid"]
        env = {"OVS_RUNDIR": str(self._dir), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        self._daemons.append(subprocess.Popen(command, stdout=log, stderr=log, env=env, preexec_fn=_die_with_parent))
        log.close()
        pidfile, deadline = self._dir / f"{name}.pid", time.monotonic() + _PATIENCE
        while not pidfile.exists():
            if self._daemons[-1].poll() is not None or time.monotonic() > deadline:
                raise CommandFailed(f"{name}: {(self._dir / f'{name}.log').read_text()}")
            time.sleep(0.02)

    def _vsctl(self, *args: str) -> None:
        subprocess.run(["ovs-vsctl", f"--db=unix:{self._dir}/db.sock", *args], check=True, timeout=_PATIENCE)

    def _ofctl(self, command: str, bridge: str, *args: str, stdin: str = "") -> str:
        target = f"unix:{self._dir}/{bridge}.mgmt"
        done = subprocess.run(
            ["ovs-ofctl", "-O", "OpenFlow14", command, target, *args],
            input=stdin, capture_output=True, text=True, timeout=_PATIENCE, check=False,
        )  # fmt: skip
        if done.returncode:
            raise CommandFailed(f"{command}: {done.stderr}")
        return done.stdout

    def _pcap(self, port: int) -> Path:
        return self._dir / f"p{port}.pcap"

    def load(self, flows: Iterable[Flow]) -> None:
        """Hold these flows and no others, and know no connection."""
        self.replace(flows)
        self.control("dpctl/flush-conntrack")

    def replace(self, flows: Iterable[Flow]) -> None:
        """Hold these flows and no others; connections stay."""
        self._ofctl("replace-flows", BRIDGE, "-", stdin="\n".join(map(str, flows)) + "\n")

    def differences(self, flows: Path) -> str:
        """What ovs-ofctl finds different between the switch and a file of flows."""
        return self._ofctl("diff-flows", BRIDGE, str(flows))

    def send(self, frame: bytes, port: int) -> None:
        """Let a frame come in by a port. No cached datapath flow decides over it: learned flows count at once."""
        self.control("revalidator/purge")
        self.receive(frame, port)

    def receive(self, frame: bytes, port: int) -> None:
        """Let a frame come in by a port; a cached datapath flow may decide over it."""
        self.control("netdev-dummy/receive", f"p{port}", frame.hex())

    def sent(self) -> dict[int, list[bytes]]:
        """Frames that left by each port since the last call."""
        for _ in range(_COMMANDS_PER_ROUND + 1):
            self.control("version")
        return {port: frames for port in self.ports if (frames := self._new_frames(port))}

    def _new_frames(self, port: int) -> list[bytes]:
        data, at = self._pcap(port).read_bytes(), self._read[port]
        frames = []
        while at < len(data):
            size = struct.unpack_from("<I", data, at + 8)[0]
            at += _RECORD_HEADER
            frames.append(data[at : at + size])
            at += size
        self._read[port] = at
        return frames

    def trace(self, frame: bytes, port: int, *states: str) -> str:
        """What ofproto/trace says of a frame, with a conntrack state for each ct that it meets."""
        options = [word for state in states for word in ("--ct-next", state)]
        return self.control("ofproto/trace", *options, BRIDGE, f"in_port={port}", frame.hex())

    def fresh_idents(self, count: int) -> int:
        """The first of some numbers that no fragment has had yet: the switch keeps the others' pieces for a while."""
        self._idents += count
        return self._idents - count

    def close(self) -> None:
        """Stop the daemons and remove their directory."""
        if hasattr(self, "control"):
            self.control.close()
        for daemon in reversed(self._daemons):
            daemon.terminate()
            daemon.wait(_PATIENCE)
        shutil.rmtree(self._dir)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def sent_by(real: DummySwitch) -> list[tuple[int, str]]:
    """(port, fields) of the frames that left the switch, sorted."""
    return sorted((port, str(Packet.parse(frame))) for port, frames in real.sent().items() for frame in frames)


def sent_in(*walks: Walk) -> list[tuple[int, str]]:
    """The same of walks."""
    sent = ((one.port, one.headers & ~headers.METADATA) for walk in walks for one in walk.sent)
    return sorted((port, text.match(headers.unpack(value))) for port, value in sent)


Met = list[tuple[int, int | None]]


def traced_by(real: DummySwitch, packet: Packet, port: int, walk: Walk) -> Met:
    """(table, priority of the flow) in the order of ofproto/trace, if conntrack says what it says in the walk."""
    flags = ((name for name, bit in CT_STATES.items() if step.state & bit) for step in walk.steps if step.resumed)
    trace = real.trace(packet.frame, port, *map(",".join, flags))
    found = re.findall(r"^ *(\d+)\. (?:.*?priority (\d+)|.*)", trace, re.MULTILINE)
    return [(int(table), int(priority) if priority else None) for table, priority in found]


def traced_in(walk: Walk) -> Met:
    """The same of a walk."""
    return [(step.table, step.flow.priority if step.flow else None) for step in walk.steps]
