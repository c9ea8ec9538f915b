# SPDX-License-Identifier: Apache-2.0
"""Light stand-ins for agents: connections with an agent's monitor conditions that read what comes and keep nothing.

    python -m tests.bench.scale_monitors REMOTE sgctl|ovn|ovn-flat FIRST COUNT

The word says whose agents they stand for. It prints ``ready BYTES`` when every one has its rows, then a line
per update: host, monotonic time. The servers cannot tell them from agents.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from typing import Any

from tests.bench import scale_cloud, scale_ovn_cloud

_ECHO, _PONG = b'"method":"echo"', b'{"id":"echo","result":[],"error":null}'
_UPDATE = b'"method":"update3"'
_DONE = b'{"id":2,"result":{},"error":null}'
_RETRY = 0.01
_KINDS = {
    "sgctl": ("SG", scale_cloud.conditions),
    "ovn": ("OVN_Southbound", scale_ovn_cloud.conditions),
    "ovn-flat": ("OVN_Southbound", scale_ovn_cloud.flat_conditions),
}


def requests(database: str, host: int, needed: dict[str, Any]) -> bytes:
    """As agents ask (`sgctl.store.link`): first for nothing, then for what they need, so that no dump is made ready.

    needed: by table, the columns and the condition.
    """
    monitor = {
        table: [{"columns": columns, "where": [False], "select": {"initial": False}}]
        for table, (columns, _) in needed.items()
    }
    params = [database, f"m{host}", monitor, "00000000-0000-0000-0000-000000000000"]
    change = [f"m{host}", f"m{host}", {table: [{"where": where}] for table, (_, where) in needed.items()}]
    first = {"id": 1, "method": "monitor_cond_since", "params": params}
    return (json.dumps(first) + json.dumps({"id": 2, "method": "monitor_cond_change", "params": change})).encode()


def _connect(path: str) -> socket.socket:
    """The server's listen backlog is short."""
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(path)
        except BlockingIOError:
            sock.close()
            time.sleep(_RETRY)
            continue
        return sock


def _join(path: str, request: bytes) -> tuple[socket.socket, int]:
    """A connection that has its rows, and how many bytes these were."""
    sock, received, answer = _connect(path), 0, b""
    sock.sendall(request)
    while _DONE not in answer:
        data = sock.recv(1 << 20)
        if not data:
            raise ConnectionError("the server has hung up")
        received += len(data)
        answer = answer[-100:] + data
    return sock, received


def main(remote: str, kind: str, first: str, count: str) -> None:
    """Run until the process is ended."""
    path, poll, received = remote.removeprefix("unix:"), selectors.DefaultSelector(), 0
    database, conditions = _KINDS[kind]
    for host in range(int(first), int(first) + int(count)):
        sock, size = _join(path, requests(database, host, conditions(host)))
        received += size
        poll.register(sock, selectors.EVENT_READ, f"h{host}")
    print("ready", received // int(count), flush=True)
    while True:
        lines = [line for key, _ in poll.select() if (line := _read(key.fileobj, key.data))]
        sys.stdout.write("".join(lines))
        sys.stdout.flush()


def _read(sock: Any, host: str) -> str:
    """Take what has come; a line about it if it is an update."""
    data = sock.recv(1 << 20)
    if not data:
        raise ConnectionError("the server has hung up")
    if _ECHO in data:
        sock.sendall(_PONG)
    return f"{host} {time.monotonic():.6f}\n" if _UPDATE in data else ""


if __name__ == "__main__":
    main(*sys.argv[1:])
