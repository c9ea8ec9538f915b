# SPDX-License-Identifier: Apache-2.0
"""Claims, and which addresses' connections are forgotten or announced when ports come and go."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from scapy.layers.l2 import ARP, Ether

from sgctl.agent import moves
from sgctl.agent.applied import Applied
from sgctl.agent.moves import Moves
from sgctl.model import Allowance
from sgctl.policy import decide
from sgctl.world import Decision, State, World
from tests.unit.worlds import address, allowance, allowing, mac_of, port, uid, with_nic, world

UPLINK = port("nobody", 9, name="eth1", iface_id=None, role="uplink")
EMPTY = replace(world({"web1": ("web",)}), live=frozenset({"hv2"}), ports=(UPLINK,))
PLUGGED = replace(EMPTY, ports=(UPLINK, port("web1", 1)))
ADDRESS = "10.1.0.11"


def on(host: str, of: World) -> World:
    return with_nic(of, "web1", host=host, state="up" if host else "")


def in_force(of: World) -> Applied:
    return Applied(of, decide(of), {}, 0, 0, True)


def opened(now: World, before: World | None, *held: str) -> list[str]:
    """held: the addresses that the switch lets its ports send from."""
    addresses = tuple(map(ip_address, held))
    return Moves().opened(now, decide(now), decide(before) if before else None, lambda port: addresses)


def left(now: World, before: World) -> list[str]:
    return Moves().left(now, decide(now), decide(before))


def announced(now: World, before: Decision | None) -> int:
    return len(list(Moves().announcements(now, decide(now), before)))


def test_a_new_port_inherits_no_connections() -> None:
    assert opened(PLUGGED, EMPTY) == [ADDRESS]
    assert opened(on("hv1", PLUGGED), PLUGGED) == []


def test_a_nic_that_moves_here_keeps_its_connections_and_is_announced() -> None:
    waiting = on("hv2", PLUGGED)
    claimed = replace(waiting, claimed=frozenset({uid("web1")}))
    assert opened(claimed, waiting) == []
    assert announced(claimed, decide(waiting)) == 2
    assert announced(claimed, decide(claimed)) == 0
    assert announced(PLUGGED, decide(EMPTY)) == 0


def test_after_a_restart_only_addresses_that_are_new_in_the_switch_are_flushed() -> None:
    assert opened(PLUGGED, None) == [ADDRESS]
    assert opened(PLUGGED, None, ADDRESS) == []
    more = replace(PLUGGED, addresses=(*PLUGGED.addresses, address("web1", "10.1.0.50")))
    assert opened(more, None, ADDRESS) == ["10.1.0.50"]
    assert announced(on("hv1", PLUGGED), None) == 0


def test_a_port_that_goes_is_forgotten_and_one_that_moved_is_not() -> None:
    assert left(EMPTY, PLUGGED) == [ADDRESS]
    assert left(on("hv2", PLUGGED), on("hv1", PLUGGED)) == []
    assert left(on("hv2", EMPTY), on("hv2", PLUGGED)) == []
    assert left(PLUGGED, PLUGGED) == []


def test_a_removed_address_is_forgotten() -> None:
    assert left(replace(PLUGGED, addresses=()), PLUGGED) == [ADDRESS]


def test_a_frame_at_a_standby_port_claims_its_nic_until_the_database_shows_it() -> None:
    waiting = on("hv2", PLUGGED)
    claims = Moves()
    claims.claim(in_force(waiting), [7])
    assert claims.claimed(waiting) == frozenset()
    claims.claim(in_force(waiting), [1, 1])
    assert claims.claimed(waiting) == {uid("web1")}
    assert claims.claimed(on("hv1", PLUGGED)) == frozenset()
    assert claims.claimed(waiting) == frozenset()


def test_a_claim_ends_with_its_port() -> None:
    claims = Moves()
    claims.claim(in_force(on("hv2", PLUGGED)), [1])
    assert claims.claimed(on("hv2", EMPTY)) == frozenset()


def test_a_straggling_frame_does_not_bring_a_nic_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(moves, "monotonic", lambda: now[0])
    claims, gone = Moves(), on("hv2", PLUGGED)
    claims.left(gone, decide(gone), decide(on("hv1", PLUGGED)))
    assert decide(gone).ports[-1].state is State.STANDBY
    claims.claim(in_force(gone), [1])
    assert claims.claimed(gone) == frozenset()
    now[0] += moves.HOLD_OFF
    claims.claim(in_force(gone), [1])
    assert claims.claimed(gone) == {uid("web1")}


PAIR = replace(
    world({"web1": ("web",), "web2": ("web",)}), ports=(UPLINK, port("web1", 1), port("web2", 2)), live=EMPTY.live
)
GUEST = "02:00:00:00:60:01"


def promising(*rows: Allowance, of: World = PAIR) -> World:
    return allowing(of, *rows)


def test_what_is_promised_is_forgotten_when_it_comes_and_goes() -> None:
    network, guest = allowance("web1", "10.9.0.0/24"), allowance("web1", "10.1.0.60", mac=GUEST)
    assert sorted(opened(promising(network, guest), PAIR)) == ["10.1.0.60", "10.9.0.0/24"]
    assert left(promising(guest), promising(network, guest)) == ["10.9.0.0/24"]
    moved = allowance("web2", "10.9.0.0/24")
    assert opened(promising(moved), promising(network)) == ["10.9.0.0/24"]
    assert left(promising(moved), promising(network)) == []


def test_connections_of_a_shared_address_live_as_long_as_somebody_holds_it() -> None:
    one, other = (allowance(nic, "10.1.0.70", shared=True) for nic in ("web1", "web2"))
    assert opened(promising(one), PAIR) == ["10.1.0.70"]
    assert opened(promising(one, other), promising(one)) == []
    assert left(promising(other), promising(one, other)) == []
    assert left(PAIR, promising(one, other)) == ["10.1.0.70"]


def test_what_is_promised_alone_is_announced_with_its_mac() -> None:
    rows = (
        allowance("web1", "10.1.0.70", shared=True),
        allowance("web1", "10.1.0.80"),
        allowance("web1", "10.9.0.0/24"),
        allowance("web1", "10.1.0.60", mac=GUEST),
    )
    waiting = promising(*rows, of=on("hv2", PAIR))
    claimed = replace(waiting, claimed=frozenset({uid("web1")}))
    frames = list(map(Ether, Moves().announcements(claimed, decide(claimed), decide(waiting))))
    told = [(frame.src, frame[ARP].pdst if ARP in frame else "RARP") for frame in frames]
    mine = [(mac_of(1), address) for address in ("RARP", ADDRESS, "10.1.0.80")]
    assert told == [*mine, (GUEST, "RARP"), (GUEST, "10.1.0.60")]
