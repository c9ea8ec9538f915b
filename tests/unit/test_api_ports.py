# SPDX-License-Identifier: Apache-2.0
"""Operators' extensions: ports of the whole cloud, what hosts tell of themselves, and barriers."""

import time
from uuid import NAMESPACE_OID, uuid5

import pytest

from sgctl.model import Cloud as CloudRow
from sgctl.model import Host, Nic
from sgctl.store import Insert, Update
from tests.unit.api_memory import NOW, Cloud
from tests.unit.test_api_jobs import World, finished


def test_ports_of_all_accounts_are_listed_with_their_hosts() -> None:
    world = World()
    admin = world.cloud.admin
    first, second = sorted(admin.ok("listPorts")["port"], key=lambda port: port["hostname"])
    assert (first["account"], first["hostname"], first["state"]) == ("web", "h1", "up")
    assert first["virtualmachinename"] and first["ipaddresses"] and "reason" not in first
    assert second["hostname"] == "h2"
    assert admin.ok("listPorts", hostname="h2")["port"] == [second]
    assert admin.ok("listPorts", account="nobody") == {}
    assert admin.ok("listPorts", keyword=first["virtualmachinename"])["count"] == 1


def test_a_port_that_is_closed_or_missing_says_so() -> None:
    world = World()
    closed, missing = world.cloud.memory.replica.all(Nic)
    world.cloud.memory.write([
        Update(Nic, closed.id, {"state": "closed", "reason": "no MAC", "since": int(NOW * 1000)}),
        Update(Nic, missing.id, {"state": "", "host": ""}),
    ])  # fmt: skip
    (port,) = world.cloud.admin.ok("listPorts", state="closed")["port"]
    assert (port["nicid"], port["reason"], "since" in port) == (closed.id, "no MAC", True)
    (port,) = world.cloud.admin.ok("listPorts", state="unbound")["port"]
    assert port["nicid"] == missing.id and "hostname" not in port


def test_a_port_of_a_dead_host_is_marked() -> None:
    world = World()
    dead = world.cloud.hosts[0]
    world.cloud.memory.write([Update(Host, dead.id, {"seen": 1})])
    states = {port["hostname"]: port["hoststate"] for port in world.cloud.admin.ok("listPorts")["port"]}
    assert states == {"h1": "Down", "h2": "Up"}


def test_hosts_tell_their_ports_and_how_far_behind_they_are() -> None:
    world = World()
    world.apply(world.cloud.hosts[0])
    found = {host["name"]: host for host in world.cloud.admin.ok("listHosts")["host"]}
    assert (found["h1"]["portsup"], found["h1"]["portsclosed"], found["h1"]["lag"]) == (1, 0, 0)
    assert found["h2"]["lag"] == 0, "nobody has asked it"
    world.cloud.admin.call("createBarrier", hosts="h2")
    found = {host["name"]: host for host in world.cloud.admin.ok("listHosts")["host"]}
    assert (found["h1"]["lag"], found["h2"]["lag"]) == (0, world.asked(world.cloud.hosts[1]))


def test_a_barrier_ends_when_the_last_host_is_there_and_names_the_slow() -> None:
    world = World()
    first, second = world.cloud.hosts
    (before,) = world.cloud.memory.replica.all(CloudRow)
    job = world.cloud.admin.call("createBarrier").content["jobid"]
    (after,) = world.cloud.memory.replica.all(CloudRow)
    assert after.sequence == before.sequence + 1
    world.apply(first)
    time.sleep(0.1)
    world.apply(second)
    result = finished(world.cloud.admin, job)["jobresult"]
    assert result["hosts"] == 2
    assert [one["name"] for one in result["slowest"]] == ["h2", "h1"]
    assert result["slowest"][0]["milliseconds"] >= result["slowest"][1]["milliseconds"]


def test_a_barrier_fails_in_the_time_given_and_names_who_is_behind() -> None:
    world = World()
    world_job = world.cloud.admin.call("createBarrier", timeout=0).content["jobid"]
    assert "on 0 of 2 hosts only; not on h1, h2" in finished(world.cloud.admin, world_job)["jobresult"]["errortext"]
    some = world.cloud.admin.call("createBarrier", hosts="h2", timeout=1).content["jobid"]
    world.apply(world.cloud.hosts[1])
    assert finished(world.cloud.admin, some)["jobresult"]["hosts"] == 1


@pytest.mark.parametrize(("params", "words"), [({"hosts": "h9"}, "h9"), ({"timeout": 4000}, "timeout")])
def test_barriers_that_make_no_sense_are_refused(params: dict[str, object], words: str) -> None:
    code, text = World().cloud.admin.refused("createBarrier", **params)
    assert code == 431 and words in text


def test_hosts_are_listed_by_name() -> None:
    """They do not say when they were made, and their ids are digests."""
    cloud = Cloud()
    made = (Host(id=str(uuid5(NAMESPACE_OID, name)), name=name) for name in ("a3", "a1", "a2", "a4"))
    cloud.memory.write(list(map(Insert, made)))
    names = [host["name"] for host in cloud.admin.ok("listHosts")["host"]]
    assert names == sorted(names) and len(names) > 4


def test_a_host_is_down_by_what_it_has_promised() -> None:
    cloud = Cloud()
    slow, quick = cloud.hosts
    for host, interval in ((slow, 40_000), (quick, 0)):
        silent = {"seen": int(NOW * 1000) - 110_000, "heartbeat": interval}
        cloud.memory.write([Update(type(host), host.id, silent)])
    hosts = cloud.admin.ok("listHosts")["host"]
    assert {host["name"]: host["state"] for host in hosts} == {slow.name: "Up", quick.name: "Down"}
    cloud.memory.write([Update(type(slow), slow.id, {"seen": int(NOW * 1000) - 121_000})])
    assert cloud.admin.ok("listHosts", name=slow.name)["host"][0]["state"] == "Down"
