# SPDX-License-Identifier: Apache-2.0
"""A private Open vSwitch whose ports are files: frames go in by a control command and come out in pcap files.

It is OVS's own userspace datapath with real conntrack (``datapath_type=dummy``, as in OVS's test suite); it needs no
root and no namespaces, so hundreds of frames per second can be compared with what `flows.trace` says of them.
"""

from __future__ import annotations

import json
import re
import socket
import struct
from codecs import getincrementaldecoder
from collections.abc import Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from flows import headers, text
from flows.fields import CT_STATES
from flows.flow import Flow
from flows.learned import LEARNED
from flows.packet import Packet
from flows.tables import TABLES
from flows.trace import Walk
from tests.functional.vswitch_sandbox import Sandbox

BRIDGE = "br0"
PREFIXES = {table.id: table.prefixes for table in TABLES if table.prefixes}
"""As the agent sets them."""
_PATIENCE = 30.0
_IDLE = 600_000
"""Milliseconds that decisions stay cached, however long a slow machine takes for many packets."""
_JSON = json.JSONDecoder()
#: So many commands the main loop answers before it takes one frame from each port.
_COMMANDS_PER_ROUND = 10
_PCAP_HEADER, _RECORD_HEADER = 24, 16


class CommandFailed(Exception):
    """A control command was refused."""


def _request(command: str, *args: str) -> bytes:
    return json.dumps({"id": 0, "method": command, "params": args}).encode()


class Control:
    """A daemon's control socket (JSON-RPC, as ovs-appctl speaks it)."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_PATIENCE)
        self._socket.connect(str(path))
        self._decoder = getincrementaldecoder("utf-8")()
        self._said = ""

    def __call__(self, command: str, *args: str) -> str:
        self._socket.sendall(_request(command, *args))
        answer = self._answer()
        if answer["error"] is not None:
            raise CommandFailed(f"{command} {' '.join(args)}: {answer['error']}")
        return str(answer["result"])

    def rounds(self, count: int) -> None:
        """Let the daemon's main loop go round at least so many times."""
        for _ in range(count):
            self._socket.sendall(_request("version") * (_COMMANDS_PER_ROUND + 1))
            for _ in range(_COMMANDS_PER_ROUND + 1):
                self._answer()

    def _answer(self) -> dict[str, Any]:
        while True:
            try:
                answer, end = _JSON.raw_decode(self._said)
            except ValueError:
                self._listen()
                continue
            self._said = self._said[end:].lstrip()
            return dict(answer)

    def _listen(self) -> None:
        part = self._socket.recv(1 << 16)
        if not part:
            raise CommandFailed("the daemon has closed its control socket")
        self._said += self._decoder.decode(part)

    def close(self) -> None:
        self._socket.close()


class DummySwitch:
    """A bridge with ports of these numbers."""

    def __init__(self, ports: Iterable[int]) -> None:
        self.ports = tuple(ports)
        self._idents = 1
        self._received = 0
        self._meters: set[str] = set()
        self._held: tuple[Flow, ...] = ()
        self._read: dict[int, int] = dict.fromkeys(self.ports, _PCAP_HEADER)
        with ExitStack() as stack:
            self._sandbox = stack.enter_context(Sandbox())
            self._add_bridge()
            self.control = stack.enter_context(closing(Control(self._sandbox.directory / "ovs-vswitchd.ctl")))
            self._sandbox.ofctl("set-frags", BRIDGE, "nx-match")
            self._stack = stack.pop_all()

    @property
    def rundir(self) -> Path:
        """Where ovs-vswitchd's control socket is."""
        return self._sandbox.directory

    def _add_bridge(self) -> None:
        add = ["set", "Open_vSwitch", ".", f"other_config:max-idle={_IDLE}"]
        add += ["--", "add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=dummy", "fail-mode=secure"]
        for port in self.ports:
            add += ["--", "add-port", BRIDGE, f"p{port}", "--", "set", "interface", f"p{port}", "type=dummy"]
            add += [f"ofport_request={port}", f"options:tx_pcap={self._pcap(port)}"]
        self._sandbox.run("ovs-vsctl", f"--db={self._sandbox.connection}", *add)
        self._sandbox.set_prefixes(BRIDGE, PREFIXES)

    def _pcap(self, port: int) -> Path:
        return self._sandbox.directory / f"p{port}.pcap"

    def load(self, flows: Iterable[Flow]) -> None:
        """Hold these flows and no others, and know no connection."""
        self.replace(flows)
        self.control("dpctl/flush-conntrack")

    def replace(self, flows: Iterable[Flow]) -> None:
        """Hold these flows and no others; connections stay. Meters that they name exist, and drop nothing.

        What is held already is not sent again: then only learned flows are too many.
        """
        wanted = tuple(flows)
        if wanted == self._held:
            self._sandbox.ofctl("del-flows", BRIDGE, f"cookie={LEARNED:#x}/{LEARNED:#x}")
            return
        self._held = wanted
        lines = "".join(f"{flow}\n" for flow in wanted)
        for number in set(re.findall(r"\bmeter:(\d+)", lines)) - self._meters:
            self._sandbox.ofctl("add-meter", BRIDGE, f"meter={number} pktps bands=type=drop rate=1000000")
            self._meters.add(number)
        self._sandbox.ofctl("replace-flows", BRIDGE, "--bundle", "-", text=lines)

    def differences(self, flows: Path) -> list[str]:
        """What is different between the switch and a file of flows."""
        return self._sandbox.differences(BRIDGE, flows)

    def send(self, frame: bytes, port: int) -> None:
        """Let a frame come in by a port. No cached datapath flow decides over it: learned flows count at once."""
        self.control("revalidator/purge")
        self.receive(frame, port)

    def receive(self, frame: bytes, port: int) -> None:
        """Let a frame come in by a port; a cached datapath flow may decide over it."""
        self.control("netdev-dummy/receive", f"p{port}", frame.hex())
        self._received += 1

    def sent(self) -> dict[int, list[bytes]]:
        """Frames that left by each port since the last call."""
        self.control.rounds(self._received)
        self._received = 0
        return {port: frames for port in self.ports if (frames := self._new_frames(port))}

    def _new_frames(self, port: int) -> list[bytes]:
        with self._pcap(port).open("rb") as file:
            file.seek(self._read[port])
            data = file.read()
        self._read[port] += len(data)
        frames, at = [], 0
        while at < len(data):
            size = struct.unpack_from("<I", data, at + 8)[0]
            at += _RECORD_HEADER
            frames.append(data[at : at + size])
            at += size
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
        self._stack.close()


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
