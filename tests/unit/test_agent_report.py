# SPDX-License-Identifier: Apache-2.0
"""What the database is told about NICs follows from what is in force; nobody else's rows are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgctl.agent.applied import Applied
from sgctl.agent.report import Binding, Bindings, Reporter
from sgctl.errors import StoreError, Unavailable
from sgctl.memo import Layers
from sgctl.model import Host, Nic
from sgctl.store import Changes, Replica
from sgctl.store.interest import KINDS
from sgctl.world import Decision, PortState, State
from tests.unit.worlds import uid, world

WORLD = world({"web1": ("web",)})
NIC = WORLD.nics[uid("web1")]


def port(state: State, reason: str = "", *, name: str = "tap1", ofport: int | None = 1) -> PortState:
    return PortState(name=name, ofport=ofport, state=state, reason=reason, nic=NIC.id)


def bindings(nic: Nic, *ports: PortState) -> list[Binding]:
    return Bindings("hv1").of({nic.id: nic}, ports)


def told(nic: Nic, *ports: PortState) -> list[tuple[str, str, str]]:
    return [(one.host, one.state, one.reason) for one in bindings(nic, *ports)]


@pytest.mark.parametrize("host", ["", "hv2"])
def test_an_active_nic_is_here(host: str) -> None:
    nic = replace(NIC, host=host, state="up" if host else "")
    assert bindings(nic, port(State.ACTIVE)) == [Binding(nic.id, host, "hv1", "up", "")]


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


@dataclass
class Recorder:
    """A database that keeps the names of the tables that are written, and refuses some."""

    replica: Replica = field(default_factory=lambda: Replica(KINDS))
    refuses: Callable[[str], StoreError | None] = lambda _: None
    written: list[str] = field(default_factory=list)

    def write(self, changes: Sequence[Any], guards: Sequence[Any] = ()) -> None:
        kind = changes[0].kind if hasattr(changes[0], "kind") else type(changes[0].record)
        self.written.append(kind.__name__)
        if (error := self.refuses(kind.__name__)) is not None:
            raise error


@dataclass
class Agent:
    """A reporter whose NIC has just moved here, and what it reports to."""

    database: Recorder = field(default_factory=Recorder)
    cut: Callable[[], bool] = lambda: True
    woken: list[Any] = field(default_factory=list)

    def reporter(self, *, started: bool = True) -> Reporter:
        self.database.replica.insync = True
        if started:
            self.database.replica.absorb({Host: {uid("hv1"): Host(id=uid("hv1"), name="hv1")}})
        moved = replace(WORLD, nics={NIC.id: replace(NIC, host="hv2", state="up")})
        decision = Decision(units=Layers(), ports=(port(State.ACTIVE),))
        applied = Applied(moved, decision, {}, foreign=0, sequence=7, current=True, number=1)
        writer = SimpleNamespace(applied=applied, switch=None, notify=self.woken.append)
        cuts = SimpleNamespace(carry_out=lambda *_: self.cut())
        settings = SimpleNamespace(host="hv1", db="unix:/nowhere")
        made: Any = Reporter
        reporter: Reporter = made(settings, self.database, writer, cuts)
        return reporter


def test_a_claim_waits_for_nothing_else() -> None:
    agent = Agent()
    agent.cut = lambda: bool(agent.database.written.append("cut")) or True
    assert not agent.reporter().report(), "all is written"
    assert agent.database.written == ["Nic", "cut", "Host"]


def test_a_host_is_known_before_it_says_what_it_has() -> None:
    agent = Agent()
    agent.reporter(started=False).report()
    assert agent.database.written[:2] == ["Host", "Nic"]


@pytest.mark.parametrize("kind", ["Nic", "Host"])
def test_what_cannot_be_written_keeps_nothing_else_from_being_written(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    agent = Agent(Recorder(refuses=lambda name: Unavailable("too slow") if name == kind else None))
    reporter = agent.reporter()
    assert reporter.report(), "it is tried again"
    assert agent.database.written == ["Nic", "Host"]
    reporter.report()
    assert [record.getMessage() for record in caplog.records] == ["cannot report: too slow"]


def test_it_looks_again_as_soon_as_the_database_is_in_sync() -> None:
    agent = Agent()
    reporter = agent.reporter()
    (woken,) = agent.woken
    replica = agent.database.replica
    replica.insync = False
    assert reporter.report()
    assert not agent.database.written
    nothing: Changes = frozenset()
    replica.announce(nothing)
    assert not woken.is_set()
    replica.insync = True
    replica.announce(nothing)
    assert woken.is_set()


NICS = st.builds(
    replace,
    st.just(NIC),
    id=st.sampled_from(["n1", "n2"]),
    host=st.sampled_from(["", "hv1", "hv2"]),
    state=st.sampled_from(["", "up", "closed"]),
)
PORTS = st.builds(
    PortState,
    name=st.sampled_from(["tap1", "tap2", "tap3"]),
    ofport=st.sampled_from([None, 1]),
    state=st.sampled_from(State),
    reason=st.sampled_from(["", "bad"]),
    nic=st.sampled_from([None, "n1", "n2", "n3"]),
)


@given(st.lists(st.tuples(st.lists(NICS), st.lists(PORTS, unique_by=lambda port: port.name)), max_size=4))
def test_what_was_in_force_before_does_not_matter(history: list[tuple[list[Nic], list[PortState]]]) -> None:
    """There and back, so that rows stay the same objects too."""
    followed = Bindings("hv1")
    for rows, ports in (*history, *reversed(history)):
        nics = {nic.id: nic for nic in rows}
        found = followed.of(nics, tuple(ports))
        assert {one.nic: one for one in found} == {one.nic: one for one in Bindings("hv1").of(nics, tuple(ports))}
