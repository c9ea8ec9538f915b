# SPDX-License-Identifier: Apache-2.0
"""What speaks and listens inside a VM: one process per VM, told what to do by lines of JSON.

It runs as a script of its own. A request is ``{"id": 1, "do": "probe", …}`` on standard input, the answer
``{"id": 1, "result": …}`` or ``{"id": 1, "error": "…"}`` on standard output, in the order in which they are ready.
It ends with its standard input. `Guest` in `vm` is the other end; a method ``do_x`` here is its request ``x``.
"""

import asyncio
import base64
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC, PACKET_AUXDATA, SOL_PACKET = 1, 1, 8, 263
TP_STATUS_VLAN_VALID = 0x10
ECHO_HEADER = struct.Struct("!BBHHH")
MAX_FRAMES = 20_000
"""A sniffer keeps this many frames; it goes on counting."""
REQUEST_LIMIT = 64 << 20


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


RECORDS = {"A": (1, socket.AF_INET), "AAAA": (28, socket.AF_INET6)}


def dns_query(name: str, kind: str) -> bytes:
    """A recursive question for the addresses of `name`."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return os.urandom(2) + struct.pack("!5H", 0x0100, 1, 0, 0, 0) + labels + struct.pack("!xHH", RECORDS[kind][0], 1)


def dns_addresses(answer: bytes, question: bytes, kind: str) -> list[str]:
    """The addresses in `answer`, whose records refer to the question's name by a compression pointer."""
    number, family = RECORDS[kind]
    found, offset = [], len(question)
    for _ in range(struct.unpack_from("!H", answer, 6)[0]):
        record, _, _, length = struct.unpack_from("!2xHHIH", answer, offset)
        offset += 12
        if record == number:
            found.append(socket.inet_ntop(family, answer[offset : offset + length]))
        offset += length
    return found


class Server:
    """Carries out requests; what goes on in the background is kept under a number."""

    def __init__(self) -> None:
        self.running: dict[int, Stream | Sniffer | Repeater] = {}
        self.serving: dict[tuple[str, int], Any] = {}
        self.raw: dict[str, socket.socket] = {}

    def _keep(self, thing: Stream | Sniffer | Repeater) -> int:
        number = max(self.running, default=0) + 1
        self.running[number] = thing
        return number

    async def do_serve(self, proto: str, port: int) -> None:
        """Echo on `port` of every address, IPv4 and IPv6; asking twice is no error."""
        if (proto, port) in self.serving:
            return
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("::", port))
        if proto == "tcp":
            self.serving[proto, port] = await asyncio.start_server(echo_stream, sock=sock, backlog=1024)
        else:
            loop = asyncio.get_running_loop()
            self.serving[proto, port], _ = await loop.create_datagram_endpoint(Echo, sock=sock)

    async def do_probe(
        self, proto: str, address: str, port: int, timeout: float, size: int, source_port: int, tries: int
    ) -> str:
        """One exchange; see `outcome`. Datagrams are sent again within the timeout, `tries` times in all."""
        conversation = Conversation(proto, address, port, source_port)
        payload = os.urandom(size)

        async def exchange() -> None:
            await conversation.connect()
            for left in range(1 if proto == "tcp" else tries, 0, -1):
                await conversation.send(payload)
                try:
                    async with asyncio.timeout(None if left == 1 else timeout / tries):
                        while await conversation.receive(size) != payload:
                            pass
                        return
                except TimeoutError:
                    continue

        try:
            return await outcome(exchange(), timeout)
        finally:
            conversation.close()

    async def do_probes(self, probes: list[dict[str, Any]]) -> list[str]:
        """Many probes at once."""
        return await asyncio.gather(*(self.do_probe(**probe) for probe in probes))

    async def do_resolve(self, server: str, name: str, kind: str, proto: str, timeout: float) -> list[str]:
        """The addresses of `name`, asked of `server`; TimeoutError if it does not answer."""
        conversation = Conversation(proto, server, 53)
        question = dns_query(name, kind)
        try:
            async with asyncio.timeout(timeout):
                await conversation.connect()
                if proto == "tcp":
                    await conversation.send(struct.pack("!H", len(question)) + question)
                    answer = await conversation.receive(struct.unpack("!H", await conversation.receive(2))[0])
                else:
                    await conversation.send(question)
                    answer = await conversation.receive(0)
        finally:
            conversation.close()
        return dns_addresses(answer, question, kind)

    async def do_stream(
        self, proto: str, address: str, port: int, interval: float, timeout: float, source_port: int
    ) -> int:
        """Start a stream; its number."""
        conversation = Conversation(proto, address, port, source_port)
        async with asyncio.timeout(timeout):
            await conversation.connect()
        return self._keep(Stream(conversation, interval))

    async def do_report(self, number: int, clear: bool = False) -> dict[str, Any]:
        """What a stream has seen."""
        stream = self.running[number]
        assert isinstance(stream, Stream)
        return stream.report(clear)

    async def do_repeat(self, device: str, frames: list[str], interval: float) -> int:
        """Start a repeater; its number."""
        return self._keep(Repeater(device, [base64.b64decode(frame) for frame in frames], interval))

    async def do_repeated(self, number: int) -> dict[str, int]:
        """How many frames a repeater has sent, and how many it could not."""
        repeater = self.running[number]
        assert isinstance(repeater, Repeater)
        return {"sent": repeater.sent, "failed": repeater.failed}

    async def do_sniff(self, device: str, promiscuous: bool, only: str = "") -> int:
        """Start a sniffer; its number."""
        return self._keep(Sniffer(device, promiscuous, base64.b64decode(only)))

    async def do_frames(self, number: int, clear: bool) -> dict[str, Any]:
        """The frames so far, and how many there were."""
        sniffer = self.running[number]
        assert isinstance(sniffer, Sniffer)
        sniffer.drain()
        answer = {"total": sniffer.total, "frames": [base64.b64encode(frame).decode() for frame in sniffer.frames]}
        if clear:
            sniffer.frames, sniffer.total = [], 0
        return answer

    async def do_stop(self, number: int) -> None:
        """End what goes on under this number."""
        self.running.pop(number).close()

    async def do_send(self, device: str, frames: list[str], interval: float) -> None:
        """Send raw frames."""
        if device not in self.raw:
            self.raw[device] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self.raw[device].bind((device, 0))
        for frame in frames:
            self.raw[device].send(base64.b64decode(frame))
            if interval:
                await asyncio.sleep(interval)

    async def do_hello(self) -> None:
        """Answer when ready."""


async def answer(server: Server, line: bytes) -> None:
    """Carry out the request in `line`, and answer it; what goes wrong is the asker's to see."""
    request = json.loads(line)
    number = request.pop("id")
    reply: dict[str, Any] = {"id": number}
    method: Callable[..., Awaitable[Any]] = getattr(server, f"do_{request.pop('do')}")
    try:
        reply["result"] = await method(**request)
    except (OSError, KeyError, TypeError, ValueError) as error:
        reply["error"] = f"{type(error).__name__}: {error}"
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Serve until standard input ends."""
    reader = asyncio.StreamReader(limit=REQUEST_LIMIT)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    server = Server()
    tasks: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        task = asyncio.create_task(answer(server, line))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    asyncio.run(main())
