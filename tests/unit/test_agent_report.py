# SPDX-License-Identifier: Apache-2.0
"""What the database is told about NICs follows from what is in force; nobody else's rows are written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgctl.agent.report import Binding, bindings
from sgctl.model import Nic
from sgctl.world import PortState, State
from tests.unit.worlds import uid, world

NIC = world({"web1": ("web",)}).nics[uid("web1")]


def port(state: State, reason: str = "", *, name: str = "tap1", ofport: int | None = 1) -> PortState:
    return PortState(name=name, ofport=ofport, state=state, reason=reason, nic=NIC.id)


def told(nic: Nic, *ports: PortState) -> list[tuple[str, str, str]]:
    return [(one.host, one.state, one.reason) for one in bindings("hv1", [nic], ports)]


@pytest.mark.parametrize("host", ["", "hv2"])
def test_an_active_nic_is_here(host: str) -> None:
    nic = replace(NIC, host=host, state="up" if host else "")
    assert list(bindings("hv1", [nic], [port(State.ACTIVE)])) == [Binding(nic.id, host, "hv1", "up", "")]


def test_what_is_written_already_is_not_written_again() -> None:
    assert told(replace(NIC, host="hv1", state="up"), port(State.ACTIVE)) == []
    assert told(replace(NIC, host="hv1", state="closed", reason="bad"), port(State.CLOSED, "bad")) == []
    assert told(NIC) == []


def test_a_closed_nic_is_here_unless_it_is_elsewhere() -> None:
    assert told(NIC, port(State.CLOSED, "bad MAC")) == [("hv1", "closed", "bad MAC")]
    assert told(replace(NIC, host="hv2", state="up"), port(State.CLOSED, "bad MAC")) == []


def test_standby_and_a_port_without_number_are_no_news() -> None:
    assert told(replace(NIC, host="hv2", state="up"), port(State.STANDBY)) == []
    assert told(NIC, port(State.CLOSED, "no OpenFlow number yet", ofport=None)) == []


def test_a_binding_without_port_is_released_only_if_it_is_ours() -> None:
    assert told(replace(NIC, host="hv1", state="up")) == [("", "", "")]
    assert told(replace(NIC, host="hv2", state="up")) == []


def test_of_two_ports_the_active_one_counts() -> None:
    second = port(State.CLOSED, "belongs to port tap1", name="tap2", ofport=2)
    for ports in ((port(State.ACTIVE), second), (second, port(State.ACTIVE))):
        assert told(NIC, *ports) == [("hv1", "up", "")]


def test_a_write_is_guarded_by_the_host_that_was_seen() -> None:
    update, guard = Binding(NIC.id, "hv2", "hv1", "up", "").write(5)
    assert update.values == {"host": "hv1", "state": "up", "reason": "", "since": 5}
    assert (guard.id, guard.values) == (NIC.id, {"host": "hv2"})
