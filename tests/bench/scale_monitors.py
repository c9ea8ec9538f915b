# SPDX-License-Identifier: Apache-2.0
"""Light stand-ins for agents: connections with an agent's monitor conditions that read what comes and keep nothing.

    python -m tests.bench.scale_monitors REMOTE FIRST COUNT

It prints ``ready BYTES`` when every one has its rows, then nothing. The servers cannot tell them from agents.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from typing import Any

from sgctl.model import (
    Account,
    Address,
    Cloud,
    Cut,
    Group,
    Handover,
    Host,
    Member,
    Nic,
    Pod,
    Range,
    Row,
    Rule,
    Vm,
    Zone,
)  # fmt: skip
from sgctl.store.interest import seen
from tests.functional import big_cloud
from tests.unit.store_rows import uid

_ECHO, _PONG = b'"method":"echo"', b'{"id":"echo","result":[],"error":null}'
_DONE = b'{"id":2,"result":{},"error":null}'
_RETRY = 0.01


def conditions(host: int, watched: str) -> dict[type[Row], list[Any]]:
    """What the agent of this host has agreed with its server (`sgctl.store.interest`)."""
    numbers = range(host * big_cloud.PER_HOST, (host + 1) * big_cloud.PER_HOST)
    account = numbers[0] // big_cloud.PER_ACCOUNT * big_cloud.PER_ACCOUNT
    groups = [uid(f"group {account}"), watched]
    name, nics = f"h{host}", [big_cloud.nic_id(number) for number in numbers]
    return {
        Cloud: [True], Cut: [True], Host: [["name", "==", name]], Nic: [["host", "==", name]], Address: [False],
        Vm: [False], Handover: [["host", "==", name], *_any("nic", nics)], Member: _any("group", groups),
        Group: _any("_uuid", groups), Rule: _any("group", groups[:1]),
        Account: _any("_uuid", [uid(f"account{account}")]),
        Pod: _any("_uuid", [big_cloud.POD.id]), Zone: _any("_uuid", [big_cloud.ZONE.id]),
        Range: _any("pod", [big_cloud.POD.id]),
    }  # fmt: skip


def _any(column: str, ids: list[str]) -> list[Any]:
    return [[column, "==", ["uuid", id]] for id in ids]


def _requests(host: int, watched: str) -> bytes:
    """As agents ask (`sgctl.store.link`): first for nothing, then for what they need, so that no dump is made ready."""
    needed = conditions(host, watched)
    monitor = {
        kind.TABLE: [{"columns": sorted(seen(kind)), "where": [False], "select": {"initial": False}}] for kind in needed
    }
    params = ["SG", f"m{host}", monitor, "00000000-0000-0000-0000-000000000000"]
    change = [f"m{host}", f"m{host}", {kind.TABLE: [{"where": where}] for kind, where in needed.items()}]
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


def main(remote: str, first: str, count: str, watched: str) -> None:
    """Run until the process is ended."""
    path, poll, received = remote.removeprefix("unix:"), selectors.DefaultSelector(), 0
    for host in range(int(first), int(first) + int(count)):
        sock = _connect(path)
        sock.sendall(_requests(host, watched))
        answer = b""
        while _DONE not in answer:
            data = sock.recv(1 << 20)
            if not data:
                raise ConnectionError("the server has hung up")
            received += len(data)
            answer = answer[-100:] + data
        poll.register(sock, selectors.EVENT_READ)
    print("ready", received // int(count), flush=True)
    while True:
        for key, _ in poll.select():
            sock = key.fileobj  # type: ignore[assignment]
            data = sock.recv(1 << 20)
            if not data:
                raise ConnectionError("the server has hung up")
            if _ECHO in data:
                sock.sendall(_PONG)


if __name__ == "__main__":
    main(*sys.argv[1:])
