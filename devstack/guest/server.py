# SPDX-License-Identifier: Apache-2.0
"""Carries out requests: each method ``do_x`` is a request ``x``."""

import asyncio
import base64
import socket
import struct
from typing import Any

from devstack.guest.conversations import Conversation, Echo, Stream, echo_stream
from devstack.guest.dns import dns_addresses, dns_query
from devstack.guest.frames import Repeater, Sniffer
from devstack.guest.probes import many


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

    async def do_probe(self, **probe: Any) -> str:
        """One exchange; see `many`."""
        return (await many([probe]))[0]

    async def do_probes(self, probes: list[dict[str, Any]]) -> list[str]:
        """Many of them at once."""
        return await many(probes)

    async def do_resolve(self, server: str, name: str, kind: str, proto: str, timeout: float) -> list[str]:
        """The addresses of `name`, asked of `server` every second; TimeoutError if it does not answer."""
        conversation = Conversation(proto, server, 53)
        question = dns_query(name, kind)
        try:
            async with asyncio.timeout(timeout):
                await conversation.connect()
                if proto == "tcp":
                    await conversation.send(struct.pack("!H", len(question)) + question)
                    answer = await conversation.receive(struct.unpack("!H", await conversation.receive(2))[0])
                else:
                    answer = await conversation.ask(question)
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
