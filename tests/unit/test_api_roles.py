# SPDX-License-Identifier: Apache-2.0
"""Who may do what: every command for every role, and every command on what belongs to another account."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from sgctl.api.catalogue import catalogue
from sgctl.model import Key
from tests.unit.api_memory import Client, Cloud, deploy, deploy_params

ADMIN_ONLY = {
    "addAllowedAddressToNic",
    "addHost",
    "createAccount",
    "createBarrier",
    "createPod",
    "createUser",
    "createVlanIpRange",
    "createZone",
    "deleteAccount",
    "deletePod",
    "deleteUser",
    "deleteZone",
    "listHosts",
    "listPods",
    "listPorts",
    "listVlanIpRanges",
    "migrateVirtualMachine",
    "removeAllowedAddressFromNic",
}
EVERYBODY = {
    "addIpToNic",
    "authorizeSecurityGroupEgress",
    "authorizeSecurityGroupIngress",
    "createSecurityGroup",
    "deleteSecurityGroup",
    "deployVirtualMachine",
    "destroyVirtualMachine",
    "getUser",
    "listAccounts",
    "listAllowedAddresses",
    "listAffinityGroups",
    "listApis",
    "listAsyncJobs",
    "listCapabilities",
    "listDomains",
    "listFirewallRules",
    "listGlobalLoadBalancerRules",
    "listIpForwardingRules",
    "listLoadBalancerRuleInstances",
    "listLoadBalancerRules",
    "listNetworkOfferings",
    "listNetworks",
    "listNics",
    "listPortForwardingRules",
    "listProjects",
    "listPublicIpAddresses",
    "listRegions",
    "listSSHKeyPairs",
    "listSecurityGroups",
    "listServiceOfferings",
    "listSnapshots",
    "listTags",
    "listTemplates",
    "listUsers",
    "listVirtualMachines",
    "listVolumes",
    "listZones",
    "queryAsyncJobResult",
    "rebootVirtualMachine",
    "registerUserKeys",
    "removeIpFromNic",
    "revokeSecurityGroupEgress",
    "revokeSecurityGroupIngress",
    "startVirtualMachine",
    "stopVirtualMachine",
    "updateSecurityGroup",
    "updateVirtualMachine",
    "updateVmNicIp",
}


class World:
    """Two accounts; `other` owns one of everything."""

    def __init__(self) -> None:
        self.cloud = cloud = Cloud()
        self.mine, self.other = cloud.account("mine"), cloud.account("other")
        self.domain = cloud.account("domain admin", 2)
        self.zone = cloud.zone()
        cloud.pod(self.zone)
        self.group = self.other.ok("createSecurityGroup", name="web")["securitygroup"]["id"]
        self.rules = {way: self.rule(way) for way in ("Ingress", "Egress")}
        self.vm = deploy(self.other, self.zone, name="vm1")
        self.nic = self.vm["nic"][0]["id"]
        self.address = self.other.ok("addIpToNic", nicid=self.nic)["nicsecondaryip"]["id"]
        self.job = self.other.call("stopVirtualMachine", id=self.vm["id"]).content["jobid"]
        self.other.ok("startVirtualMachine", id=self.vm["id"])

    def rule(self, way: str) -> str:
        answer = self.other.ok(f"authorizeSecurityGroup{way}", securitygroupid=self.group, cidrlist="192.0.2.0/24")
        return str(answer["securitygroup"][f"{way.lower()}rule"][0]["ruleid"])


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_the_table_is_complete() -> None:
    assert {command.name for command in catalogue()} == ADMIN_ONLY | EVERYBODY


@pytest.mark.parametrize(("kind", "admin"), [(0, False), (1, True), (2, False)], ids=["user", "root", "domain"])
def test_commands_of_a_role(world: World, kind: int, admin: bool) -> None:
    client = world.cloud.account(f"role{kind}", kind)
    assert {api["name"] for api in client.ok("listApis")["api"]} == (EVERYBODY | ADMIN_ONLY if admin else EVERYBODY)
    for name in ADMIN_ONLY | EVERYBODY:
        status = client.call(name).status
        assert (status == 401) == (name in ADMIN_ONLY and not admin), name


def test_parameters_of_admins_do_not_exist_for_users(world: World) -> None:
    def params(client: Client) -> set[str]:
        (api,) = client.ok("listApis", name="deployVirtualMachine")["api"]
        return {param["name"] for param in api["params"]}

    assert params(world.cloud.admin) - params(world.mine) == {"hostid"}


#: On what belongs to another account: the call, and what can be put back afterwards does not matter to the refused.
OTHERS: dict[str, Callable[[World], dict[str, Any]]] = {
    "addIpToNic": lambda w: {"nicid": w.nic},
    "authorizeSecurityGroupEgress": lambda w: {"securitygroupid": w.group, "cidrlist": "10.0.0.0/8"},
    "authorizeSecurityGroupIngress": lambda w: {"securitygroupid": w.group, "cidrlist": "10.0.0.0/8"},
    "createSecurityGroup": lambda w: {"name": "x", "account": "other"},
    "deleteSecurityGroup": lambda w: {"id": w.group},
    "deployVirtualMachine": lambda w: deploy_params(w.mine, w.zone, account="other"),
    "destroyVirtualMachine": lambda w: {"id": w.vm["id"]},
    "getUser": lambda w: {"userapikey": w.other.key.api_key},
    "listAllowedAddresses": lambda w: {"nicid": w.nic},
    "listNics": lambda w: {"virtualmachineid": w.vm["id"]},
    "listSecurityGroups": lambda w: {"account": "other"},
    "listUsers": lambda w: {"account": "other"},
    "listVirtualMachines": lambda w: {"account": "other"},
    "listAsyncJobs": lambda w: {"account": "other"},
    "queryAsyncJobResult": lambda w: {"jobid": w.job},
    "rebootVirtualMachine": lambda w: {"id": w.vm["id"]},
    "registerUserKeys": lambda w: {"id": w.other.user.id},
    "removeIpFromNic": lambda w: {"id": w.address},
    "revokeSecurityGroupEgress": lambda w: {"id": w.rules["Egress"]},
    "revokeSecurityGroupIngress": lambda w: {"id": w.rules["Ingress"]},
    "startVirtualMachine": lambda w: {"id": w.vm["id"]},
    "stopVirtualMachine": lambda w: {"id": w.vm["id"]},
    "updateSecurityGroup": lambda w: {"id": w.group, "name": "x"},
    "updateVirtualMachine": lambda w: {"id": w.vm["id"], "displayname": "x"},
    "updateVmNicIp": lambda w: {"nicid": w.nic},
}
NOBODYS = {name for name in EVERYBODY if name.startswith("list")} - OTHERS.keys()


def test_the_table_of_others_is_complete() -> None:
    assert OTHERS.keys() | NOBODYS == EVERYBODY


@pytest.mark.parametrize("who", ["mine", "domain"])
@pytest.mark.parametrize("name", sorted(OTHERS))
def test_nobody_uses_what_is_anothers(world: World, name: str, who: str) -> None:
    writes = world.cloud.memory.writes
    assert getattr(world, who).refused(name, **OTHERS[name](world))[0] == 531
    assert world.cloud.memory.writes == writes


@pytest.mark.parametrize("who", ["owner", "root admin"])
@pytest.mark.parametrize("name", sorted(OTHERS))
def test_the_owner_and_a_root_admin_may(name: str, who: str) -> None:
    world = World()
    client = world.other if who == "owner" else world.cloud.admin
    assert client.call(name, **OTHERS[name](world)).status == 200


def test_groups_of_another_account(world: World) -> None:
    params = deploy_params(world.mine, world.zone, securitygroupids=world.group)
    assert world.mine.refused("deployVirtualMachine", **params)[0] == 531
    vm = deploy(world.mine, world.zone)
    assert world.mine.refused("updateVirtualMachine", id=vm["id"], securitygroupids=world.group)[0] == 531


@pytest.mark.parametrize("wide", [{}, {"listall": "true"}, {"listall": "true", "isrecursive": "true"}], ids=str)
@pytest.mark.parametrize(
    ("command", "key"),
    [
        ("listSecurityGroups", "securitygroup"),
        ("listVirtualMachines", "virtualmachine"),
        ("listAccounts", "account"),
        ("listUsers", "user"),
    ],
)
def test_users_list_their_own(world: World, command: str, key: str, wide: dict[str, str]) -> None:
    deploy(world.mine, world.zone)
    items = world.mine.ok(command, **wide)[key]
    assert items
    assert {item.get("account") or item["name"] for item in items} == {"mine"}


@pytest.mark.parametrize("command", ["listSecurityGroups", "listVirtualMachines"])
def test_an_id_does_not_widen_a_users_list(world: World, command: str) -> None:
    id = world.group if command == "listSecurityGroups" else world.vm["id"]
    assert world.mine.ok(command, id=id, listall="true") == {}
    assert world.cloud.admin.ok(command, id=id)["count"] == 1


def test_what_an_admin_lists(world: World) -> None:
    admin = world.cloud.admin
    own = admin.ok("listSecurityGroups")["securitygroup"]
    everybody = admin.ok("listSecurityGroups", listall="true")["securitygroup"]
    other = admin.ok("listSecurityGroups", account="Other")["securitygroup"]
    assert {group["account"] for group in own} == {"admin"}
    assert {group["account"] for group in everybody} >= {"admin", "mine", "other"}
    assert {group["account"] for group in other} == {"other"}


def test_lists_never_create(world: World) -> None:
    writes = world.cloud.memory.writes
    for name in sorted(EVERYBODY | ADMIN_ONLY):
        if name.startswith(("list", "get", "query")):
            world.cloud.admin.call(name, projectid="7cc5c9e0-dd26-5b95-8df3-d973291584de", account="nobody")
    assert world.cloud.memory.writes == writes


def test_no_answer_and_no_log_line_has_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    caplog.set_level(logging.DEBUG)
    secrets = [key.secret for key in world.cloud.memory.replica.all(Key)]
    for client in (world.mine, world.cloud.admin):
        for command in catalogue():
            params = OTHERS.get(command.name, lambda _: {"listall": "true", "templatefilter": "all"})(world)
            content = client.call(command.name, **params).content if command.name != "registerUserKeys" else {}
            assert not any(secret in repr(content) for secret in secrets), command.name
    assert "listUsers" in caplog.text
    assert not any(secret in caplog.text for secret in secrets)


def test_keys_are_rotated(world: World) -> None:
    client = world.cloud.account("rotating")
    client.ok("registerUserKeys", id=client.user.id)
    assert client.call("listZones").status == 401
    assert world.cloud.admin.call("registerUserKeys", id=client.user.id).status == 200
