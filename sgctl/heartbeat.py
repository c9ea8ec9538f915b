# SPDX-License-Identifier: Apache-2.0
"""How often hypervisors say that they are alive, and how long a silence means that one is not.

Every heartbeat is a transaction that the database and all of its relays look at for each of their clients, so all
heartbeats together are bounded, whatever the size of the cloud: the API servers keep the interval in `Cloud.heartbeat`.
Each agent follows it and writes down which interval it keeps (`Host.heartbeat`); its silence is judged by that promise,
so that a change of the interval never makes a living hypervisor look dead. Intervals are milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable

from sgctl.model import Cloud, Host

SHORTEST = 10_000
"""The interval of a cloud that is not large."""
PER_SECOND = 300
"""How many heartbeats all hypervisors may make together: a twelfth of a core of the database, half of one of a relay of
500 clients (tests/bench/SCALE.md)."""
MISSED = 3
"""Heartbeats that a living hypervisor never misses in a row."""
_SLACK = 8
"""An interval that has to grow gets an eighth more, so that it is not changed for each new hypervisor."""


def suited(hosts: int, now: int) -> int:
    """The interval for so many hypervisors; `now`, as long as that is long enough and not much too long."""
    least = max(SHORTEST, -(-hosts * 1000 // PER_SECOND))
    if least == SHORTEST or least <= now <= least + least // (_SLACK // 2):
        return SHORTEST if least == SHORTEST else now
    return least + least // _SLACK


def wanted(clouds: Iterable[Cloud]) -> int:
    """The interval that agents are to keep."""
    return max((cloud.heartbeat for cloud in clouds), default=0) or SHORTEST


def lost_after(host: Host) -> int:
    """The silence after which a hypervisor does not count as alive, by the interval that it has promised."""
    return MISSED * (host.heartbeat or SHORTEST)


def silent(host: Host, *, now: int, timeout: int) -> bool:
    """Whether nothing has been heard of a hypervisor for longer than the timeout, and than it has promised."""
    return now - host.seen > max(timeout, lost_after(host))
