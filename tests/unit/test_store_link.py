# SPDX-License-Identifier: Apache-2.0
"""How clients come back: soon, however often their server has died, and not all at the same moment."""

from __future__ import annotations

import pytest
from ovs.timeval import msec

from sgctl.store.interest import KINDS
from sgctl.store.link import SgIdl
from sgctl.store.replica import Replica

LONGEST = 2000
"""Milliseconds that an agent waits between two attempts, at most."""


def waits(remotes: str, deaths: int, *, interested: bool = True) -> list[float]:
    """Milliseconds before each attempt, of a client whose every connection dies at once."""
    idl = SgIdl(remotes, Replica(KINDS), interested=interested, leader_only=not interested)
    reconnect, now, found = idl._session.reconnect, msec(), list[float]()
    for _ in range(deaths):
        while reconnect.run(now) != "connect":
            step = max(reconnect.timeout(now) or 0, 1)
            found.append(step)
            now += step
        reconnect.connecting(now)
        reconnect.connect_failed(now, 111)
    return found


@pytest.mark.parametrize("remotes", ["tcp:192.0.2.1:6641", "ssl:192.0.2.1:6642", "unix:/tmp/x"])
def test_no_wait_grows_beyond_two_seconds(remotes: str) -> None:
    assert 0 < max(waits(remotes, 20)) <= LONGEST
    assert max(waits(remotes, 20, interested=False)) <= LONGEST / 5


def test_agents_do_not_come_back_at_the_same_moment() -> None:
    second = [waits("tcp:192.0.2.1:6641", 12)[-1] for _ in range(40)]
    assert len(set(second)) > 20
    assert min(second) >= LONGEST / 2
