# SPDX-License-Identifier: Apache-2.0
"""Zones, pods, ranges, VMs, NICs and addresses."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from sgctl.model import Address, Group, Member, Nic, member_id
from sgctl.quotas import Quotas
from sgctl.store import Update
from tests.unit.api_memory import NOW, Client, Cloud, deploy, deploy_params

ZONE = {"name": "z", "dns1": "192.0.2.1", "internaldns1": "192.0.2.2", "networktype": "Basic"}
POD = {"name": "p", "gateway": "10.0.0.1", "netmask": "255.255.255.0", "startip": "10.0.0.2", "endip": "10.0.0.9"}
RANGE4 = {"startip": "10.0.0.10", "endip": "10.0.0.20"}
RANGE6 = {"ip6cidr": "fd00::/64", "ip6gateway": "fd00::1", "startipv6": "fd00::10", "endipv6": "fd00::ff"}


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def zone(cloud: Cloud) -> Any:
    zone = cloud.zone()
    cloud.pod(zone, ipv6=True)
    return zone


@pytest.fixture
def user(cloud: Cloud) -> Client:
    client = cloud.account("web")
    for name in ("a", "b"):
        client.ok("createSecurityGroup", name=name)
    return client


def check_members(cloud: Cloud) -> None:
    """Member rows are exactly what groups and addresses of the NICs say."""
    reads = cloud.memory.replica
    expected = {
        Member(id=member_id(group, row.address), group=group, nic=nic.id, address=row.address)
        for nic in reads.all(Nic)
        for row in reads.find(Address, nic=nic.id)
        for group in nic.groups
    }
    assert set(reads.all(Member)) == expected
    assert all(nic.groups for nic in reads.all(Nic))


def report(cloud: Cloud, vm: Any, host: str) -> None:
    """What an agent writes when it has the VM's port, or has it no longer."""
    for nic in cloud.memory.replica.find(Nic, vm=vm["id"]):
        cloud.memory.write([Update(Nic, nic.id, {"host": host, "state": "up" if host else ""})])


def state(client: Client, vm: Any) -> str:
    return str(client.ok("listVirtualMachines", id=vm["id"])["virtualmachine"][0]["state"])


@pytest.mark.parametrize(
    "changes",
    [
        {"networktype": "Advanced"},
        {"dns1": "dns.example"},
        {"internaldns1": "0.0.0.0"},
        {"dns2": "224.0.0.1"},
        {"internaldns2": "fe80::1%eth0"},
        {"guestcidraddress": "10.0.0.0"},
        {"guestcidraddress": "fd00::/8"},
    ],
    ids=str,
)
def test_a_bad_zone(cloud: Cloud, changes: dict[str, str]) -> None:
    assert cloud.admin.refused("createZone", **{**ZONE, **changes})[0] == 431
    cloud.admin.ok("createZone", **ZONE)
    assert cloud.admin.refused("createZone", **ZONE)[0] == 431


@pytest.mark.parametrize(
    "changes",
    [
        {"gateway": "10.0.0.0"},
        {"gateway": "10.0.0.255"},
        {"gateway": "fd00::1"},
        {"netmask": "255.0.255.0"},
        {"netmask": "0.0.0.255"},
        {"netmask": "24"},
        {"netmask": "255.255.255.255"},
        {"netmask": "0.0.0.0"},
        {"startip": "10.0.1.2"},
        {"startip": "10.0.0.0"},
        {"startip": "10.0.0.10"},
        {"endip": "10.0.0.255"},
        {"dhcpservers": "10.0.0.2,x"},
        {"dnsservers": "fe80::1%eth0"},
        {"zoneid": "7cc5c9e0-dd26-5b95-8df3-d973291584de"},
    ],
    ids=str,
)
def test_a_bad_pod(cloud: Cloud, changes: dict[str, str]) -> None:
    good = {**POD, "zoneid": cloud.admin.ok("createZone", **ZONE)["zone"]["id"]}
    assert cloud.admin.refused("createPod", **{**good, **changes})[0] == 431
    cloud.admin.ok("createPod", **good, dhcpservers="10.0.0.2,fe80::1")
    assert cloud.admin.refused("createPod", **good)[0] == 431
    overlapping = {**good, "name": "q", "netmask": "255.255.0.0"}
    assert "overlaps" in cloud.admin.refused("createPod", **overlapping)[1]


@pytest.mark.parametrize(
    "span",
    [
        {},
        {"startip": "10.0.1.10"},
        {"startip": "10.0.0.0", "endip": "10.0.0.3"},
        {"startip": "10.0.0.250", "endip": "10.0.0.255"},
        {"startip": "10.0.0.20", "endip": "10.0.0.10"},
        {"startip": "fd00::1"},
        {"endip": "10.0.0.20"},
        {"startipv6": "fd00::10"},
        {**RANGE6, "ip6cidr": "10.0.0.0/8"},
        {**RANGE6, "ip6cidr": "ff02::/64"},
        {**RANGE6, "ip6gateway": "fd01::1"},
        {**RANGE6, "startipv6": "fd00::"},
        {**RANGE6, "endipv6": "fd00:0:0:1::"},
        {**RANGE6, "startipv6": "10.0.0.10"},
        {**RANGE4, "vlan": "7"},
        {**RANGE4, "forvirtualnetwork": "true"},
        {**RANGE4, "podid": "7cc5c9e0-dd26-5b95-8df3-d973291584de"},
        {**RANGE4, "networkid": "7cc5c9e0-dd26-5b95-8df3-d973291584de"},
    ],
    ids=str,
)
def test_a_bad_range(cloud: Cloud, span: dict[str, str]) -> None:
    zone = cloud.admin.ok("createZone", **ZONE)["zone"]["id"]
    pod = cloud.admin.ok("createPod", **POD, zoneid=zone)["pod"]["id"]
    assert cloud.admin.refused("createVlanIpRange", **{"podid": pod, **span})[0] == 431
    cloud.admin.ok("createVlanIpRange", zoneid=zone, **RANGE4, **RANGE6)
    assert "overlaps" in cloud.admin.refused("createVlanIpRange", startip="10.0.0.20")[1]
    cloud.admin.ok("createVlanIpRange", startip="10.0.0.21")
    assert cloud.admin.ok("listVlanIpRanges", podid=pod)["count"] == 2


def test_a_vm_is_recorded(cloud: Cloud, zone: Any, user: Client) -> None:
    params = deploy_params(user, zone, name="web1", displayname="Web №1", securitygroupnames="a,B")
    answer = user.call("deployVirtualMachine", **params)
    assert set(answer.content) == {"id", "jobid"}
    (vm,) = user.ok("listVirtualMachines")["virtualmachine"]
    assert (vm["id"], vm["name"], vm["displayname"], vm["state"]) == (
        answer.content["id"],
        "web1",
        "Web №1",
        "Starting",
    )
    assert {group["name"] for group in vm["securitygroup"]} == {"a", "b"}
    (nic,) = vm["nic"]
    assert nic["macaddress"].startswith("02:")
    assert ip_address(nic["ipaddress"]) in [ip_address("10.2.0.10") + n for n in range(100)]
    assert (nic["gateway"], nic["netmask"]) == ("10.2.0.1", "255.255.255.0")
    assert (nic["ip6gateway"], nic["ip6cidr"]) == ("fd00:2::1", "fd00:2::/64")
    assert nic["secondaryip"] == []
    check_members(cloud)


def test_without_groups_a_vm_is_in_the_default_group(cloud: Cloud, zone: Any, user: Client) -> None:
    vm = deploy(user, zone)
    assert [group["name"] for group in vm["securitygroup"]] == ["default"]
    check_members(cloud)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"templateid": "7cc5c9e0-dd26-5b95-8df3-d973291584de"}, 431),
        ({"serviceofferingid": "7cc5c9e0-dd26-5b95-8df3-d973291584de"}, 431),
        ({"zoneid": "7cc5c9e0-dd26-5b95-8df3-d973291584de"}, 431),
        ({"podid": "7cc5c9e0-dd26-5b95-8df3-d973291584de"}, 431),
        ({"networkids": "7cc5c9e0-dd26-5b95-8df3-d973291584de"}, 431),
        ({"securitygroupids": "7cc5c9e0-dd26-5b95-8df3-d973291584de"}, 431),
        ({"securitygroupnames": "c"}, 431),
        ({"name": "web_1"}, 431),
        ({"name": "-web"}, 431),
        ({"name": "a" * 64}, 431),
        ({"ipaddress": "10.2.0"}, 431),
        ({"ipaddress": "10.2.0.2"}, 530),
        ({"ipaddress": "10.9.0.2"}, 530),
        ({"ip6address": "fd00:2::1"}, 530),
        ({"ip6address": "10.2.0.20"}, 431),
        ({"macaddress": "01:00:00:00:00:01"}, 431),
        ({"macaddress": "00:00:00:00:00:00"}, 431),
        ({"macaddress": "02:00:00:00:00"}, 431),
        ({"startvm": "maybe"}, 431),
    ],
    ids=str,
)
def test_a_bad_vm(cloud: Cloud, zone: Any, user: Client, changes: dict[str, str], code: int) -> None:
    writes = cloud.memory.writes
    assert user.refused("deployVirtualMachine", **deploy_params(user, zone, **changes))[0] == code
    assert cloud.memory.writes == writes


def test_addresses_and_macs_are_ones_own(cloud: Cloud, zone: Any, user: Client) -> None:
    chosen = {"ipaddress": "10.2.0.77", "ip6address": "FD00:2::77", "macaddress": "52-54-00-AA-BB-CC"}
    (nic,) = deploy(user, zone, name="one", **chosen)["nic"]
    assert (nic["ipaddress"], nic["ip6address"], nic["macaddress"]) == (
        "10.2.0.77",
        "fd00:2::77",
        "52:54:00:aa:bb:cc",
    )
    for name, value in chosen.items():
        assert user.refused("deployVirtualMachine", **deploy_params(user, zone, **{name: value}))[0] in (431, 530)
    assert user.refused("deployVirtualMachine", **deploy_params(user, zone, name="one"))[0] == 431


def test_a_pod_is_filled_to_the_last_address_and_then_the_next(cloud: Cloud, user: Client) -> None:
    zone = cloud.zone()
    first, second = cloud.pod(zone, size=3), cloud.pod(zone, size=2)
    vms = [deploy(user, zone) for _ in range(5)]
    assert [vm["podid"] for vm in vms] == [first["id"]] * 3 + [second["id"]] * 2
    assert len({vm["nic"][0]["ipaddress"] for vm in vms}) == 5
    assert user.refused("deployVirtualMachine", **deploy_params(user, zone))[0] == 533
    user.ok("destroyVirtualMachine", id=vms[0]["id"])
    assert deploy(user, zone)["nic"][0]["ipaddress"] == vms[0]["nic"][0]["ipaddress"]


def test_routers_and_servers_keep_their_addresses(cloud: Cloud, user: Client) -> None:
    zone = cloud.admin.ok("createZone", **{**ZONE, "internaldns1": "10.0.0.12"})["zone"]
    cloud.admin.ok("createPod", **{**POD, "gateway": "10.0.0.10"}, zoneid=zone["id"], dhcpservers="10.0.0.11")
    cloud.admin.ok("createVlanIpRange", startip="10.0.0.10", endip="10.0.0.13")
    assert deploy(user, zone)["nic"][0]["ipaddress"] == "10.0.0.13"
    assert user.refused("deployVirtualMachine", **deploy_params(user, zone))[0] == 533


def test_the_state_follows_the_agents(cloud: Cloud, zone: Any, user: Client) -> None:
    vm = deploy(user, zone, startvm="false")
    assert state(user, vm) == "Stopped"
    user.ok("startVirtualMachine", id=vm["id"])
    assert state(user, vm) == "Starting"
    report(cloud, vm, "h1")
    assert state(user, vm) == "Running"
    first, second = cloud.hosts
    (shown,) = cloud.admin.ok("listVirtualMachines", listall="true", hostid=first.id)["virtualmachine"]
    assert (shown["hostid"], shown["hostname"]) == (first.id, "h1")
    assert "hostid" not in user.ok("listVirtualMachines")["virtualmachine"][0]
    cloud.admin.ok("migrateVirtualMachine", virtualmachineid=vm["id"], hostid=second.id)
    assert state(user, vm) == "Migrating"
    report(cloud, vm, "h2")
    assert state(user, vm) == "Running"
    user.ok("rebootVirtualMachine", id=vm["id"])
    user.ok("stopVirtualMachine", id=vm["id"])
    assert state(user, vm) == "Stopping"
    report(cloud, vm, "")
    assert state(user, vm) == "Stopped"
    assert user.refused("rebootVirtualMachine", id=vm["id"])[0] == 431


def test_a_destroyed_vm_frees_everything(cloud: Cloud, zone: Any, user: Client) -> None:
    vm = deploy(user, zone, securitygroupnames="a")
    user.ok("addIpToNic", nicid=vm["nic"][0]["id"])
    assert user.ok("destroyVirtualMachine", id=vm["id"])["virtualmachine"]["state"] == "Destroyed"
    check_members(cloud)
    assert cloud.memory.replica.all(Nic) == cloud.memory.replica.all(Address) == []
    user.ok("deleteSecurityGroup", name="a")
    assert user.ok("listVirtualMachines") == {}
    assert state(cloud.admin, vm) == "Destroyed"
    assert user.refused("startVirtualMachine", id=vm["id"])[0] == 431
    user.ok("destroyVirtualMachine", id=vm["id"], expunge="true")
    assert cloud.admin.ok("listVirtualMachines", id=vm["id"]) == {}


def test_groups_of_a_running_vm_change(cloud: Cloud, zone: Any, user: Client) -> None:
    vm = deploy(user, zone, securitygroupnames="a")
    user.ok("addIpToNic", nicid=vm["nic"][0]["id"])
    report(cloud, vm, "h1")
    ids = {group["name"]: group["id"] for group in user.ok("listSecurityGroups")["securitygroup"]}
    changed = user.ok("updateVirtualMachine", id=vm["id"], securitygroupids=f"{ids['b']},{ids['default']}")
    assert {group["name"] for group in changed["virtualmachine"]["securitygroup"]} == {"b", "default"}
    check_members(cloud)
    (group,) = user.ok("listSecurityGroups", securitygroupname="b")["securitygroup"]
    assert (group["virtualmachinecount"], group["virtualmachineids"]) == (1, [vm["id"]])
    assert {g["name"] for g in user.ok("listSecurityGroups", virtualmachineid=vm["id"])["securitygroup"]} == {
        "b",
        "default",
    }
    assert user.ok("listVirtualMachines", securitygroupid=ids["b"])["count"] == 1
    assert user.ok("listVirtualMachines", securitygroupid=ids["a"]) == {}


def test_secondary_addresses(cloud: Cloud, zone: Any, user: Client) -> None:
    vm = deploy(user, zone, ipaddress="10.2.0.50", securitygroupnames="a,b")
    nic = vm["nic"][0]["id"]
    four = user.ok("addIpToNic", nicid=nic, ipaddress="10.2.0.60", description="vip")["nicsecondaryip"]
    six = user.ok("addIpToNic", nicid=nic, ipaddress="fd00:2::60")["nicsecondaryip"]
    assert (four["ipaddress"], four["virtualmachineid"], four["nicid"]) == ("10.2.0.60", vm["id"], nic)
    check_members(cloud)
    (shown,) = user.ok("listNics", virtualmachineid=vm["id"])["nic"]
    assert [row["ipaddress"] for row in shown["secondaryip"]] == ["10.2.0.60", "fd00:2::60"]
    for taken in ("10.2.0.60", "10.2.0.50", "10.2.0.1", "10.2.0.2", "10.3.0.1"):
        code, text = user.refused("addIpToNic", nicid=nic, ipaddress=taken)
        assert (code, text.startswith("Failed to assign")) == (530, True)
    assert user.refused("addIpToNic", nicid=nic, ipaddress="10.2.0")[0] == 431
    assert user.refused("addIpToNic", nicid=vm["id"], ipaddress="10.2.0.61")[0] == 431
    user.ok("removeIpFromNic", id=six["id"])
    assert user.refused("removeIpFromNic", id=six["id"])[0] == 431
    (primary,) = cloud.memory.replica.find(Address, address="10.2.0.50")
    assert user.refused("removeIpFromNic", id=primary.id)[0] == 431
    check_members(cloud)


def test_another_primary_address_only_while_stopped(cloud: Cloud, zone: Any, user: Client) -> None:
    vm = deploy(user, zone)
    nic = vm["nic"][0]["id"]
    assert user.refused("updateVmNicIp", nicid=nic, ipaddress="10.2.0.60")[0] == 431
    user.ok("stopVirtualMachine", id=vm["id"])
    changed = user.ok("updateVmNicIp", nicid=nic, ipaddress="10.2.0.60")["virtualmachine"]
    assert changed["nic"][0]["ipaddress"] == "10.2.0.60"
    assert changed["nic"][0]["ip6address"] == vm["nic"][0]["ip6address"]
    check_members(cloud)


def test_quotas_of_a_nic() -> None:
    cloud = Cloud(quotas=Quotas(addresses_per_nic=2, groups_per_nic=1))
    zone = cloud.zone()
    cloud.pod(zone)
    user = cloud.account("web")
    user.ok("createSecurityGroup", name="a")
    nic = deploy(user, zone)["nic"][0]["id"]
    user.ok("addIpToNic", nicid=nic)
    assert user.refused("addIpToNic", nicid=nic)[0] == 431
    params = deploy_params(user, zone, securitygroupnames="a,default")
    assert user.refused("deployVirtualMachine", **params)[0] == 532
    (vm,) = user.ok("listVirtualMachines")["virtualmachine"]
    assert user.refused("updateVirtualMachine", id=vm["id"], securitygroupnames="a,default")[0] == 532
    user.ok("updateVirtualMachine", id=vm["id"], securitygroupnames="a")


def test_deleting_an_account_leaves_nothing_of_it(cloud: Cloud, zone: Any, user: Client) -> None:
    before = {kind: set(cloud.memory.replica.all(kind)) for kind in cloud.memory.replica.kinds}
    other = cloud.account("other")
    deploy(other, zone)
    other.ok("createSecurityGroup", name="x")
    cidr = {"cidrlist": "10.0.0.0/8"}
    user.ok("authorizeSecurityGroupIngress", securitygroupname="a", usersecuritygrouplist="x", account="other")
    other.ok("authorizeSecurityGroupIngress", securitygroupname="x", usersecuritygrouplist="a", account="web", **cidr)
    assert cloud.admin.refused("deleteAccount", id=other.account.id)[0] == 536
    rule = user.ok("listSecurityGroups", securitygroupname="a")["securitygroup"][0]["ingressrule"][0]
    user.ok("revokeSecurityGroupIngress", id=rule["ruleid"])
    cloud.admin.ok("deleteAccount", id=other.account.id)
    assert other.call("listZones").status == 401
    after = {kind: set(cloud.memory.replica.all(kind)) for kind in before}
    after[Group] = {replace(group, grown=0) for group in cloud.memory.replica.all(Group)}
    changed = {kind.TABLE for kind in before if after[kind] != before[kind]}
    assert changed == {"Job"}
    assert all(job.account != other.account.id for job in after[next(k for k in after if k.TABLE == "Job")])
    assert cloud.admin.refused("deleteAccount", id=cloud.admin.account.id)[0] == 531


def test_hosts_are_up_while_their_agents_are_heard(cloud: Cloud) -> None:
    first, second = cloud.hosts
    cloud.memory.write([Update(type(first), first.id, {"seen": int(NOW * 1000) - 120_000})])
    hosts = cloud.admin.ok("listHosts", type="Routing")["host"]
    assert {host["name"]: host["state"] for host in hosts} == {"h1": "Down", "h2": "Up"}
    assert cloud.admin.ok("listHosts", state="Up")["host"][0]["id"] == second.id
    assert "registers itself" in cloud.admin.refused("addHost")[1]


def test_what_clients_list_before_they_deploy(cloud: Cloud, zone: Any, user: Client) -> None:
    (shown,) = user.ok("listZones", name=zone["name"])["zone"]
    assert (shown["networktype"], shown["securitygroupsenabled"]) == ("Basic", True)
    (network,) = user.ok("listNetworks", zoneid=zone["id"])["network"]
    (offering,) = user.ok("listNetworkOfferings", id=network["networkofferingid"])["networkoffering"]
    assert (network["type"], offering["guestiptype"]) == ("Shared", "Shared")
    (template,) = user.ok("listTemplates", templatefilter="executable", zoneid=zone["id"])["template"]
    assert {"hypervisor", "format", "ostypename", "displaytext"} <= template.keys()
    (service,) = user.ok("listServiceOfferings")["serviceoffering"]
    assert {"cpunumber", "memory"} <= service.keys()
    assert [domain["path"] for domain in user.ok("listDomains")["domain"]] == ["ROOT"]
    assert user.ok("listRegions", id=1)["region"][0]["id"] == 1
    assert user.ok("listCapabilities")["capability"]["securitygroupsenabled"] is True


def test_vms_of_a_host_that_is_down_are_unknown(cloud: Cloud, zone: Any, user: Client) -> None:
    first, second = cloud.hosts
    lost, kept = (deploy(user, zone, name=name) for name in ("lost", "kept"))
    report(cloud, lost, first.name)
    report(cloud, kept, second.name)
    cloud.memory.write([Update(type(first), first.id, {"seen": int(NOW * 1000) - 120_000})])
    listed = cloud.admin.ok("listVirtualMachines", listall="true")["virtualmachine"]
    assert {vm["name"]: vm["state"] for vm in listed} == {"lost": "Unknown", "kept": "Running"}
    found = cloud.admin.ok("listVirtualMachines", listall="true", state="Unknown")["virtualmachine"]
    assert [vm["name"] for vm in found] == ["lost"]
