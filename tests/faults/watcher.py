# SPDX-License-Identifier: Apache-2.0
"""Watches what hypervisors deliver to one NIC; a script of its own, in the namespace where all its wires end.

``watcher.py MAC MARK``: for each line on standard input, one of JSON on standard output, of the time since the last:
``legs`` by the name of a wire the number of frames for the NIC and the times (monotonic) of the first and the last,
``marked`` frames with a mark by wire and mark, ``twice`` frames that came by two wires, ``samples`` the last by each.
"""

import json
import select
import socket
import sys
import time
from collections import OrderedDict, defaultdict
from typing import Any

ALL, OUTGOING = 3, socket.PACKET_OUTGOING
REMEMBERED = 20_000
"""So many frames are compared with what comes by other wires."""
UDP, ICMP, ICMPV6 = 17, 1, 58
MARK_END = 3


def single(frame: bytes) -> bool:
    """Whether it is a datagram or ping: TCP sends the same again."""
    kind = frame[12:14]
    proto = frame[23] if kind == b"\x08\x00" else frame[20] if kind == b"\x86\xdd" else -1
    return proto in (UDP, ICMP, ICMPV6) and not (proto == ICMPV6 and frame[54] >= 130)


class Watcher:
    """Counts."""

    def __init__(self, mac: bytes, mark: bytes) -> None:
        self.mac, self.mark = mac, mark
        self.seen: OrderedDict[bytes, str] = OrderedDict()
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.setblocking(False)
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.legs: dict[str, list[float]] = {}
        self.marked: dict[str, int] = defaultdict(int)
        self.twice: list[str] = []
        self.samples: dict[str, str] = {}

    def drain(self) -> None:
        """Take what has arrived."""
        while True:
            try:
                frame, address = self.socket.recvfrom(65535)
            except BlockingIOError:
                return
            if address[2] != OUTGOING and address[0].startswith("hv") and frame[:6] == self.mac:
                self.take(address[0], frame)

    def take(self, leg: str, frame: bytes) -> None:
        """A frame for the NIC has come by a wire."""
        now = time.monotonic()
        count, first, _ = self.legs.get(leg, (0, now, now))
        self.legs[leg] = [count + 1, first, now]
        self.samples[leg] = frame[:96].hex()
        at = frame.rfind(self.mark)
        if at >= 0:
            self.marked[f"{leg} {frame[at + len(self.mark) :][:MARK_END].decode()}"] += 1
        elif single(frame):
            if self.seen.setdefault(frame, leg) != leg:
                self.twice.append(f"{self.seen[frame]}+{leg} {frame[:64].hex()}")
            if len(self.seen) > REMEMBERED:
                self.seen.popitem(last=False)

    def report(self) -> dict[str, Any]:
        """What has come since the last time."""
        self.drain()
        found = {"legs": self.legs, "marked": self.marked, "twice": self.twice, "samples": self.samples}
        self.clear()
        return found


def main() -> None:
    """Until standard input ends."""
    watcher = Watcher(bytes.fromhex(sys.argv[1].replace(":", "")), sys.argv[2].encode())
    print("{}", flush=True)
    while True:
        ready, _, _ = select.select([sys.stdin, watcher.socket], [], [])
        if watcher.socket in ready:
            watcher.drain()
        if sys.stdin in ready:
            if not sys.stdin.readline():
                return
            print(json.dumps(watcher.report()), flush=True)


if __name__ == "__main__":
    main()
