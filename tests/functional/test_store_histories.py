# SPDX-License-Identifier: Apache-2.0
"""Agents at a database and behind a relay of it see what they must, and nothing else, whatever has happened.

NICs are plugged, claimed by turns, handed over and given up, groups and rules change, several at a time; agents start
anew, the relay and the database are killed. After each round all agents must agree with the database, as a program sees
it that works out by itself what concerns whom. ``SGCTL_ROUNDS`` says how many rounds there are.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import fields, replace
from itertools import count
from pathlib import Path
from random import Random
from threading import RLock
from typing import Any, TypeAlias

import pytest

from sgctl.dbserver import DatabaseServer
from sgctl.errors import StoreError
from sgctl.model import (
    Account,
    Address,
    Cloud,
    Cut,
    Group,
    Handover,
    Host,
    Member,
    Nic,
    Pod,
    Range,
    Row,
    Rule,
    Vm,
    Zone,
    handover_id,
    member_id,
)
from sgctl.store import Database, Delete, Guard, Insert, Interest, Update
from sgctl.store import plugged as plugged_module
from sgctl.store.columns import Kind
from sgctl.store.interest import KINDS, UNSEEN
from tests.functional.store_server import connected, eventually, held, served, truth
from tests.unit.store_rows import Place, account, group, rule, uid

ROUNDS = int(os.environ.get("SGCTL_ROUNDS", "20"))
TENANTS = [account(f"tenant{number}") for number in range(3)]
GROUPS = [group(name, tenant) for tenant in TENANTS for name in ("a", "b", "c")]
PLACES = (Place("east"), Place("west"))
HOSTS = [Host(id=uid(f"h{number}"), name=f"h{number}") for number in range(4)]
CLOUD = Cloud(id=uid("cloud"))
MACHINES = 16
Rows: TypeAlias = dict[Kind, dict[str, Any]]
_serial = count(1)


class Agent:
    """The store of an agent; `told`: what there was when it was last told of a change, and in sync."""

    def __init__(self, host: str, remote: str) -> None:
        self.host, self.remote, self._lock = host, remote, RLock()
        self.nics: frozenset[str] = frozenset()
        self.start()

    def start(self) -> None:
        """Begin with nothing but the ports."""
        with self._lock:
            self.interest, self.told = Interest(), dict[Kind, dict[str, Row]]()
            self.store = store = Database(self.remote, interest=self.interest, deadline=2.0)
            store.replica.on_change(lambda _: self._note(store))
            store.start()
            self.plug(self.nics)

    def _note(self, store: Database) -> None:
        if store.replica.insync and store is self.store:
            self.told = held(store)

    def plug(self, nics: frozenset[str]) -> None:
        """These ports are there, and no others."""
        with self._lock:
            self.nics = nics
            self.interest.watch(host=self.host, nics=nics)

    def nic(self, id: str) -> Nic | None:
        """A NIC, when all is known that is to be known: soon, though nothing else happens."""
        eventually(lambda: not self.store.connected or self.store.wait_insync(0.1))
        return self.store.replica.get(Nic, id)

    def bind(self, id: str, host: str) -> None:
        """Say where a NIC is, unless it is not where we think."""
        known = self.nic(id)
        if known is not None and known.host != host:
            values = {"host": host, "state": "up" if host else "", "since": next(_serial)}
            self.store.write([Update(Nic, id, values)], [Guard(Nic, id, {"host": known.host})])

    def say(self, nic: str, **values: Any) -> None:
        """Let our row about a NIC that moves say this."""
        row = Handover(id=handover_id(nic, self.host), nic=nic, host=self.host, taken=next(_serial), **values)
        if self.store.replica.get(Handover, row.id) is None:
            self.store.write([Insert(row)])
        else:
            told = {"waiting": row.waiting, "to": row.to, "connections": row.connections, "final": row.final}
            self.store.write([Update(Handover, row.id, told | {"taken": row.taken})])

    def agrees(self, everything: Rows) -> bool:
        """Whether it knows, and was told, just what concerns it."""
        expected = concerned(everything, self.host, self.nics)
        return self.store.replica.insync and held(self.store) == expected == self.told


def concerned(rows: Rows, host: str, ports: frozenset[str]) -> Rows:
    """What an agent must see of these rows."""
    left = {row.nic for row in rows[Handover].values() if row.host == host and row.nic}
    nics = [nic for nic in rows[Nic].values() if nic.host == host or nic.id in ports]
    ids, bare = {nic.id for nic in nics}, [nic for nic in nics if not nic.complete]
    own = {id for nic in nics for id in nic.groups}
    peers = {rule.peer for rule in rows[Rule].values() if rule.group in own and rule.peer}
    pods = [rows[Pod][nic.pod] for nic in nics]
    accounts = {nic.account for nic in nics} | {rows[Group][id].account for id in own | peers}
    wanted: dict[Kind, Callable[[Any], bool]] = {
        Cloud: lambda _: True,
        Cut: lambda _: True,
        Zone: lambda row: row.id in {pod.zone for pod in pods},
        Pod: lambda row: row in pods,
        Range: lambda row: row.pod in {pod.id for pod in pods},
        Account: lambda row: row.id in accounts,
        Group: lambda row: row.id in own | peers,
        Rule: lambda row: row.group in own,
        Vm: lambda row: row.id in {nic.vm for nic in bare},
        Nic: lambda row: row.id in ids | left,
        Address: lambda row: row.nic in {nic.id for nic in bare},
        Member: lambda row: row.group in peers,
        Host: lambda row: row.name in {host, *(nic.host for nic in nics)},
        Handover: lambda row: row.host == host or row.nic in ids | left,
    }
    return {kind: {id: _seen(row) for id, row in rows[kind].items() if wanted[kind](row)} for kind in KINDS}


def _seen(row: Row) -> Row:
    unseen = UNSEEN.get(type(row), frozenset())
    values: dict[str, Any] = {one.name: one.default for one in fields(row) if one.name in unseen}
    return replace(row, **values) if unseen else row


class History:
    """A cloud in which things happen by chance."""

    def __init__(self, main: DatabaseServer, relay: DatabaseServer, api: Database, seed: int) -> None:
        self.main, self.relay, self.api = main, relay, api
        self.chance = Random(seed)
        rows = [CLOUD, *(row for place in PLACES for row in place.rows), *TENANTS, *GROUPS, *HOSTS]
        api.write([Insert(row) for row in (*rows, *(row for _ in range(MACHINES) for row in _machine(self.chance)))])
        self.agents = [Agent(host.name, (main, relay)[turn % 2].remote) for turn, host in enumerate(HOSTS)]

    def stop(self) -> None:
        """End the agents."""
        for agent in self.agents:
            agent.store.stop()

    def round(self, *, faults: bool) -> None:
        """Several things at a time; what loses a race or its connection is not done, and that is all."""
        steps = (self.plug, self.unplug, self.take, self.move, self.regroup, self.rule, self.beat, self.birth)
        chosen = self.chance.choices(steps, (1, 1, 1, 2, 1, 1, 1, 1), k=self.chance.choice((1, 2, 4, 6)))
        if faults and self.chance.random() < 0.5:
            chosen[:0] = self.chance.choices((self.anew, self.kill_relay, self.kill_main), (2, 2, 1))
        away = faults and self.chance.random() < 0.2
        with self._relay_away() if away else nullcontext(), ThreadPoolExecutor(len(chosen)) as pool:
            for done in [pool.submit(step, Random(self.chance.random())) for step in chosen]:
                with suppress(StoreError):
                    done.result()
        assert self.api.wait_insync(30)
        self.api.write([Update(Cloud, CLOUD.id, {"asked": next(_serial), "sequence": next(_serial)})], deadline=20)
        eventually(self.agree, 60)

    @contextmanager
    def _relay_away(self) -> Iterator[None]:
        self.relay.stop()
        yield
        self.relay.start()

    def agree(self) -> bool:
        """Whether all know what they must."""
        everything = truth(self.main)
        return held(self.api) == everything and all(agent.agrees(everything) for agent in self.agents)

    def _nic(self, chance: Random) -> Nic:
        return chance.choice(sorted(self.api.replica.all(Nic), key=lambda nic: nic.id))

    def plug(self, chance: Random) -> None:
        """A port comes, and is bound if nobody has its NIC."""
        agent, nic = chance.choice(self.agents), self._nic(chance)
        agent.plug(agent.nics | {nic.id})
        known = agent.nic(nic.id)
        if known is not None and not known.host:
            agent.bind(nic.id, agent.host)

    def unplug(self, chance: Random) -> None:
        """A port goes, and so does the binding."""
        agent = chance.choice(self.agents)
        for nic in sorted(agent.nics)[:2]:
            agent.plug(agent.nics - {nic})
            known = agent.nic(nic)
            if known is not None and known.host == agent.host:
                agent.bind(nic, "")

    def take(self, chance: Random) -> None:
        """Two hypervisors claim one NIC."""
        nic = self._nic(chance)
        for agent in chance.sample(self.agents, 2):
            agent.plug(agent.nics | {nic.id})
            with suppress(StoreError):
                agent.bind(nic.id, agent.host)

    def move(self, chance: Random) -> None:
        """A NIC moves, with what is said about its connections; now and then it stops half-way."""
        nic, (source, target) = self._nic(chance), chance.sample(self.agents, 2)
        source.bind(nic.id, source.host)
        target.plug(target.nics | {nic.id})
        steps: list[Callable[[], None]] = [
            lambda: target.say(nic.id, waiting=True),
            lambda: source.say(nic.id, to=frozenset({target.host}), connections="x" * 3000),
            lambda: target.bind(nic.id, target.host),
            lambda: source.say(nic.id, to=frozenset({target.host}), final=True),
            lambda: source.store.write([Delete(Handover, handover_id(nic.id, source.host))]),
            lambda: target.store.write([Delete(Handover, handover_id(nic.id, target.host))]),
        ]
        for step in steps[: chance.choice((3, 4, 6, 6))]:
            step()

    def regroup(self, chance: Random) -> None:
        """A NIC changes its groups."""
        nic = self._nic(chance)
        row = self.api.replica.one(Address, nic=nic.id)
        if row is None:
            return
        address = row.address
        some = [one.id for one in GROUPS if one.account == nic.account]
        groups = frozenset(chance.sample(some, chance.randint(1, 2)))
        out = [Delete(Member, member_id(id, address)) for id in nic.groups - groups]
        new = [Member(id=member_id(id, address), group=id, nic=nic.id, address=address) for id in groups - nic.groups]
        known = {"copied": nic.revision + 2} if nic.complete and chance.random() < 0.9 else {}
        values = {"groups": groups, "revision": nic.revision + 1, **known}
        change: list[Delete | Insert | Update] = [*out, *map(Insert, new), Update(Nic, nic.id, values)]
        self.api.write(change, [Guard(Nic, nic.id, {"revision": nic.revision})])

    def rule(self, chance: Random) -> None:
        """A rule comes, or goes."""
        made = rule(chance.choice(GROUPS), chance.choice((None, *GROUPS)), port=chance.randint(1, 3))
        there = self.api.replica.get(Rule, made.id) is not None
        self.api.write([Delete(Rule, made.id) if there else Insert(made)])

    def beat(self, chance: Random) -> None:
        """A heartbeat, and the answer to a barrier."""
        agent = chance.choice(self.agents)
        agent.store.write([Update(Host, uid(agent.host), {"seen": next(_serial), "applied": next(_serial)})])

    def birth(self, chance: Random) -> None:
        """A VM is made, or removed."""
        nic = self._nic(chance)
        if chance.random() < 0.5:
            self.api.write([Insert(row) for row in _machine(chance)])
            return
        parts: list[Row] = [*self.api.replica.find(Member, nic=nic.id), *self.api.replica.find(Address, nic=nic.id)]
        self.api.write([*(Delete(type(row), row.id) for row in (*parts, nic)), Delete(Vm, nic.vm)])

    def anew(self, chance: Random) -> None:
        """An agent starts again."""
        agent = chance.choice(self.agents)
        agent.store.stop()
        agent.start()

    def kill_relay(self, _: Random) -> None:
        """The relay dies; its manager starts it again."""
        _kill(self.relay)

    def kill_main(self, _: Random) -> None:
        """The database dies."""
        _kill(self.main)


def _machine(chance: Random) -> tuple[Row, ...]:
    """A VM; the rows of some NICs do not say all about them."""
    tenant = chance.choice(TENANTS)
    groups = chance.sample([one for one in GROUPS if one.account == tenant.id], chance.randint(1, 2))
    vm, nic, address, *members = chance.choice(PLACES).machine(tenant, *groups)
    if chance.random() < 0.8:
        known = frozenset({address.address})
        nic = replace(nic, copied=nic.revision + 1, addresses=known, wanted="Running", vm_name=vm.name)
    return vm, nic, address, *members


def _kill(server: DatabaseServer) -> None:
    killed = server.pid
    if killed is not None:
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: server.pid not in {None, killed})


@contextmanager
def history(directory: Path, seed: int) -> Iterator[History]:
    with ExitStack() as stack:
        main = stack.enter_context(served())
        relay = stack.enter_context(DatabaseServer(directory, relay_of=main.remote))
        made = History(main, relay, stack.enter_context(connected(main)), seed)
        stack.callback(made.stop)
        yield made


@pytest.mark.parametrize("faults", [False, True], ids=["calm", "faults"])
def test_all_agree_after_each_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, faults: bool) -> None:
    monkeypatch.setattr(plugged_module, "GRACE", 0.2)
    with history(tmp_path, seed=7) as made:
        for _ in range(ROUNDS):
            made.round(faults=faults)
