# SPDX-License-Identifier: Apache-2.0
"""What the switch itself says about changes of its flows, as it commits them (Nicira's flow monitor, OpenFlow 1.0).

`ovs-ofctl monitor watch:` does the same; read here as bytes, it costs the benchmark almost nothing.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import Counter
from pathlib import Path

_HELLO, _ERROR, _ECHO_REQUEST, _ECHO_REPLY, _STATS_REQUEST, _STATS_REPLY = 0, 1, 2, 3, 16, 17
_HEADER = struct.Struct("!BBHI")
_STATS = struct.Struct("!HHII4x")
_REQUEST = struct.Struct("!IHHHB5x")
_VENDOR, _NICIRA, _FLOW_MONITOR = 0xFFFF, 0x2320, 2
_ADDS_DELETES_MODIFIES, _NO_PORT, _ALL_TABLES = 2 | 4 | 8, 0xFFFF, 0xFF
_KINDS = ("added", "deleted", "modified")


class FlowWatch:
    """A connection to one bridge. `counts` and `last` (perf_counter) are about what came since `reset`; of one table or
    of all."""

    def __init__(self, management: Path, *, table: int = _ALL_TABLES) -> None:
        self.counts: Counter[str] = Counter()
        self.last = 0.0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(management))
        self._ready, self._answered = threading.Event(), threading.Event()
        self._send(_HELLO)
        request = _STATS.pack(_VENDOR, 0, _NICIRA, _FLOW_MONITOR)
        self._send(_STATS_REQUEST, request + _REQUEST.pack(1, _ADDS_DELETES_MODIFIES, _NO_PORT, 0, table))
        threading.Thread(target=self._read, daemon=True).start()
        if not self._ready.wait(5):
            raise RuntimeError("the switch does not monitor flows")

    def reset(self) -> None:
        """Forget what was seen."""
        self.counts.clear()
        self.last = 0.0

    def settle(self, quiet: float, *, timeout: float, expected: bool = True) -> None:
        """Wait until flows have changed (if that is `expected`) and then no more for `quiet` seconds."""
        end = time.perf_counter() + timeout
        while (expected and not self.last) or time.perf_counter() - self.last < quiet:
            if time.perf_counter() > end:
                raise TimeoutError(f"the switch's flows have not settled: {dict(self.counts)}")
            time.sleep(quiet / 10)

    def ask(self) -> float:
        """How many seconds the switch takes to answer an echo request."""
        self._answered.clear()
        started = time.perf_counter()
        self._send(_ECHO_REQUEST)
        if not self._answered.wait(5):
            raise TimeoutError("the switch does not answer")
        return time.perf_counter() - started

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def _send(self, kind: int, body: bytes = b"", xid: int = 1) -> None:
        self._socket.sendall(_HEADER.pack(1, kind, _HEADER.size + len(body), xid) + body)

    def _read(self) -> None:
        stream = self._socket.makefile("rb")
        while len(header := stream.read(_HEADER.size)) == _HEADER.size:
            _, kind, length, xid = _HEADER.unpack(header)
            body = stream.read(length - _HEADER.size)
            if kind == _ECHO_REQUEST:
                self._send(_ECHO_REPLY, body, xid)
            elif kind == _ECHO_REPLY:
                self._answered.set()
            elif kind == _STATS_REPLY:
                self._take(body[_STATS.size :])
                self._ready.set()

    def _take(self, updates: bytes) -> None:
        if updates:
            self.last = time.perf_counter()
        while updates:
            length, event = struct.unpack_from("!HH", updates)
            self.counts[_KINDS[event] if event < len(_KINDS) else "other"] += 1
            updates = updates[length:]
