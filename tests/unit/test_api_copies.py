# SPDX-License-Identifier: Apache-2.0
"""A NIC's row says what its VM's and its addresses' rows say, whatever is done to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sgctl.api.sweep import complete_nics
from sgctl.errors import Stale
from sgctl.model import Address, Nic, Vm
from sgctl.store import Insert, Update
from tests.unit.api_memory import Client, Cloud, deploy


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture
def user(cloud: Cloud) -> Client:
    return cloud.account("web")


@pytest.fixture
def vm(cloud: Cloud, user: Client) -> Any:
    zone = cloud.zone()
    cloud.pod(zone, ipv6=True)
    return deploy(user, zone, name="web1")


def nic_of(cloud: Cloud, vm: Any) -> Nic:
    (nic,) = cloud.memory.replica.find(Nic, vm=vm["id"])
    return nic


def truth(cloud: Cloud, nic: Nic) -> tuple[Any, ...]:
    reads = cloud.memory.replica
    vm = reads.get(Vm, nic.vm)
    assert vm
    return frozenset(row.address for row in reads.find(Address, nic=nic.id)), vm.wanted, vm.name


def told(nic: Nic) -> tuple[Any, ...]:
    assert nic.complete
    return nic.addresses, nic.wanted, nic.vm_name


def test_every_change_is_copied(cloud: Cloud, user: Client, vm: Any) -> None:
    nic = nic_of(cloud, vm)
    assert told(nic) == truth(cloud, nic) and len(nic.addresses) == 2
    user.ok("createSecurityGroup", name="db")
    steps: list[tuple[str, dict[str, Any]]] = [
        ("addIpToNic", {"nicid": nic.id}),
        ("updateVirtualMachine", {"id": vm["id"], "name": "web2"}),
        ("updateVirtualMachine", {"id": vm["id"], "securitygroupnames": "db"}),
        ("stopVirtualMachine", {"id": vm["id"]}),
        ("updateVmNicIp", {"nicid": nic.id}),
        ("startVirtualMachine", {"id": vm["id"]}),
    ]
    seen = {told(nic)}
    for command, params in steps:
        user.ok(command, **params)
        nic = nic_of(cloud, vm)
        assert told(nic) == truth(cloud, nic), command
        seen.add(told(nic))
    assert len(seen) == len(steps), "all but the groups are in the copies"
    secondary = next(row for row in cloud.memory.replica.find(Address, nic=nic.id) if not row.primary)
    user.ok("removeIpFromNic", id=secondary.id)
    nic = nic_of(cloud, vm)
    assert told(nic) == truth(cloud, nic)
    user.ok("destroyVirtualMachine", id=vm["id"])


def test_rows_of_an_earlier_release_are_completed(cloud: Cloud, user: Client, vm: Any) -> None:
    nic, memory = nic_of(cloud, vm), cloud.memory
    bare = {"addresses": frozenset(), "wanted": "", "vm_name": "", "copied": 0}
    memory.write([Update(Nic, nic.id, bare)])
    assert not nic_of(cloud, vm).complete
    assert complete_nics(memory) == 1  # type: ignore[arg-type]
    assert nic_of(cloud, vm) == nic
    writes = memory.writes
    assert complete_nics(memory) == 0 and memory.writes == writes  # type: ignore[arg-type]


def test_what_a_server_of_an_earlier_release_has_done_is_made_good(cloud: Cloud, vm: Any) -> None:
    """It knows nothing of copies: it counts the revision up, or stops the VM."""
    nic, memory = nic_of(cloud, vm), cloud.memory
    extra = Address(id="extra", address="10.9.9.9", nic=nic.id, primary=False)
    memory.write([Insert(extra), Update(Nic, nic.id, {"revision": nic.revision + 1})])
    assert not nic_of(cloud, vm).complete, "until then agents do not go by the copies"
    memory.write([Update(Vm, nic.vm, {"wanted": "Stopped"})])
    assert complete_nics(memory) >= 1  # type: ignore[arg-type]
    nic = nic_of(cloud, vm)
    assert told(nic) == truth(cloud, nic) and "10.9.9.9" in nic.addresses and nic.wanted == "Stopped"
    memory.write([Update(Vm, nic.vm, {"wanted": "Running"}), Update(Nic, nic.id, {"wanted": "Stopped"})])


def test_copies_of_what_has_changed_meanwhile_are_not_written(cloud: Cloud, user: Client, vm: Any) -> None:
    """Two servers complete the same row: the slower one has seen less."""
    nic, memory = nic_of(cloud, vm), cloud.memory
    memory.write([Update(Nic, nic.id, {"copied": 0, "addresses": frozenset()})])
    guards: list[Any] = []
    write = memory.write
    memory.write = lambda changes, given=(), **_: guards.extend(given) or write(changes, given)  # type: ignore[method-assign, assignment]
    complete_nics(memory)  # type: ignore[arg-type]
    assert {name for guard in guards for name in guard.values} == {"copied", "addresses"}
    memory.write = write  # type: ignore[method-assign]
    with pytest.raises(Stale):
        memory.write([], [replace(guard) for guard in guards])
