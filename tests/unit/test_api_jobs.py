# SPDX-License-Identifier: Apache-2.0
"""Jobs that wait for hypervisors, jobs whose server died, and the sweeping of old ones."""

import time
from dataclasses import replace
from typing import Any

import pytest

from sgctl.api.settings import Settings
from sgctl.api.sweep import end_own_jobs, sweep
from sgctl.model import Cloud as CloudRow
from sgctl.model import Cut, Host, Job, Nic, Vm
from sgctl.store import Insert, Update
from tests.unit.api_memory import NOW, Client, Cloud, deploy

KEEP = Settings()
LATER = int(NOW * 1000) + KEEP.job_keep_ms + 60_000


class World:
    """A group with two running members on two hosts."""

    def __init__(self, **settings: Any) -> None:
        self.cloud = Cloud(**settings)
        self.cloud.memory.write([Insert(CloudRow(id="cloud", sequence=7))])
        zone = self.cloud.zone()
        self.cloud.pod(zone)
        self.user = self.cloud.account("web")
        self.user.ok("createSecurityGroup", name="web")
        for host in self.cloud.hosts:
            vm = deploy(self.user, zone, securitygroupnames="web")
            self.cloud.memory.write([Update(Nic, vm["nic"][0]["id"], {"host": host.name, "state": "up"})])

    def apply(self, host: Host) -> None:
        """What the agent of `host` writes when it has caught up."""
        self.cloud.memory.write([Update(Host, host.id, {"applied": self.asked(host)})])

    def asked(self, host: Host) -> int:
        """The last barrier that the agent of `host` is asked about."""
        (row,) = self.cloud.memory.replica.all(CloudRow)
        return max(row.asked, self.host(host).asked)

    def behind(self, *hosts: Host) -> list[int]:
        """How many barriers ago each of these has been asked, 0 being the last one."""
        (row,) = self.cloud.memory.replica.all(CloudRow)
        return [row.sequence - self.asked(host) for host in hosts]

    def host(self, host: Host) -> Host:
        """The row of `host` as it is now."""
        (row,) = self.cloud.memory.replica.find(Host, name=host.name)
        return row

    def authorize(self) -> str:
        answer = self.user.call(
            "authorizeSecurityGroupIngress", securitygroupname="web", cidrlist="10.0.0.0/8", wait="true"
        )
        return str(answer.content["jobid"])


def finished(user: Client, job: str) -> Any:
    end = time.monotonic() + 30
    while (found := user.ok("queryAsyncJobResult", jobid=job))["jobstatus"] == 0:
        assert "jobresult" not in found
        assert time.monotonic() < end
        time.sleep(0.005)
    return found


def test_a_job_waits_for_all_hosts_concerned() -> None:
    world = World()
    first, second = world.cloud.hosts
    job = world.authorize()
    world.apply(first)
    time.sleep(0.1)
    assert world.user.ok("queryAsyncJobResult", jobid=job)["jobstatus"] == 0
    world.apply(second)
    found = finished(world.user, job)
    assert found["jobstatus"] == 1
    assert found["jobresult"]["hosts"] == 2
    assert found["jobresult"]["milliseconds"] >= 90
    (rule,) = found["jobresult"]["securitygroup"]["ingressrule"]
    revoking = world.user.call("revokeSecurityGroupIngress", id=rule["ruleid"], wait="true").content["jobid"]
    for host in world.cloud.hosts:
        world.apply(host)
    assert finished(world.user, revoking)["jobresult"]["success"] is True


def test_only_the_hosts_concerned_are_asked() -> None:
    world = World()
    stranger = Host(id="stranger", name="h3", seen=int(NOW * 1000))
    world.cloud.memory.write([Insert(stranger)])
    job = world.authorize()
    assert world.behind(*world.cloud.hosts) == [0, 0]
    assert world.asked(stranger) == 0
    for host in world.cloud.hosts:
        world.apply(host)
    assert finished(world.user, job)["jobresult"]["hosts"] == 2
    shown = {host["name"]: host["lag"] for host in world.cloud.admin.ok("listHosts")["host"]}
    assert shown == {"h1": 0, "h2": 0, "h3": 0}
    world.cloud.admin.call("createBarrier")
    assert world.behind(*world.cloud.hosts, stranger) == [0, 0, 0]
    assert world.host(stranger).asked == 0, "all are asked by one row"
    shown = {host["name"]: host["lag"] for host in world.cloud.admin.ok("listHosts")["host"]}
    assert shown == {"h1": 1, "h2": 1, "h3": world.asked(stranger)}


def test_a_barrier_for_a_group_or_a_vm() -> None:
    world = World()
    web, watcher = world.user, world.cloud.account("watcher")
    zone = world.cloud.zone()
    world.cloud.pod(zone)
    third = Host(id="third", name="h3", seen=int(NOW * 1000))
    world.cloud.memory.write([Insert(third), Insert(replace(third, id="fourth", name="h4"))])
    vm = deploy(watcher, zone)
    world.cloud.memory.write([Update(Nic, vm["nic"][0]["id"], {"host": "h3", "state": "up"})])
    params = {"securitygroupname": "default", "usersecuritygrouplist": "web", "account": "web"}
    watcher.ok("authorizeSecurityGroupIngress", **params)
    admin = world.cloud.admin
    group = web.ok("listSecurityGroups", securitygroupname="web")["securitygroup"][0]
    by_group = admin.call("createBarrier", securitygroupid=group["id"]).content["jobid"]
    hosts = (*world.cloud.hosts, third)
    assert world.behind(*hosts) == [0, 0, 0], "members, and who names the group in a rule"
    by_vm = admin.call("createBarrier", virtualmachineid=group["virtualmachineids"][0]).content["jobid"]
    assert world.behind(*hosts) == [0, 0, 0]
    admin.call("createBarrier", virtualmachineid=vm["id"])
    assert world.behind(*hosts) == [1, 1, 0]
    for host in hosts:
        world.apply(host)
    assert [finished(admin, job)["jobresult"]["hosts"] for job in (by_group, by_vm)] == [3, 3]
    assert admin.refused("createBarrier", securitygroupid=vm["id"])[0] == 431


def test_a_job_says_that_a_host_is_down() -> None:
    world = World(job_wait_ms=100)
    first, second = world.cloud.hosts
    world.cloud.memory.write([Update(Host, second.id, {"seen": int(NOW * 1000) - 120_000})])
    job = world.authorize()
    world.apply(first)
    assert "on 1 of 2 hosts only; not on h2 (Down)" in finished(world.user, job)["jobresult"]["errortext"]


def test_a_job_names_the_host_that_it_waits_for_in_vain() -> None:
    world = World(job_wait_ms=200)
    job = world.authorize()
    world.apply(world.cloud.hosts[0])
    found = finished(world.user, job)
    assert (found["jobstatus"], found["jobresultcode"]) == (2, 530)
    assert "on 1 of 2 hosts only; not on h2" in found["jobresult"]["errortext"]


def test_a_group_without_members_is_in_force_at_once() -> None:
    world = World()
    world.user.ok("createSecurityGroup", name="db")
    params = {"securitygroupname": "db", "cidrlist": "10.0.0.0/8", "wait": "true"}
    job = world.user.call("authorizeSecurityGroupIngress", **params).content["jobid"]
    assert finished(world.user, job)["jobresult"]["hosts"] == 0


@pytest.mark.parametrize("wait", ["true", "false"])
def test_a_change_and_its_job_are_one_transaction(wait: str) -> None:
    cloud = Cloud()
    cloud.memory.write([Insert(CloudRow(id="cloud"))])
    user = cloud.account("web")
    before = cloud.memory.writes
    answer = user.call("authorizeSecurityGroupIngress", securitygroupname="default", cidrlist="10.0.0.0/8", wait=wait)
    job = finished(user, answer.content["jobid"])
    assert job["jobstatus"] == 1
    # The end of a job that waited is another one.
    assert cloud.memory.writes - before == (2 if wait == "true" else 1)


def left_behind(world: World, created: int) -> Job:
    """A job of a server that is no more."""
    job = Job(
        id="7cc5c9e0-dd26-5b95-8df3-d973291584de",
        account=world.user.account.id,
        user=world.user.user.id,
        command="authorizeSecurityGroupIngress",
        server="h9",
        created=created,
    )
    world.cloud.memory.write([Insert(job)])
    return job


@pytest.mark.parametrize(("server", "status"), [("h9", 2), ("h8", 0)])
def test_a_server_that_starts_again_fails_its_own_jobs(server: str, status: int) -> None:
    world = World()
    job = left_behind(world, int(NOW * 1000))
    end_own_jobs(world.cloud.memory, Settings(server=server), now=int(NOW * 1000))  # type: ignore[arg-type]
    assert world.user.ok("queryAsyncJobResult", jobid=job.id)["jobstatus"] == status


def test_a_job_whose_server_died_is_failed() -> None:
    world = World()
    created = int(NOW * 1000)
    job = left_behind(world, created)
    sweep(world.cloud.memory, KEEP, now=created + KEEP.job_wait_ms)  # type: ignore[arg-type]
    assert world.user.ok("queryAsyncJobResult", jobid=job.id)["jobstatus"] == 0
    sweep(world.cloud.memory, KEEP, now=created + 3 * KEEP.job_wait_ms)  # type: ignore[arg-type]
    found = world.user.ok("queryAsyncJobResult", jobid=job.id)
    assert found["jobstatus"] == 2
    assert "the API server h9 ended" in found["jobresult"]["errortext"]


@pytest.mark.parametrize(("now", "left"), [(int(NOW * 1000), True), (LATER, False)])
def test_old_jobs_and_destroyed_vms_are_forgotten(now: int, left: bool) -> None:
    world = World()
    vms = world.user.ok("listVirtualMachines")["virtualmachine"]
    world.user.ok("destroyVirtualMachine", id=vms[0]["id"])
    sweep(world.cloud.memory, KEEP, now=now)  # type: ignore[arg-type]
    assert bool(world.cloud.memory.replica.all(Job)) == left
    assert {vm.id for vm in world.cloud.memory.replica.all(Vm)} == {vm["id"] for vm in vms[0 if left else 1 :]}


@pytest.mark.parametrize("way", ["Ingress", "Egress"])
def test_connections_that_shall_end_are_noted_for_a_while(way: str) -> None:
    world = World()

    def allow(**params: str) -> str:
        params = {"securitygroupname": "web", "cidrlist": "10.0.0.0/8", **params}
        answer = world.user.ok(f"authorizeSecurityGroup{way}", **params)["securitygroup"]
        return str(answer[f"{way.lower()}rule"][0]["ruleid"])

    kept, ended = allow(), allow(cidrlist="10.0.0.0/9")
    world.user.ok(f"revokeSecurityGroup{way}", id=kept)
    assert world.cloud.memory.replica.all(Cut) == []
    world.user.ok(f"revokeSecurityGroup{way}", id=ended, terminate="true")
    (row,) = world.cloud.memory.replica.all(Cut)
    assert row.rule == ended
    for later, left in ((0, 1), (KEEP.cut_keep_ms, 1), (KEEP.cut_keep_ms + 1, 0)):
        sweep(world.cloud.memory, KEEP, now=row.created + later)  # type: ignore[arg-type]
        assert len(world.cloud.memory.replica.all(Cut)) == left
