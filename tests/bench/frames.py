# SPDX-License-Identifier: Apache-2.0
"""Real packets through the switch: a datagram every few milliseconds from one dummy port to another.

A dummy port is a Unix socket on which each frame follows its length in two bytes.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

_LENGTH = struct.Struct("!H")
INTERVAL = 0.01


@dataclass(frozen=True, slots=True)
class Guest:
    """One end: a socket that is the port's wire, and the NIC's addresses."""

    path: Path
    mac: str
    address: str


class Datagrams:
    """From start to stop, counts what is sent and what arrives."""

    def __init__(self, sender: Guest, receiver: Guest, port: int) -> None:
        self._frame = Ether(src=sender.mac, dst=receiver.mac) / IP(src=sender.address, dst=receiver.address)
        self._frame /= UDP(sport=4000, dport=port)
        self._ends = [self._connect(one.path) for one in (sender, receiver)]
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._send, self._receive)]
        self.sent = self.received = 0
        self.gap, self._last = 0.0, time.perf_counter()
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _connect(path: Path) -> socket.socket:
        end = socket.socket(socket.AF_UNIX)
        end.connect(str(path))
        return end

    def stop(self) -> tuple[int, int, float]:
        """Datagrams sent and lost, and the longest gap between two that arrived (s)."""
        self._stopping.set()
        self._threads[0].join()
        time.sleep(0.2)
        for end in self._ends:
            end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._threads[1].join()
        return self.sent, self.sent - self.received, self.gap

    def _send(self) -> None:
        while not self._stopping.wait(INTERVAL):
            data = bytes(self._frame / Raw(_LENGTH.pack(self.sent % 65536).ljust(20, b"\0")))
            self._ends[0].sendall(_LENGTH.pack(len(data)) + data)
            self.sent += 1

    def _receive(self) -> None:
        try:
            stream = self._ends[1].makefile("rb")
            while header := stream.read(_LENGTH.size):
                frame = stream.read(_LENGTH.unpack(header)[0])
                if self._frame[Ether].src.replace(":", "") == frame[6:12].hex():
                    self._note()
        except OSError:
            return

    def _note(self) -> None:
        now = time.perf_counter()
        self.received += 1
        self.gap = max(self.gap, now - self._last) if self.received > 1 else 0.0
        self._last = now
