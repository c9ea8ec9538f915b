# SPDX-License-Identifier: Apache-2.0
"""Light stand-ins for agents: connections with an agent's monitor conditions that read what comes and keep nothing.

    python -m tests.bench.scale_monitors REMOTE sgctl|ovn|ovn-flat FIRST COUNT [KEY CERT CA]

The word says whose agents they stand for. It prints ``ready BYTES`` when every one has its rows, and a line
per update: host, monotonic time. The servers cannot tell them from agents. Who loses its connection makes a new one as
agents do: after a while at random, all of them at once.
"""

from __future__ import annotations

import json
import random
import re
import selectors
import socket
import ssl
import sys
import time
from dataclasses import dataclass
from threading import Thread
from typing import Any

from sgctl.store.link import BACKOFF
from tests.bench import scale_cloud, scale_ovn_cloud

_ECHO, _PONG = b'"method":"echo"', b'{"id":"echo","result":[],"error":null}'
_UPDATE = b'"method":"update3"'
_ANSWER = b'{"id":2,"result":'
_NEVER = "00000000-0000-0000-0000-000000000000"
_KNOWN = re.compile(rb'"result":\[(true|false),"([0-9a-f-]{36})"')
_LATEST = re.compile(rb'"params":\["m[0-9]+","([0-9a-f-]{36})"')
_CHUNK = 1 << 20
_RETRY = 0.01
_KINDS = {
    "sgctl": ("SG", scale_cloud.conditions),
    "ovn": ("OVN_Southbound", scale_ovn_cloud.conditions),
    "ovn-flat": ("OVN_Southbound", scale_ovn_cloud.flat_conditions),
}


@dataclass(slots=True)
class Host:
    """One hypervisor's connection. needed: by table, the columns and the condition.  since: the last transaction."""

    database: str
    number: int
    needed: dict[str, Any]
    since: str = _NEVER
    received: int = 0

    def join(self, sock: socket.socket) -> None:
        """Ask as agents do (`sgctl.store.link`): for what has been missed; or for nothing, and then for what is needed.

        So no dump is made ready.
        """
        if self.since != _NEVER:
            if self._monitor(sock, {table: where for table, (_, where) in self.needed.items()}):
                return
            self._call(sock, "monitor_cancel", [f"m{self.number}"])
            self.since = _NEVER
        self._monitor(sock, {table: [False] for table in self.needed})
        change = {table: [{"where": where}] for table, (_, where) in self.needed.items()}
        self._call(sock, "monitor_cond_change", [f"m{self.number}", f"m{self.number}", change])

    def _monitor(self, sock: socket.socket, where: dict[str, Any]) -> bool:
        """Whether the server knows since when."""
        monitor = {
            table: [{"columns": columns, "where": where[table], "select": {"initial": False}}]
            for table, (columns, _) in self.needed.items()
        }
        answer = self._call(sock, "monitor_cond_since", [self.database, f"m{self.number}", monitor, self.since])
        found = _KNOWN.search(answer)
        if found is None:
            raise ConnectionError(f"the server has no rows: {answer[:300]!r}")
        self.since = found[2].decode()
        return found[1] == b"true"

    def _call(self, sock: socket.socket, method: str, params: list[Any]) -> bytes:
        """All that has come up to the answer."""
        sock.sendall(json.dumps({"id": 2, "method": method, "params": params}).encode())
        answer = b""
        while b'"error":' not in answer[answer.find(_ANSWER) :] or _ANSWER not in answer:
            answer += _received(sock)
        self.received += len(answer)
        return answer


def _received(sock: socket.socket) -> bytes:
    data = sock.recv(_CHUNK)
    while isinstance(sock, ssl.SSLSocket) and sock.pending():
        data += sock.recv(_CHUNK)
    if not data:
        raise ConnectionError("the server has hung up")
    return data


class Crowd:
    """All hosts of this process."""

    def __init__(self, remote: str, identity: tuple[str, ...]) -> None:
        self._kind, _, self._address = remote.partition(":")
        self._poll = selectors.DefaultSelector()
        self._context = None
        if identity:
            key, cert, ca = identity
            self._context = ssl.create_default_context(cafile=ca)
            self._context.check_hostname = False
            self._context.load_cert_chain(cert, key)

    def join(self, host: Host) -> None:
        """Connect one, and hear what comes for it from now on."""
        sock = self._connect()
        try:
            host.join(sock)
        except OSError:
            sock.close()
            raise
        self._poll.register(sock, selectors.EVENT_READ, host)

    def serve(self) -> None:
        """Tell of each update, and answer the server's probes, for ever."""
        while True:
            lines = [line for key, _ in self._poll.select(1.0) if (line := self._read(key.fileobj, key.data))]
            sys.stdout.write("".join(lines))
            sys.stdout.flush()

    def _read(self, sock: Any, host: Host) -> str:
        """Take what has come; a line about it if it is an update."""
        try:
            data = _received(sock)
        except OSError:
            self._poll.unregister(sock)
            sock.close()
            Thread(target=self._return, args=(host,), daemon=True).start()
            return ""
        if _ECHO in data:
            sock.sendall(_PONG)
        if latest := _LATEST.findall(data):
            host.since = latest[-1].decode()
        return f"h{host.number} {time.monotonic():.6f}\n" if _UPDATE in data else ""

    def _return(self, host: Host) -> None:
        """Connect again, as often as it takes."""
        first, longest = (round(one * random.uniform(1, 2)) for one in BACKOFF[self._kind])
        while True:
            time.sleep(first / 1000)
            try:
                self.join(host)
            except OSError:
                first = min(2 * first, longest)
            else:
                sys.stdout.write(f"h{host.number} {time.monotonic():.6f}\n")
                sys.stdout.flush()
                return

    def _connect(self) -> socket.socket:
        """The server's listen backlog is short."""
        if self._context is not None:
            address, _, port = self._address.rpartition(":")
            return self._context.wrap_socket(socket.create_connection((address, int(port))))
        while True:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(self._address)
            except BlockingIOError:
                sock.close()
                time.sleep(_RETRY)
                continue
            return sock


def main(remote: str, kind: str, first: str, count: str, *identity: str) -> None:
    """Run until the process is ended."""
    crowd = Crowd(remote, identity)
    database, conditions = _KINDS[kind]
    hosts = [Host(database, number, conditions(number)) for number in range(int(first), int(first) + int(count))]
    serving = Thread(target=crowd.serve, daemon=True)
    serving.start()
    for host in hosts:
        crowd.join(host)
    print("ready", sum(host.received for host in hosts) // len(hosts), flush=True)
    serving.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
