# SPDX-License-Identifier: Apache-2.0
"""A thousand parallel, mixed writes at two servers end in exactly the state that the answers promised."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cs import CloudStack, CloudStackApiException

from tests.functional.api_servers import Server, account, at, catch_up, check_database, deploy, pod, until

CLIENTS = 8
STEPS = 130
REFUSALS = {431, 530, 531, 532, 533, 536}
SPACE = 60
"""Fewer addresses than the clients would like to have."""


@pytest.fixture
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    directory = tmp_path_factory.mktemp("promised")
    with Server(directory / "one") as first, Server(directory / "two", db=first.remote) as second:
        yield first, second


class Tenant:
    """Does random things, at either server, and remembers what was answered."""

    def __init__(self, seed: int, clients: tuple[CloudStack, CloudStack], zone: Any, peers: list[str]) -> None:
        self._random = random.Random(seed)
        self.clients, self._zone, self._peers = clients, zone, peers
        self.groups: dict[str, str] = {"default": ""}
        self.rules: dict[str, set[str]] = {}
        self.vms: dict[str, frozenset[str]] = {}
        self.nics: dict[str, str] = {}
        self.addresses: dict[str, dict[str, str]] = {}
        self.done = 0

    @property
    def _client(self) -> CloudStack:
        return self._random.choice(self.clients)

    def run(self) -> None:
        actions: list[Callable[[], None]] = [
            self.create_group, self.delete_group, self.authorize, self.authorize, self.revoke, self.deploy, self.deploy,
            self.destroy, self.regroup, self.add_address, self.add_address, self.remove_address,
        ]  # fmt: skip
        for _ in range(STEPS):
            try:
                self._random.choice(actions)()
                self.done += 1
            except CloudStackApiException as error:
                assert error.error["errorcode"] in REFUSALS, error

    def _pick(self, things: Any) -> Any:
        return self._random.choice(sorted(things))

    def create_group(self) -> None:
        name = f"g{self._random.randrange(6)}"
        self.groups[name] = self._client.createSecurityGroup(name=name)["securitygroup"]["id"]

    def delete_group(self) -> None:
        name = self._pick(self.groups)
        self._client.deleteSecurityGroup(name=name)
        del self.groups[name]
        self.rules.pop(name, None)

    def authorize(self) -> None:
        name = self._pick(self.groups)
        port = self._random.randrange(1, 9)
        entry = {"account": self._random.choice(self._peers), "group": f"g{self._random.randrange(6)}"}
        peer = {"cidrlist": "10.0.0.0/8"} if self._random.random() < 0.6 else {"usersecuritygrouplist": [entry]}
        answer = self._client.authorizeSecurityGroupIngress(
            securitygroupname=name, protocol="tcp", startport=port, endport=port, **peer, fetch_result=True
        )
        self.rules.setdefault(name, set()).update(rule["ruleid"] for rule in answer["securitygroup"]["ingressrule"])

    def revoke(self) -> None:
        name, rule = self._pick({(name, rule) for name, rules in self.rules.items() for rule in rules} or {("", "")})
        if rule:
            self._client.revokeSecurityGroupIngress(id=rule, fetch_result=True)
            self.rules[name].remove(rule)

    def _some_groups(self) -> frozenset[str]:
        return frozenset(self._random.sample(sorted(self.groups), self._random.randint(1, min(3, len(self.groups)))))

    def deploy(self) -> None:
        groups = self._some_groups()
        vm = deploy(self._client, self._zone, securitygroupnames=",".join(groups))
        self.vms[vm["id"]] = groups
        self.nics[vm["id"]] = vm["nic"][0]["id"]
        self.addresses[vm["id"]] = {vm["nic"][0]["ipaddress"]: ""}

    def destroy(self) -> None:
        if self.vms:
            vm = self._pick(self.vms)
            self._client.destroyVirtualMachine(id=vm, fetch_result=True)
            del self.vms[vm], self.addresses[vm]

    def regroup(self) -> None:
        if self.vms:
            vm, groups = self._pick(self.vms), self._some_groups()
            self._client.updateVirtualMachine(id=vm, securitygroupnames=",".join(groups))
            self.vms[vm] = groups

    def add_address(self) -> None:
        if self.vms:
            vm = self._pick(self.vms)
            added = self._client.addIpToNic(nicid=self.nics[vm], fetch_result=True)["nicsecondaryip"]
            self.addresses[vm][added["ipaddress"]] = added["id"]

    def remove_address(self) -> None:
        all_of_them = {(vm, ip) for vm, ips in self.addresses.items() for ip, id in ips.items() if id}
        if all_of_them:
            vm, ip = self._pick(all_of_them)
            self._client.removeIpFromNic(id=self.addresses[vm][ip], fetch_result=True)
            del self.addresses[vm][ip]

    def check(self, client: CloudStack) -> bool:
        """Whether a server shows what was promised."""
        groups = client.listSecurityGroups(pagesize=-1)["securitygroup"]
        vms = client.listVirtualMachines(pagesize=-1).get("virtualmachine", [])
        shown = {group["name"]: {rule["ruleid"] for rule in group["ingressrule"]} for group in groups}
        return (
            shown == {name: self.rules.get(name, set()) for name in self.groups}
            and {vm["id"]: frozenset(group["name"] for group in vm["securitygroup"]) for vm in vms} == self.vms
            and {vm["id"]: _addresses(vm) for vm in vms} == {vm: set(ips) for vm, ips in self.addresses.items()}
        )


def _addresses(vm: Any) -> set[str]:
    return {vm["nic"][0]["ipaddress"]} | {row["ipaddress"] for row in vm["nic"][0]["secondaryip"]}


def test_parallel_writes_end_as_promised(servers: tuple[Server, Server]) -> None:
    first, second = servers
    admin = first.admin()
    zone = pod(admin, 21, size=SPACE)
    names = [f"tenant{number}" for number in range(CLIENTS)]
    tenants = []
    for number, name in enumerate(names):
        here = account(admin, first.endpoint, name)
        there = CloudStack(endpoint=second.endpoint, key=here.key, secret=here.secret, poll_interval=0.01)
        tenants.append(Tenant(number, (here, there), zone, names))
    catch_up(at(second, admin))
    with ThreadPoolExecutor(CLIENTS) as pool:
        for future in [pool.submit(tenant.run) for tenant in tenants]:
            future.result()
    assert sum(tenant.done for tenant in tenants) > CLIENTS * STEPS / 2
    for tenant in tenants:
        for client in tenant.clients:
            until(lambda tenant=tenant, client=client: tenant.check(client), "what was promised")  # type: ignore[misc]
    taken = [ip for tenant in tenants for ips in tenant.addresses.values() for ip in ips]
    assert len(taken) == len(set(taken)) <= SPACE
    check_database(first)
