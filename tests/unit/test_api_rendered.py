# SPDX-License-Identifier: Apache-2.0
"""Texts of groups that lists keep: whatever happens, they are what would be made now."""

import random
from typing import Any

import pytest

from sgctl.api import rendered, views
from sgctl.api.envelope import dumps
from sgctl.api.rendered import Rendered
from sgctl.model import Group, Nic, Rule, Vm
from sgctl.store import Update
from tests.unit.api_memory import Client, Cloud, deploy


class World:
    """Two accounts that change their groups, rules and VMs at random."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.cloud = Cloud()
        self.zone = self.cloud.zone()
        self.cloud.pod(self.zone)
        self.clients = [self.cloud.account(name) for name in ("web", "operator")]
        self.replica = self.cloud.memory.replica

    def step(self) -> None:
        client = self.random.choice(self.clients)
        actions = (
            self.create, self.delete, self.rename, self.authorize, self.authorize, self.revoke, self.deploy,
            self.regroup, self.report, self.destroy,
        )  # fmt: skip
        self.random.choice(actions)(client)

    def name(self) -> str:
        return f"g{self.random.randrange(4)}"

    def one(self, kind: Any, **columns: Any) -> Any:
        rows = sorted(self.replica.find(kind, **columns), key=lambda row: row.id)
        return self.random.choice(rows) if rows else None

    def create(self, client: Client) -> None:
        client.call("createSecurityGroup", name=self.name())

    def delete(self, client: Client) -> None:
        client.call("deleteSecurityGroup", name=self.name())

    def rename(self, client: Client) -> None:
        client.call("updateSecurityGroup", id=self.one(Group, account=client.account.id).id, name=self.name())

    def authorize(self, client: Client) -> None:
        peer = {"usersecuritygrouplist": self.name(), "account": self.random.choice(["web", "operator"])}
        who = peer if self.random.random() < 0.5 else {"cidrlist": "10.0.0.0/8"}
        way = self.random.choice(["Ingress", "Egress"])
        client.call(f"authorizeSecurityGroup{way}", securitygroupname=self.name(), **who)

    def revoke(self, client: Client) -> None:
        rule = self.one(Rule)
        if rule:
            client.call(f"revokeSecurityGroup{rule.direction.capitalize()}", id=rule.id)

    def deploy(self, client: Client) -> None:
        if len(self.replica.all(Nic)) < 9:
            deploy(client, self.zone)

    def regroup(self, client: Client) -> None:
        vm = self.one(Vm, account=client.account.id)
        if vm:
            client.call("updateVirtualMachine", id=vm.id, securitygroupnames=f"default,{self.name()}")

    def report(self, client: Client) -> None:
        nic = self.one(Nic)
        if nic:
            self.cloud.memory.write([Update(Nic, nic.id, {"host": self.random.choice(["h1", "h2", ""])})])

    def destroy(self, client: Client) -> None:
        vm = self.one(Vm, account=client.account.id)
        if vm:
            client.call("destroyVirtualMachine", id=vm.id)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("most", [3, 1000])
def test_texts_are_never_old(seed: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendered, "MOST", most)
    world = World(seed)
    for _ in range(150):
        world.step()
        for client in (*world.clients, world.cloud.admin):
            shown = client.ok("listSecurityGroups")["securitygroup"]
            assert shown == [views.group(world.replica, world.replica.get(Group, group["id"])) for group in shown]  # type: ignore[arg-type]


def test_nothing_is_left_of_groups_that_are_gone() -> None:
    world = World(1)
    client = world.clients[0]
    texts = Rendered(world.replica)
    for _ in range(3):
        client.ok("createSecurityGroup", name="g")
        peer = {"usersecuritygrouplist": "default", "account": "web"}
        client.ok("authorizeSecurityGroupIngress", securitygroupname="g", **peer)
        (row,) = world.replica.find(Group, account=client.account.id, name_key="g")
        texts.group(row)
        assert texts.kept == 1
        client.ok("deleteSecurityGroup", name="g")
        assert texts.kept == 0


def test_a_text_is_made_once() -> None:
    world = World(1)
    client = world.clients[0]
    client.ok("createSecurityGroup", name="g")
    texts = Rendered(world.replica)
    (row,) = world.replica.find(Group, name_key="g")
    first = texts.group(row)
    assert first == dumps(views.group(world.replica, row))
    client.ok("createSecurityGroup", name="other")
    client.ok("authorizeSecurityGroupIngress", securitygroupname="other", cidrlist="10.0.0.0/8")
    assert texts.group(row) is first
    client.ok("authorizeSecurityGroupIngress", securitygroupname="g", cidrlist="10.0.0.0/8")
    assert texts.group(row) != first
