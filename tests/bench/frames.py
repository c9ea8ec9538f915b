# SPDX-License-Identifier: Apache-2.0
"""Real packets through the switch: a dummy port is a Unix socket; each frame follows its length in two bytes."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

_LENGTH = struct.Struct("!H")
INTERVAL = 0.01
GRACE = 0.2
"""Seconds that the last datagrams may take."""


class Wire:
    """One port's wire; `on_frame` is called, on a thread of the wire's own, with each frame that comes out of it."""

    def __init__(self, path: Path, on_frame: Callable[[bytes], None] = lambda _: None) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._on_frame = on_frame
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def send(self, frame: bytes) -> None:
        """Let a frame come in by the port."""
        self._socket.sendall(_LENGTH.pack(len(frame)) + frame)

    def close(self) -> None:
        """End it."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _receive(self) -> None:
        stream = self._socket.makefile("rb")
        while len(header := stream.read(_LENGTH.size)) == _LENGTH.size:
            self._on_frame(stream.read(_LENGTH.unpack(header)[0]))


class Datagrams:
    """The same frame every few milliseconds: from start to stop, counts what is sent and what arrives."""

    def __init__(self, sender: Path, receiver: Path, frame: bytes) -> None:
        self.sent = self.received = 0
        self.gap, self._last = 0.0, time.perf_counter()
        self._frame = frame
        self._wires = Wire(sender), Wire(receiver, self._note)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def stop(self) -> tuple[int, int, float]:
        """Datagrams sent and lost, and the longest gap between two that arrived (s)."""
        self._stopping.set()
        self._thread.join()
        time.sleep(GRACE)
        for wire in self._wires:
            wire.close()
        return self.sent, self.sent - self.received, self.gap

    def _send(self) -> None:
        while not self._stopping.wait(INTERVAL):
            self._wires[0].send(self._frame)
            self.sent += 1

    def _note(self, frame: bytes) -> None:
        if frame == self._frame:
            now = time.perf_counter()
            self.received += 1
            self.gap = max(self.gap, now - self._last) if self.received > 1 else 0.0
            self._last = now
