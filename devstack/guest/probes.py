# SPDX-License-Identifier: Apache-2.0
"""Exchanges that succeed or do not, and whether silence says anything."""

import asyncio
import os
import time
from collections.abc import Awaitable, Sequence
from typing import Any

from devstack.guest.conversations import Conversation, outcome

TICK = 0.02
"""Seconds between two looks at whether this process runs."""
STALLS = 5
"""How often a probe is made at most that was silent while it did not."""


async def many(wanted: Sequence[dict[str, Any]]) -> list[str]:
    """How many probes end, all at once.

    Silence says nothing if this process, or the whole machine, has stood still for half of the time: then those are
    made again.
    """
    found = dict.fromkeys(range(len(wanted)), "timeout")
    for _ in range(STALLS):
        silent = [number for number, result in found.items() if result == "timeout"]
        results, still = await _watched([_probe(**wanted[number]) for number in silent])
        found.update(zip(silent, results, strict=True))
        if all(result != "timeout" or still < wanted[number]["timeout"] / 2 for number, result in found.items()):
            break
    return list(found.values())


async def _probe(
    proto: str, address: str, port: int, timeout: float, size: int, source_port: int, tries: int
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


async def _watched(actions: Sequence[Awaitable[str]]) -> tuple[list[str], float]:
    """What comes of them, all at once, and for how many seconds at a stretch this process has not run meanwhile."""
    longest, due = 0.0, time.monotonic() + TICK

    async def tick() -> None:
        nonlocal longest, due
        while True:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            longest = max(longest, time.monotonic() - due)

    ticker = asyncio.create_task(tick())
    try:
        found = await asyncio.gather(*actions)
    finally:
        ticker.cancel()
    return found, max(longest, time.monotonic() - due)
