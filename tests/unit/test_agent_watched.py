# SPDX-License-Identifier: Apache-2.0
"""Which ports no NIC can have left, since they have come before the agent's eyes: for others conntrack is asked."""

from __future__ import annotations

from sgctl.agent.applied import Applied
from sgctl.agent.handover import Watched
from sgctl.memo import Layers
from sgctl.world import Decision, PortState, State, World


def decided(number: int, **ports: State) -> Applied:
    states = tuple(PortState(name=name, ofport=1, state=state) for name, state in ports.items())
    return Applied(World(host="h"), Decision(units=Layers(), ports=states), {}, 0, 0, current=True, number=number)


def watched(*decisions: Applied) -> Watched:
    """What is known after these decisions."""
    found = Watched()
    for one in decisions:
        found.look(one)
    return found


def test_a_port_that_comes_while_the_agent_looks_is_new() -> None:
    found = watched(decided(1, old=State.STANDBY), decided(2, old=State.STANDBY, new=State.CLOSED))
    assert "new" in found and "old" not in found
    found.look(decided(2, old=State.STANDBY, new=State.CLOSED))
    found.look(decided(3, old=State.STANDBY, new=State.STANDBY))
    assert "new" in found and "old" not in found


def test_what_was_there_when_the_agent_started_may_have_been_left() -> None:
    assert "old" not in watched(decided(1, old=State.STANDBY))


def test_a_port_that_was_open_may_have_been_left() -> None:
    found = watched(decided(1), decided(2, port=State.ACTIVE), decided(3, port=State.STANDBY))
    assert "port" not in found
    again = watched(decided(1), decided(2, port=State.ACTIVE), decided(3), decided(4, port=State.STANDBY))
    assert "port" in again


def test_what_was_missed_may_have_been_anything() -> None:
    """The port may have been open in a decision that nobody has looked at."""
    assert "port" not in watched(decided(1), decided(3, port=State.STANDBY))
    assert "port" not in watched(decided(1), decided(2, port=State.STANDBY), decided(4, port=State.STANDBY))
    late = watched(decided(1), decided(3), decided(4, port=State.STANDBY))
    assert "port" in late
