# SPDX-License-Identifier: Apache-2.0
"""An agent that comes back to a server that does not know where it left off: cheap, and nothing seems to vanish."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from ovs.jsonrpc import Message

from sgctl.dbserver import DatabaseServer
from sgctl.model import Account, Address, Cloud, Group, Host, Member, Nic, Row, Rule, Vm
from sgctl.store import Database, Insert, Interest
from sgctl.store.link import SgIdl
from sgctl.store.replica import Changes
from tests.functional.store_server import BASE, HERE, connected, eventually, held, offline, served, where
from tests.unit.store_rows import account, group, rule, uid

MINE, OTHER = account("mine"), account("other")
OWN, PEER, LATER = group("own", MINE), group("peer", OTHER), group("later", OTHER)
CLOUD = Cloud(id=uid("cloud"))
STAYS = HERE.machine(MINE, OWN, host="h1")
GOES = HERE.machine(MINE, OWN, host="h1")
PEERS = [HERE.machine(OTHER, PEER, host="h2") for _ in range(3)]
RULE = rule(OWN, PEER)
ROWS = (CLOUD, *BASE, MINE, OTHER, OWN, PEER, LATER, Host(id=uid("h1"), name="h1"), RULE, *STAYS, *GOES)
FOREVER = {CLOUD.id, OWN.id, PEER.id, RULE.id, *(row.id for row in STAYS[:3])}


@pytest.fixture
def server() -> Iterator[DatabaseServer]:
    with served() as server, connected(server) as database:
        database.write([Insert(row) for row in (*ROWS, *(row for peer in PEERS for row in peer))])
        yield server


class Agent(Database):
    """An agent's store; `left_off` is a transaction of a server with a history, which this one does not know."""

    left_off = ""


@pytest.fixture(params=["", str(uuid4())], ids=["nowhere", "elsewhere"])
def agent(server: DatabaseServer, request: pytest.FixtureRequest) -> Iterator[Agent]:
    interest = Interest()
    interest.watch(host="h1", nics=frozenset({STAYS[1].id}))
    with Agent(server.remote, interest=interest) as agent:
        assert agent.wait_insync(30)
        agent.left_off = request.param
        yield agent


def seen(database: Database) -> set[str]:
    """The ids of all rows that an agent has, be it in sync or not."""
    return {id for kind in database.replica.kinds for id in database.replica.ids(kind)}


def away(server: DatabaseServer, agent: Agent, *operations: Any) -> None:
    """The server ends, its content changes, it comes back."""
    server.stop()
    eventually(lambda: not agent.connected)
    if operations:
        offline(server, *operations)
    agent._idl.last_id = agent.left_off or agent._idl.last_id
    server.start()


def delete(*rows: Row) -> list[Any]:
    return [{"op": "delete", "table": row.TABLE, "where": where(row)} for row in rows]


def as_a_new_one(server: DatabaseServer, agent: Database) -> bool:
    """Whether an agent has what another has that has just begun."""
    interest = Interest()
    interest.watch(host="h1", nics=frozenset({STAYS[1].id}))
    with Database(server.remote, interest=interest) as fresh:
        assert fresh.wait_insync(30)
        return held(fresh) == held(agent)


def test_what_has_gone_goes_and_what_stays_is_there_all_the_time(server: DatabaseServer, agent: Agent) -> None:
    before, heard, short = seen(agent), set[Any](), list[set[str]]()

    def note(changes: Changes) -> None:
        heard.update(changes)
        short.append(FOREVER - seen(agent))

    agent.replica.on_change(note)
    moved = {"op": "update", "table": "NIC", "where": where(PEERS[0][1]), "row": {"state": "closed"}}
    vm, nic, address, *members = GOES
    away(server, agent, *delete(*members, PEERS[1][3]), *delete(address, nic, vm), moved)
    assert agent.wait_insync(30)
    gone = {row.id for row in (vm, nic, address, PEERS[1][3])}
    assert seen(agent) == before - gone
    assert {id for _, id in heard} == gone, "what is as it was is no news"
    assert not any(short)
    assert as_a_new_one(server, agent)


def test_an_interest_that_has_shrunk_meanwhile(server: DatabaseServer, agent: Agent) -> None:
    """Rules and NICs that went take what only they had brought along."""
    away(server, agent, *delete(RULE), {"op": "update", "table": "NIC", "where": where(GOES[1]), "row": {"host": "h2"}})
    assert agent.wait_insync(30)
    assert not {PEER.id, GOES[1].id, GOES[0].id} & seen(agent)
    assert {kind: agent.replica.count(kind) for kind in (Group, Rule, Nic, Vm, Address, Member, Account)} == {
        Group: 1, Rule: 0, Nic: 1, Vm: 1, Address: 1, Member: 0, Account: 1,
    }  # fmt: skip
    assert as_a_new_one(server, agent)


def test_a_new_interest_while_the_server_is_away(server: DatabaseServer, agent: Agent) -> None:
    server.stop()
    eventually(lambda: not agent.connected)
    assert agent._interest
    agent._interest.watch(host="h2", nics=frozenset())
    server.start()
    assert agent.wait_insync(30)
    assert {nic.id for nic in agent.replica.all(Nic)} == {peer[1].id for peer in PEERS}


def test_a_server_that_dies_again_and_again(server: DatabaseServer, agent: Agent) -> None:
    """At any step of coming back."""
    chance = random.Random(7)
    for turn in range(12):
        state = {"op": "update", "table": "NIC", "where": where(STAYS[1]), "row": {"state": f"s{turn}"}}
        away(server, agent, state, *(delete(RULE) if turn == 6 else []))
        time.sleep(chance.uniform(0, 0.3))
    assert agent.wait_insync(30)
    assert agent.replica.get(Nic, STAYS[1].id).state == "s11"  # type: ignore[union-attr]
    assert agent.replica.count(Rule) == agent.replica.count(Member) == 0
    assert as_a_new_one(server, agent)


def test_no_request_makes_a_server_copy_its_rows(
    server: DatabaseServer, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitors: list[Any] = []
    send = SgIdl.send_request

    def spy(idl: SgIdl, request: Message) -> Any:
        sent = send(idl, request)
        if request.method == "monitor_cond_since" and idl is agent._idl:
            monitors.append(request.params[2])
        return sent

    monkeypatch.setattr(SgIdl, "send_request", spy)
    away(server, agent)
    assert agent.wait_insync(30)
    assert len(monitors) == (2 if agent.left_off else 1), "where it left off, and then with nothing"
    parts = [part for wanted in monitors for parts in wanted.values() for part in parts]
    assert parts and all(part["select"] == {"initial": False} for part in parts)
