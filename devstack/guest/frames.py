# SPDX-License-Identifier: Apache-2.0
"""Raw frames: sent again and again, and what arrives."""

import asyncio
import socket
import struct

PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC, PACKET_AUXDATA, SOL_PACKET = 1, 1, 8, 263
"""Of packet(7), which the socket module does not name."""
TP_STATUS_VLAN_VALID = 0x10
MAX_FRAMES = 20_000
"""A sniffer keeps this many frames; it goes on counting."""


class Repeater:
    """Sends the same raw frames again and again, whatever becomes of the device meanwhile."""

    def __init__(self, device: str, frames: list[bytes], interval: float) -> None:
        self.sent = 0
        self.failed = 0
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.socket.bind((device, 0))
        self.task = asyncio.create_task(self._repeat(frames, interval))

    async def _repeat(self, frames: list[bytes], interval: float) -> None:
        while True:
            for frame in frames:
                try:
                    self.socket.send(frame)
                    self.sent += 1
                except OSError:
                    self.failed += 1
            await asyncio.sleep(interval)

    def close(self) -> None:
        """Stop sending."""
        self.task.cancel()
        self.socket.close()


class Sniffer:
    """Keeps the frames that arrive at `device` (none that leave it) and hold `only`, VLAN tags restored."""

    def __init__(self, device: str, promiscuous: bool, only: bytes) -> None:
        self.only = only
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind((device, 3))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        if promiscuous:
            request = struct.pack("iHH8s", socket.if_nametoindex(device), PACKET_MR_PROMISC, 0, b"")
            self.socket.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
        self.frames: list[bytes] = []
        self.total = 0
        asyncio.get_running_loop().add_reader(self.socket, self.drain)

    def drain(self) -> None:
        """Take what has arrived."""
        while True:
            try:
                frame, notes, _, address = self.socket.recvmsg(65535, 256)
            except BlockingIOError:
                return
            if address[2] != socket.PACKET_OUTGOING and self.only in frame:
                self.total += 1
                if len(self.frames) < MAX_FRAMES:
                    self.frames.append(self._tagged(frame, notes))

    @staticmethod
    def _tagged(frame: bytes, notes: list[tuple[int, int, bytes]]) -> bytes:
        """`frame` with the VLAN tag that the kernel has put into the notes."""
        for level, kind, data in notes:
            if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", data[:20])
                if status & TP_STATUS_VLAN_VALID:
                    return frame[:12] + struct.pack("!HH", tpid or 0x8100, tci) + frame[12:]
        return frame

    def close(self) -> None:
        """Stop listening."""
        asyncio.get_running_loop().remove_reader(self.socket)
        self.socket.close()
