# SPDX-License-Identifier: Apache-2.0
"""Answer requests until standard input ends."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from devstack.guest.server import Server

REQUEST_LIMIT = 64 << 20
"""Bytes of one request."""


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
