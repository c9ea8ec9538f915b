# SPDX-License-Identifier: Apache-2.0
"""A port that is plugged brings its NIC without a change of conditions, and no row that is out of date for long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from sgctl.dbserver import DatabaseServer
from sgctl.errors import Stale
from sgctl.model import Cloud, Group, Host, Nic, Vm
from sgctl.store import Database, Delete, Guard, Insert, Interest, Update
from sgctl.store import plugged as plugged_module
from tests.functional.store_server import BASE, HERE, connected, eventually, offline, served, where
from tests.unit.store_rows import account, group, uid

TENANT = account("tenant")
WEB, DB = group("web", TENANT), group("db", TENANT)


def complete(machine: tuple[Any, ...]) -> tuple[Any, ...]:
    """A machine as the API makes it."""
    vm, nic, address, *members = machine
    whole = replace(nic, copied=nic.revision + 1, addresses=frozenset({address.address}), wanted="Running", vm_name="x")
    return (vm, whole, address, *members)


FRESH = complete(HERE.machine(TENANT, WEB))
THERE = complete(HERE.machine(TENANT, WEB, host="h2"))
LATER = complete(HERE.machine(TENANT, WEB))
NIC = FRESH[1]
ROWS = (Cloud(id=uid("cloud")), *BASE, TENANT, WEB, DB, Host(id=uid("h1"), name="h1"), *FRESH, *THERE)


class Agent(Database):
    """An agent's store that notes each condition that it demands on NICs."""

    def __init__(self, remote: str) -> None:
        self.interest, self.asked = Interest(), list[Any]()
        super().__init__(remote, interest=self.interest)
        demand = self._idl.demand
        self._idl.demand = lambda found: self.asked.append(found[Nic]) or demand(found)  # type: ignore[method-assign, func-returns-value]

    def plug(self, *nics: Nic) -> None:
        """These ports are there, and no others."""
        self.interest.watch(host="h1", nics=frozenset(nic.id for nic in nics))
        assert self.wait_insync(30)

    def nic(self, nic: Nic = NIC) -> Nic | None:
        """The row as the agent knows it."""
        return self.replica.get(Nic, nic.id)

    def names(self, nic: Nic = NIC) -> bool:
        """Whether the condition names a NIC."""
        return ["_uuid", "==", ["uuid", nic.id]] in self.asked[-1]


@pytest.fixture
def server() -> Iterator[DatabaseServer]:
    with served() as server:
        yield server


@pytest.fixture
def cloud(server: DatabaseServer) -> Iterator[Database]:
    with connected(server) as database:
        database.write([Insert(row) for row in ROWS])
        yield database


@pytest.fixture
def agent(server: DatabaseServer, cloud: Database) -> Iterator[Agent]:
    with Agent(server.remote) as agent:
        agent.plug()
        yield agent


def test_a_nic_of_nobody_is_there_at_once_and_followed_from_its_binding_on(agent: Agent, cloud: Database) -> None:
    agent.plug(NIC)
    assert agent.nic() == NIC and not agent.names()
    assert {row.id for row in agent.replica.all(Group)} == {WEB.id}
    assert agent.replica.count(Vm) == 0
    agent.write([Update(Nic, NIC.id, {"host": "h1", "state": "up"})], [Guard(Nic, NIC.id, {"host": ""})])
    cloud.write([Update(Nic, NIC.id, {"groups": frozenset({DB.id})})])
    eventually(lambda: agent.nic() == replace(NIC, host="h1", state="up", groups=frozenset({DB.id})))
    eventually(lambda: agent.replica.insync and {row.id for row in agent.replica.all(Group)} == {DB.id})
    assert not any(["_uuid", "==", ["uuid", NIC.id]] in asked for asked in agent.asked)


def test_a_port_that_goes_before_it_is_bound_takes_its_nic_along(agent: Agent) -> None:
    agent.plug(NIC)
    agent.plug()
    assert agent.nic() is None and agent.replica.count(Group) == 0
    agent.plug(NIC)
    assert agent.nic() == NIC


def test_a_nic_that_is_not_bound_in_time_is_followed(
    agent: Agent, cloud: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugged_module, "GRACE", 0.2)
    agent.plug(NIC)
    eventually(agent.names)
    cloud.write([Update(Nic, NIC.id, {"groups": frozenset({DB.id})})])
    eventually(lambda: agent.nic() == replace(NIC, groups=frozenset({DB.id})))
    cloud.write([Delete(type(row), row.id) for row in reversed(FRESH[1:])])
    eventually(lambda: agent.nic() is None)


def test_a_nic_that_is_deleted_before_it_is_followed_goes(
    agent: Agent, cloud: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugged_module, "GRACE", 0.5)
    agent.plug(NIC)
    cloud.write([Delete(type(row), row.id) for row in reversed(FRESH[1:])])
    eventually(lambda: agent.nic() is None)


def test_who_loses_the_race_for_a_nic_learns_of_it_at_once(
    agent: Agent, cloud: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugged_module, "GRACE", 600.0)
    agent.plug(NIC)
    cloud.write([Update(Nic, NIC.id, {"host": "h2", "state": "up"})])
    with pytest.raises(Stale):
        agent.write([Update(Nic, NIC.id, {"host": "h1"})], [Guard(Nic, NIC.id, {"host": ""})])
    eventually(lambda: agent.nic() == replace(NIC, host="h2", state="up"))


def test_a_nic_of_another_host_or_none_is_asked_for_by_name(agent: Agent, cloud: Database) -> None:
    agent.plug(THERE[1], LATER[1])
    assert agent.names(THERE[1]) and agent.names(LATER[1])
    assert agent.nic(THERE[1]) == THERE[1] and agent.nic(LATER[1]) is None
    cloud.write([Insert(row) for row in LATER])
    eventually(lambda: agent.nic(LATER[1]) == LATER[1])


def test_a_connection_that_is_lost_before_the_binding(server: DatabaseServer, agent: Agent) -> None:
    agent.plug(NIC)
    server.stop()
    eventually(lambda: not agent.connected)
    gone = [{"op": "delete", "table": row.TABLE, "where": where(row)} for row in reversed(FRESH[1:])]
    offline(server, *gone)
    server.start()
    assert agent.wait_insync(30)
    assert agent.nic() is None and agent.names()


def test_an_agent_that_starts_names_none_of_the_nics_that_are_bound_to_it(
    server: DatabaseServer, cloud: Database
) -> None:
    cloud.write([Update(Nic, NIC.id, {"host": "h1", "state": "up"})])
    with Agent(server.remote) as agent:
        agent.plug(NIC, THERE[1])
        assert agent.nic() and not agent.names() and agent.names(THERE[1])


def test_a_nic_that_leaves_while_its_hosts_agent_starts_is_not_missed(
    server: DatabaseServer, cloud: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was bound to this host when it was looked up, and no more when what is bound to this host was asked for."""
    monkeypatch.setattr(plugged_module, "GRACE", 60.0)
    cloud.write([Update(Nic, NIC.id, {"host": "h1", "state": "up"})])
    with Agent(server.remote) as agent:
        look_at, moved = agent._plugged.take, list[str]()

        def take(*arguments: Any) -> Any:
            found = look_at(*arguments)
            if not moved:
                cloud.write([Update(Nic, NIC.id, {"host": "h2"})])
                moved.append(NIC.id)
            return found

        agent._plugged.take = take  # type: ignore[method-assign]
        agent.plug(NIC)
        assert moved and agent.names()
        assert agent.nic() == replace(NIC, host="h2", state="up")
