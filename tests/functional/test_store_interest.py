# SPDX-License-Identifier: Apache-2.0
"""An agent sees what concerns its host, all of it, and nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from sgctl.dbserver import DatabaseServer
from sgctl.model import Cloud, Host, Key, Member, Nic, Row, Rule
from sgctl.store import Database, Delete, Insert, Interest, Update
from tests.functional.store_server import BASE, HERE, connected, eventually, held, offline, online, served, truth, where
from tests.unit.store_rows import Place, account, group, rule, uid

TENANTS = [account(f"tenant{number}") for number in range(20)]
GROUPS = [group("default", tenant) for tenant in TENANTS]
THERE = Place("there")
FOREIGN = 3000
OWN, PEER, STRANGER = GROUPS[:3]
RULE = rule(OWN, PEER)
MINE = HERE.machine(TENANTS[0], OWN, host="h1")
PLUGGED = HERE.machine(TENANTS[3], GROUPS[3])
PEERS = [THERE.machine(TENANTS[1], PEER, host="h2") for _ in range(5)]
HOSTS = [Host(id=uid(name), name=name) for name in ("h1", "h2")]
CLOUD = Cloud(id=uid("cloud"))


@dataclass(frozen=True)
class World:
    """A database with a large cloud, a client that sees all, and one that has an interest."""

    server: DatabaseServer
    everything: Database
    agent: Database
    interest: Interest

    def seen(self) -> set[str]:
        """The ids of all that the agent holds."""
        return {id for rows in held(self.agent).values() for id in rows}

    def shows(self, expected: set[str]) -> bool:
        """Whether the agent holds just that, as it is in the database."""
        everything = held(self.everything)
        fresh = all(rows.items() <= everything[kind].items() for kind, rows in held(self.agent).items())
        return fresh and self.agent.replica.insync and self.seen() == expected

    def watch(self, *nics: Nic, host: str = "h1") -> set[str]:
        """Change the interest, wait, and say what is seen."""
        self.interest.watch(host=host, nics=frozenset(nic.id for nic in nics))
        assert self.agent.wait_insync(30)
        return self.seen()


@pytest.fixture(scope="module")
def server() -> Iterator[DatabaseServer]:
    others = [THERE.machine(TENANTS[4 + n % 16], GROUPS[4 + n % 16], host=f"h{2 + n % 50}") for n in range(FOREIGN)]
    machines = [row for machine in (MINE, PLUGGED, *PEERS, *others) for row in machine]
    rules = [RULE, rule(PEER, STRANGER), *(rule(one, one) for one in GROUPS[4:])]
    with served() as server, connected(server) as database:
        rows = [CLOUD, *BASE, *TENANTS, *GROUPS, *THERE.rows, *HOSTS, *rules, *machines]
        database.write([Insert(row) for row in rows], deadline=30)
        yield server


@pytest.fixture
def world(server: DatabaseServer) -> Iterator[World]:
    interest = Interest()
    with connected(server) as everything, Database(server.remote, interest=interest) as agent:
        yield World(server, everything, agent, interest)


def ids(*rows: Row | tuple[Row, ...]) -> set[str]:
    return {one.id for row in rows for one in (row if isinstance(row, tuple) else (row,))}


HOST_ALONE = ids(CLOUD, HOSTS[0])
#: A NIC's own memberships are of no interest, unless a rule names the group.
WITH_MINE = HOST_ALONE | ids(MINE[:3], HERE.rows, TENANTS[0], OWN, RULE, PEER, TENANTS[1], *(peer[3] for peer in PEERS))


def test_nothing_is_seen_before_there_is_an_interest(world: World) -> None:
    eventually(lambda: world.agent.connected)
    assert not world.agent.wait_insync(0.2)
    assert world.seen() == set()
    with pytest.raises(KeyError):
        world.agent.replica.all(Key)


def test_only_what_concerns_the_host_arrives(world: World) -> None:
    assert world.watch() == WITH_MINE
    assert world.watch(PLUGGED[1]) == WITH_MINE | ids(PLUGGED[:3], TENANTS[3], GROUPS[3])


def test_a_plugged_nic_brings_the_host_that_has_it(world: World) -> None:
    with_host = world.watch(PEERS[0][1])
    assert with_host >= WITH_MINE | ids(PEERS[0], HOSTS[1])
    assert {host.name for host in world.agent.replica.all(Host)} == {"h1", "h2"}


def test_of_a_nic_whose_row_says_all_nothing_else_is_asked_for(world: World) -> None:
    """Until somebody changes it who does not know of copies."""
    full, nic = world.watch(), MINE[1]
    copies = {"copied": nic.revision + 1, "wanted": "Running", "vm_name": "web1", "addresses": frozenset({"10.0.0.1"})}
    world.everything.write([Update(Nic, nic.id, copies)])
    eventually(lambda: world.shows(full - ids(MINE[0], MINE[2])))
    world.everything.write([Update(Nic, nic.id, {"revision": nic.revision + 1})])
    eventually(lambda: world.shows(full))
    world.everything.write([Update(Nic, nic.id, {name: getattr(nic, name) for name in (*copies, "revision")})])


def test_a_nic_that_was_asked_for_by_name_stays_so_while_its_port_is_there(world: World) -> None:
    """When it is bound here the condition stays as it is: a change would cost the server a look at all NICs."""
    full, nic = world.watch(PLUGGED[1]), PLUGGED[1]
    conditions: list[object] = []
    demand = world.agent._idl.demand
    world.agent._idl.demand = lambda found: conditions.append(found[Nic]) or demand(found)  # type: ignore[method-assign, func-returns-value]
    world.everything.write([Update(Nic, nic.id, {"host": "h1", "state": "up"})])
    eventually(lambda: world.shows(full))
    world.everything.write([Update(Nic, nic.id, {"host": "", "state": ""})])
    eventually(lambda: world.shows(full))
    assert conditions and all(one == conditions[0] for one in conditions)
    assert world.watch() == WITH_MINE


def test_what_the_agent_sees_shrinks_again(world: World) -> None:
    full = world.watch(PLUGGED[1])
    assert world.watch() == WITH_MINE
    assert world.watch(host="nowhere") == ids(CLOUD)
    assert world.watch(PLUGGED[1]) == full


def test_insync_waits_for_all_rounds(world: World) -> None:
    arrived: list[bool] = []
    replica = world.agent.replica
    replica.on_change(lambda _: arrived.append(replica.insync and replica.count(Member) < len(PEERS)))
    world.watch()
    assert arrived and not any(arrived)


def test_the_end_of_a_change_is_told_even_if_it_brings_nothing(world: World) -> None:
    full = world.watch(MINE[1])
    told: list[bool] = []
    world.agent.replica.on_change(lambda _: told.append(world.agent.replica.insync))
    assert world.watch() == full
    eventually(lambda: told and told[-1])


def test_a_rule_brings_its_peers_and_takes_them_along(world: World) -> None:
    before = world.watch()
    added = rule(OWN, STRANGER, port=443)
    visitor = THERE.machine(TENANTS[5], STRANGER)
    world.everything.write([Insert(row) for row in (added, *visitor)])
    eventually(lambda: world.shows(before | ids(added, STRANGER, TENANTS[2], visitor[3])))
    world.everything.write([Delete(type(row), row.id) for row in (added, *reversed(visitor))])
    eventually(lambda: world.shows(before))


def test_a_nic_that_moves_here_brings_its_rows(world: World) -> None:
    before = world.watch()
    world.everything.write([Update(Nic, PEERS[0][1].id, {"host": "h1"})])
    expected = (
        before | ids(PEERS[0], THERE.rows) | {one.id for one in world.everything.replica.find(Rule, group=PEER.id)}
    )
    expected |= ids(STRANGER, TENANTS[2])
    eventually(lambda: world.shows(expected))
    world.everything.write([Update(Nic, PEERS[0][1].id, {"host": "h2"})])
    eventually(lambda: world.shows(before))


def test_foreign_changes_do_not_reach_the_agent(world: World) -> None:
    world.watch()
    heard: list[object] = []
    world.agent.replica.on_change(heard.append)
    others = world.everything.replica.find(Nic, host="h7")
    world.everything.write([Update(Nic, nic.id, {"state": "up"}) for nic in others])
    world.agent.write([Update(Host, HOSTS[0].id, {"seen": 5})])
    assert heard == [frozenset({(Host, HOSTS[0].id)})]
    assert world.agent.replica.one(Host, name="h1") == replace(HOSTS[0], seen=5)
    world.everything.write(
        [Update(Host, HOSTS[0].id, {"seen": 0}), *(Update(Nic, n.id, {"state": ""}) for n in others)]
    )


def test_an_interest_may_change_while_rounds_run_and_while_the_server_is_away(world: World) -> None:
    for turn in range(30):
        world.interest.watch(host="h1", nics=frozenset({PLUGGED[1].id} if turn % 2 else ()))
    assert world.agent.wait_insync(30)
    with_plugged = world.seen()
    world.server.stop()
    eventually(lambda: not world.agent.connected)
    world.interest.watch(host="h1", nics=frozenset())
    assert not world.agent.replica.insync
    offline(world.server, {"op": "update", "table": "Cloud", "where": where(CLOUD), "row": {"sequence": 1}})
    world.server.start()
    assert world.agent.wait_insync(30) and world.everything.wait_insync(30)
    assert with_plugged > world.seen() == WITH_MINE
    online(world.server, {"op": "update", "table": "Cloud", "where": where(CLOUD), "row": {"sequence": 0}})
    eventually(lambda: world.agent.replica.get(Cloud, CLOUD.id) == CLOUD)
    assert {kind: set(rows) for kind, rows in truth(world.server).items()} == {
        kind: set(rows) for kind, rows in held(world.everything).items()
    }


def test_a_nameless_host_is_refused() -> None:
    with pytest.raises(ValueError, match="host"):
        Interest().watch(host="", nics=frozenset())
