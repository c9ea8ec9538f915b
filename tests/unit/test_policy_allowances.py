# SPDX-License-Identifier: Apache-2.0
"""What NICs are promised beside their addresses: what of it reaches the flows, and who has a right to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from flows.inputs import Allowed, Audience, Cluster, Peer, Port, Segment, Shared, Virtual
from sgctl.addresses import Reach, block_text, parse_block, parse_mac, words
from sgctl.model import Allowance, allowance_text
from sgctl.policy import decide
from sgctl.world import Decision, PortState, State, World
from tests.unit.worlds import address, allowance, allowing, mac_of, member, peer_rule, port, uid, with_nic, world

GUEST = "02:00:00:00:60:01"
VRRP4, VRRP6 = "00:00:5e:00:01:33", "00:00:5e:00:02:33"
PAIR = replace(world({"web1": ("web",), "web2": ("web",)}), ports=(port("web1", 1), port("web2", 2)))


def promised(*rows: Allowance, of: World = PAIR) -> Decision:
    return decide(allowing(of, *rows))


def allowed(decision: Decision, nic: str = "web1") -> tuple[Allowed, ...]:
    unit = decision.units[f"port/{uid(nic)}"]
    assert isinstance(unit, Port)
    return unit.allowed


def states(decision: Decision) -> dict[str, PortState]:
    return {state.name: state for state in decision.ports}


def test_a_promise_reaches_its_port_only() -> None:
    decision = promised(
        allowance("web1", "10.9.0.0/24"),
        allowance("web1", "10.1.0.60", mac=GUEST),
        allowance("web1", "fd00::7"),
        allowance("web1", "10.1.0.61", mac=mac_of(1)),
    )
    assert allowed(decision) == (
        Allowed(ip_network("10.1.0.60"), 0x02_00_00_00_60_01),
        Allowed(ip_network("10.1.0.61")),
        Allowed(ip_network("10.9.0.0/24")),
        Allowed(ip_network("fd00::7")),
    )
    assert allowed(decision, "web2") == ()
    shown = [words(one) for one in states(decision)["tap1"].allowed]
    assert shown == ["10.1.0.60 by 02:00:00:00:60:01", "10.1.0.61", "10.9.0.0/24", "fd00::7"]


@pytest.mark.parametrize(
    "row",
    [
        allowance("web1", "10.1.0.x"),
        allowance("web1", "10.9.0.1/24"),
        allowance("web1", "0.0.0.0/0"),
        allowance("web1", "::/0"),
        allowance("web1", "128.0.0.0/1"),
        allowance("web1", "10.8.0.0/15"),
        allowance("web1", "2001:db8::/47"),
        allowance("web1", "224.0.0.5"),
        allowance("web1", "127.0.0.0/24"),
        allowance("web1", "10.1.0.60", mac="01:00:00:00:00:01"),
        allowance("web1", "10.1.0.60", mac="bad"),
        allowance("web1", "10.1.0.60", mac=GUEST, shared=True),
        allowance("web1", "10.9.0.0/24", shared=True),
        allowance("web1", "10.1.0.60", mac=VRRP4),
        allowance("web1", "10.9.0.0/24", mac=VRRP4, shared=True),
        allowance("web1", "fd00::60", mac=VRRP4, shared=True),
        allowance("web1", "10.1.0.60", mac="00:00:5e:00:01:00", shared=True),
        allowance("web1", "10.1.0.11"),
        allowance("web1", "10.1.0.0/28"),
    ],
    ids=lambda row: f"{row.address} {row.mac}",
)
def test_what_makes_no_sense_is_left_out_and_shown(row: Allowance) -> None:
    decision = promised(row, allowance("web1", "10.8.0.0/24"))
    assert allowed(decision) == (Allowed(ip_network("10.8.0.0/24")),)
    state = states(decision)["tap1"]
    assert state.state is State.ACTIVE
    assert f"cannot be allowed: '{allowance_text(row)[:48]}" in state.reason


def test_what_overlaps_is_left_out() -> None:
    decision = promised(allowance("web1", "10.9.0.0/24"), allowance("web1", "10.9.0.7"))
    assert allowed(decision) == (Allowed(ip_network("10.9.0.0/24")),)


def shared(decision: Decision) -> Iterable[Shared]:
    return [unit for unit in decision.units.values() if isinstance(unit, Shared)]


def test_who_shares_an_address_is_asked_together() -> None:
    both = (allowance("web1", "10.1.0.70", shared=True), allowance("web2", "10.1.0.70", shared=True))
    assert shared(promised(*both)) == [Shared(ip_address("10.1.0.70"), (1, 2))]
    assert shared(promised(both[1])) == [Shared(ip_address("10.1.0.70"), (2,))]
    away = with_nic(PAIR, "web1", host="hv2", state="up")
    assert shared(promised(*both, of=away)) == [Shared(ip_address("10.1.0.70"), (2,))]
    assert shared(promised(allowance("web1", "10.1.0.70"))) == []


def virtual(decision: Decision) -> list[Virtual]:
    return [unit for unit in decision.units.values() if isinstance(unit, Virtual)]


def test_who_may_hold_a_virtual_mac_is_known_by_pod() -> None:
    rows = [
        allowance("web1", "10.1.0.70", mac=VRRP4, shared=True),
        allowance("web2", "10.1.0.71", mac=VRRP4, shared=True),
        allowance("web2", "fd00::70", mac=VRRP6, shared=True),
    ]
    decision = promised(*rows)
    (pod,) = [unit for unit in decision.units.values() if isinstance(unit, Segment)]
    four, six = (parse_mac(mac) or 0 for mac in (VRRP4, VRRP6))
    assert virtual(decision) == [
        Virtual(four, (Cluster(pod, (ip_address("10.1.0.70"), ip_address("10.1.0.71")), (1, 2)),)),
        Virtual(six, (Cluster(pod, (ip_address("fd00::70"),), (2,)),)),
    ]
    away = with_nic(PAIR, "web2", host="hv2", state="up")
    assert virtual(promised(*rows, of=away)) == [Virtual(four, (Cluster(pod, (ip_address("10.1.0.70"),), (1,)),))]
    assert virtual(promised(allowance("web1", "10.1.0.70", shared=True))) == []


def heard(of: World) -> list[tuple[list[str], tuple[int, ...]]]:
    """What is announced to whom."""
    units = decide(of).units.values()
    assert {unit.pod for unit in units if isinstance(unit, Audience)} <= {
        unit.number for unit in units if isinstance(unit, Segment)
    }
    return [(sorted(map(str, unit.addresses)), unit.ports) for unit in units if isinstance(unit, Audience)]


def sharing(of: World, *texts: str) -> World:
    return replace(of, pods={id: replace(pod, shared=frozenset(texts)) for id, pod in of.pods.items()})


def test_all_open_ports_of_a_pod_hear_what_is_shared_in_it_be_it_elsewhere() -> None:
    assert heard(PAIR) == []
    assert heard(allowing(PAIR, allowance("web1", "10.1.0.70"))) == []
    assert heard(sharing(PAIR, "10.1.0.70", "fd00::70", "nonsense")) == [(["10.1.0.70", "fd00::70"], (1, 2))]
    away = with_nic(sharing(PAIR, "10.1.0.70"), "web1", host="hv2", state="up")
    assert heard(away) == [(["10.1.0.70"], (2,))]


def test_what_a_nic_here_shares_is_heard_though_its_pod_does_not_say_so() -> None:
    """As in the rows of an earlier release."""
    of = allowing(PAIR, allowance("web1", "10.1.0.70", shared=True))
    assert heard(of) == [(["10.1.0.70"], (1, 2))]


@pytest.mark.parametrize(
    ("one", "other", "lost"),
    [
        (allowance("web1", "10.1.0.70"), allowance("web2", "10.1.0.70"), "address 10.1.0.70"),
        (allowance("web1", "10.1.0.70"), allowance("web2", "10.1.0.70", shared=True), "address 10.1.0.70"),
        (allowance("web1", "10.1.0.70", shared=True), allowance("web2", "10.1.0.70"), "address 10.1.0.70"),
        (allowance("web1", "10.8.0.1"), allowance("web2", "10.1.0.11"), "address 10.1.0.11"),
        (allowance("web1", "10.8.0.1"), allowance("web2", "10.1.0.11", shared=True), "address 10.1.0.11"),
        (allowance("web1", "10.9.0.0/24"), allowance("web2", "10.9.0.0/24"), "address 10.9.0.0/24"),
        (allowance("web1", "10.8.0.1", mac=GUEST), allowance("web2", "10.8.0.2", mac=GUEST), f"MAC {GUEST}"),
        (allowance("web1", "10.8.0.1"), allowance("web2", "10.8.0.2", mac=mac_of(1)), f"MAC {mac_of(1)}"),
    ],
    ids=str,
)
def test_what_two_claim_one_has(one: Allowance, other: Allowance, lost: str) -> None:
    """The API refuses such rows; an agent that finds them opens one port only, always the same."""
    for rows in ((one, other), (other, one)):
        of = states(promised(*rows))
        assert (of["tap1"].state, of["tap2"].state) == (State.ACTIVE, State.CLOSED)
        assert of["tap2"].reason == f"{lost} belongs to port tap1"


WIDE = ("0.0.0.0/0", "128.0.0.0/1", "10.8.0.0/15", "::/0", "2001:db8::/47")
"""So much is nobody's: as members these would open whole groups to the world."""


def test_a_network_is_a_peer() -> None:
    of = replace(
        PAIR,
        rules=(peer_rule("from web", "web", "web"),),
        members=(*PAIR.members, *(member("web", "web1", text) for text in ("10.9.0.0/24", "10.9.x", *WIDE))),
    )
    peers = [unit for unit in decide(of).units.values() if isinstance(unit, Peer)]
    assert {block_text(peer.address) for peer in peers} == {"10.1.0.11", "10.1.0.12", "10.9.0.0/24"}
    assert len({peer.ingress_identity for peer in peers}) == 1


def test_a_reach_holds_addresses_and_networks() -> None:
    reach = Reach(["10.1.0.5", "10.9.0.0/24", "fd00:9::/64"])
    inside = ("10.1.0.5", "10.9.0.77", "fd00:9::77")
    outside = ("10.1.0.6", "10.9.1.1", "fd00:9:0:1::1", "", "x")
    assert [one in reach for one in (*inside, *outside)] == [True] * 3 + [False] * 5
    assert sorted(reach.without(Reach(["10.9.0.0/24", "10.1.0.6"]))) == ["10.1.0.5", "fd00:9::/64"]
    assert (len(reach), bool(Reach())) == (3, False)
    assert parse_block("10.9.0.0/24") == ip_network("10.9.0.0/24")
    assert address("web1", "10.1.0.5").address in reach
