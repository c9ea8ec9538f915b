# SPDX-License-Identifier: Apache-2.0
"""Who is alive, and which NICs are asked for."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgctl.agent.gather import CONCERNS, Gatherer, Heartbeats, Reader, named_nic
from sgctl.heartbeat import MISSED, SHORTEST
from sgctl.localport import LocalPort
from sgctl.model import Account, Address, Cloud, Host, Nic, Row, Vm
from sgctl.store import Replica
from sgctl.store.interest import KINDS

STALE_AFTER = MISSED * SHORTEST / 1000


class Clock:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        patch.setattr("sgctl.agent.gather.monotonic", lambda: self.now)
        patch.setattr("sgctl.agent.gather.time", lambda: self.now + 1_700_000_000)

    def host(self, *, skew: float = 0.0) -> Host:
        return Host(id="x", name="hv2", seen=round((self.now + 1_700_000_000 + skew) * 1000))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_host_is_alive_as_long_as_its_heartbeat_moves(clock: Clock) -> None:
    beats = Heartbeats()
    assert beats.live() == frozenset()
    for _ in range(3):
        beats.observe([clock.host()])
        clock.now += STALE_AFTER - 1
        assert beats.live() == {"hv2"}
    clock.now += 2
    assert beats.live() == frozenset()


def test_an_unchanged_heartbeat_is_no_sign_of_life(clock: Clock) -> None:
    beats, host = Heartbeats(), clock.host()
    beats.observe([host])
    clock.now += STALE_AFTER + 1
    beats.observe([host])
    assert beats.live() == frozenset()


def test_an_old_heartbeat_at_first_sight_is_dead(clock: Clock) -> None:
    beats = Heartbeats()
    beats.observe([clock.host(skew=-STALE_AFTER - 1)])
    assert beats.live() == frozenset()


def test_a_host_is_judged_by_the_interval_that_it_has_promised(clock: Clock) -> None:
    beats = Heartbeats()
    beats.observe([replace(clock.host(), heartbeat=40_000)])
    clock.now += 119
    assert beats.live() == {"hv2"}
    beats.observe([replace(clock.host(), heartbeat=10_000)])
    clock.now += STALE_AFTER + 1
    assert beats.live() == frozenset()


@pytest.mark.parametrize("skew", [3600.0, -3600.0])
def test_a_wrong_clock_elsewhere_does_not_matter_once_the_heartbeat_moves(clock: Clock, skew: float) -> None:
    beats = Heartbeats()
    beats.observe([clock.host(skew=skew)])
    clock.now += 10
    beats.observe([clock.host(skew=skew)])
    assert beats.live() == {"hv2"}


def test_only_uuids_are_asked_for_in_their_canonical_form() -> None:
    texts = ["F8D7A32A-BEB9-54DF-9610-1447C535FCCD", "", None, "x", "f8d7a32abeb954df96101447c535fccd"]
    ports = [LocalPort(uuid=str(i), name=f"tap{i}", iface_id=text) for i, text in enumerate(texts)]
    assert set(map(named_nic, ports)) - {None} == {"f8d7a32a-beb9-54df-9610-1447c535fccd"}


class Followed:
    """What a gatherer needs of a process: a replica that is in sync, as agents have one."""

    def __init__(self) -> None:
        self.replica, self.connected = Replica(KINDS), True
        self.replica.insync = True
        self.gatherer = Gatherer(SimpleNamespace(settings=SimpleNamespace(host="hv1"), database=self, interest=None))  # type: ignore[arg-type]

    def show(self, *rows: Row) -> None:
        for row in rows:
            self.replica.announce(self.replica.absorb({type(row): {row.id: row}}))

    def barrier(self) -> int:
        self.gatherer.look(None)
        assert self.gatherer.known
        return self.gatherer.known.sequence


def test_barriers_for_all_and_for_this_host_count() -> None:
    followed = Followed()
    assert followed.barrier() == 0
    cloud, host = Cloud(id="cloud", sequence=9, asked=4), Host(id="host", name="hv1")
    followed.show(cloud)
    assert followed.barrier() == 4
    followed.show(replace(host, asked=6), Host(id="other", name="hv2", asked=8))
    assert followed.barrier() == 6
    followed.show(replace(cloud, asked=7))
    assert followed.barrier() == 7


def test_heartbeats_leave_what_was_decided_current() -> None:
    """They come at any time, also while the switch is being changed."""
    followed = Followed()
    followed.show(Cloud(id="cloud"), Host(id="host", name="hv1"))
    known = followed.barrier(), followed.gatherer.known
    followed.show(Host(id="host", name="hv1", seen=5), Cloud(id="cloud", heartbeat=20_000))
    assert followed.gatherer.current
    assert (followed.barrier(), followed.gatherer.known) == known


@pytest.mark.parametrize(
    ("made", "followed"),
    [
        ((None, None, 1), (True, True, True)),
        ((0, 1), (True, True)),
        ((1, None, 1), (True, False, True)),
        ((1, 2, 2, 1, 1), (True, False, False, True, True)),
        ((1, 0, 2), (True, False, False)),
    ],
)
def test_a_database_of_another_cloud_counts_as_away(made: tuple[int | None, ...], followed: tuple[bool, ...]) -> None:
    """Clouds are known by when they were made; None: there is no row about it."""
    shown = Followed()
    for number, moment in enumerate(made):
        before, cloud = shown.gatherer.known, None if moment is None else Cloud(id="cloud", created=moment)
        shown.replica.announce(shown.replica.absorb({Cloud: {"cloud": cloud}}))
        shown.show(Account(id=str(number), name=str(number), name_key=str(number)))
        shown.gatherer.look(None)
        assert shown.gatherer.insync == shown.gatherer.current == followed[number]
        assert (shown.gatherer.known is not before) == followed[number]


def test_a_complete_nic_needs_no_other_rows() -> None:
    """Beside one whose row says less, and whose own rows count."""
    nic = Nic(
        id="n1", vm="v1", account="a", pod="p", mac="02:00:00:00:00:01", revision=3, copied=4, wanted="Stopped",
        addresses=frozenset({"10.0.0.1", "fd00::1"}), vm_name="web1",
    )  # fmt: skip
    bare = replace(nic, id="n2", vm="v2", revision=4)
    followed = Followed()
    followed.show(nic, bare, Vm(id="v2", name="web2", account="a", zone="z", pod="p"))
    followed.show(Address(id="x", address="10.0.0.2", nic="n2"), Address(id="y", address="10.0.0.9", nic="n1"))
    followed.barrier()
    assert followed.gatherer.known
    rows = followed.gatherer.known.rows
    assert {(vm.name, vm.wanted) for vm in rows.vms.values()} == {("web1", "Stopped"), ("web2", "Running")}
    assert {(row.nic, row.address) for row in rows.addresses} == {
        ("n1", "10.0.0.1"), ("n1", "fd00::1"), ("n2", "10.0.0.2"),
    }  # fmt: skip
    followed.show(replace(nic, wanted="Running", addresses=frozenset({"10.0.0.1"})))
    followed.barrier()
    rows = followed.gatherer.known.rows
    assert rows.vms["v1"].wanted == "Running"
    assert [row.address for row in rows.addresses if row.nic == "n1"] == ["10.0.0.1"]


NICS = st.builds(
    Nic,
    id=st.sampled_from(["n1", "n2", "n3"]),
    vm=st.sampled_from(["v1", "v2"]),
    account=st.just("a"),
    pod=st.just("p"),
    mac=st.just("02:00:00:00:00:01"),
    copied=st.integers(0, 1),
    wanted=st.sampled_from(["Running", "Stopped"]),
    addresses=st.frozensets(st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"])),
)
VMS = st.sampled_from([Vm(id=id, name="x", account="a", zone="z", pod="p") for id in ("v1", "v2")])
ADDRESSES = st.builds(
    Address, id=st.sampled_from("xyz"), address=st.just("10.0.0.9"), nic=st.sampled_from(["n1", "n2"])
)


@given(st.lists(st.tuples(NICS | VMS | ADDRESSES, st.booleans()), max_size=12))
@settings(deadline=None)
def test_what_was_read_before_does_not_matter(steps: list[tuple[Row, bool]]) -> None:
    replica = Replica(KINDS)
    reader = Reader("hv1", replica)
    reader.read(CONCERNS)
    for row, gone in steps:
        replica.absorb({type(row): {row.id: None if gone else row}})
        assert reader.read(frozenset({type(row)})) == Reader("hv1", replica).read(CONCERNS)


def test_a_vm_and_addresses_that_stay_are_the_same_objects() -> None:
    """Of a NIC that changes otherwise, and of the others."""
    addresses = frozenset({"10.0.0.1"})
    nic = Nic(id="n1", vm="v1", account="a", pod="p", mac="02:00:00:00:00:01", copied=1, addresses=addresses)
    followed = Followed()
    followed.show(nic, replace(nic, id="n2", vm="v2", addresses=frozenset({"10.0.0.2"})))
    reader = Reader("hv1", followed.replica)
    before = reader.read(CONCERNS).rows
    followed.show(replace(nic, host="hv1"))
    after = reader.read(frozenset({Nic})).rows
    assert after.nics != before.nics
    assert after.vms is before.vms
    assert all(one is other for one, other in zip(after.addresses, before.addresses, strict=True))
