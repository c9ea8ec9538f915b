# SPDX-License-Identifier: Apache-2.0
"""Sockets that ask and wait for the echo, once or again and again, and the servers that send it back."""

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable
from typing import Any

ECHO_HEADER = struct.Struct("!BBHHH")
"""An ICMP echo's type, code, checksum, identifier and sequence number (RFC 792)."""


def family_of(address: str) -> socket.AddressFamily:
    """AF_INET6 if `address` looks like IPv6, else AF_INET."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Conversation:
    """A connected socket that sends a payload and waits for its echo: TCP, UDP or ping (whose id stays the same)."""

    def __init__(self, proto: str, address: str, port: int, source_port: int = 0) -> None:
        family = family_of(address)
        self.proto = proto
        if proto == "icmp":
            kind, number = socket.SOCK_DGRAM, socket.IPPROTO_ICMP
            number = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else number
            self.request = 128 if family == socket.AF_INET6 else 8
        else:
            kind, number = (socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM), 0
        self.target = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0][4]
        self.socket = socket.socket(family, kind, number)
        self.socket.setblocking(False)
        if proto == "tcp":
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source_port:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(("", source_port))

    async def connect(self) -> None:
        """Connect; for TCP that is the handshake."""
        if self.proto == "tcp":
            await asyncio.get_running_loop().sock_connect(self.socket, self.target)
        else:
            self.socket.connect(self.target)

    async def send(self, payload: bytes, number: int = 0) -> None:
        """Send one payload; `number` is a ping's sequence number."""
        if self.proto == "icmp":
            payload = ECHO_HEADER.pack(self.request, 0, 0, 0, number & 0xFFFF) + payload
        await asyncio.get_running_loop().sock_sendall(self.socket, payload)

    async def receive(self, size: int) -> bytes:
        """The next payload of `size` bytes (what arrives at once, but for TCP)."""
        loop = asyncio.get_running_loop()
        if self.proto != "tcp":
            data = await loop.sock_recv(self.socket, 65535)
            return data[ECHO_HEADER.size :] if self.proto == "icmp" else data
        data = b""
        while len(data) < size:
            piece = await loop.sock_recv(self.socket, size - len(data))
            if not piece:
                raise ConnectionResetError("closed by the peer")
            data += piece
        return data

    async def ask(self, question: bytes) -> bytes:
        """The first answer to a datagram, which is sent again every second."""
        while True:
            await self.send(question)
            try:
                async with asyncio.timeout(1):
                    return await self.receive(0)
            except TimeoutError:
                continue

    def close(self) -> None:
        """Close the socket; an established TCP connection is closed in the ordinary way."""
        self.socket.close()


async def outcome(action: Awaitable[None], timeout: float) -> str:
    """How `action` ended, in one word: open, refused, reset, unreachable or timeout."""
    try:
        async with asyncio.timeout(timeout):
            await action
    except ConnectionRefusedError:
        return "refused"
    except ConnectionError:
        return "reset"
    except TimeoutError:
        return "timeout"
    except OSError:
        return "unreachable"
    return "open"


class Stream:
    """A conversation that goes on: one numbered payload every `interval` seconds, and what came back when."""

    SIZE = 8

    def __init__(self, conversation: Conversation, interval: float) -> None:
        self.conversation = conversation
        self.interval = interval
        self.sent = 0
        self.received = 0
        self.gap = 0.0
        self.last = time.monotonic()
        self.error = ""
        self.tasks = [asyncio.create_task(self._guarded(action)) for action in (self._send(), self._receive())]

    async def _guarded(self, action: Awaitable[None]) -> None:
        try:
            await action
        except OSError as error:
            self.error = self.error or f"{type(error).__name__}: {error}"

    async def _send(self) -> None:
        while True:
            await self.conversation.send(struct.pack("!Q", self.sent), self.sent)
            self.sent += 1
            await asyncio.sleep(self.interval)

    async def _receive(self) -> None:
        while True:
            await self.conversation.receive(self.SIZE)
            now = time.monotonic()
            self.gap = max(self.gap, now - self.last)
            self.last = now
            self.received += 1

    def report(self, clear: bool) -> dict[str, Any]:
        """Counts since the start; `silence` is the time since the last answer, `gap` the longest between two.

        `clear` lets the next report tell of gaps from now on.
        """
        silence = time.monotonic() - self.last
        gap = max(self.gap, silence)
        if clear:
            self.gap = 0.0
        return {
            "sent": self.sent, "received": self.received, "gap": gap, "silence": silence, "error": self.error,
        }  # fmt: skip

    def close(self) -> None:
        """End it; the socket is closed once the tasks have let go of it."""
        for task in self.tasks:
            task.cancel()
        asyncio.get_running_loop().call_later(0.01, self.conversation.close)


class Echo(asyncio.DatagramProtocol):
    """A UDP server that sends back what it gets."""

    def connection_made(self, transport: Any) -> None:
        """Remember where to answer."""
        self.transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        """Answer."""
        self.transport.sendto(data, address)


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A TCP server's side of one connection: send back what comes, until it ends."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:  # reset, or the other end has not answered for long
        pass
    finally:
        writer.close()
