# SPDX-License-Identifier: Apache-2.0
"""Claims, and which addresses' connections are forgotten or announced when ports come and go."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from scapy.layers.l2 import ARP, Ether

from sgctl.agent import moves
from sgctl.agent.applied import Applied
from sgctl.agent.moves import Moves, Shown
from sgctl.model import Allowance
from sgctl.policy import decide
from sgctl.world import Decision, State, World
from tests.unit.worlds import address, allowance, allowing, mac_of, port, uid, with_nic, world

UPLINK = port("nobody", 9, name="eth1", iface_id=None, role="uplink")
EMPTY = replace(world({"web1": ("web",)}), ports=(UPLINK,))
PLUGGED = replace(EMPTY, ports=(UPLINK, port("web1", 1)))
ADDRESS = "10.1.0.11"
LIVE = frozenset({"hv2"})


def on(host: str, of: World) -> World:
    return with_nic(of, "web1", host=host, state="up" if host else "")


def in_force(of: World) -> Applied:
    return Applied(of, decide(of), {}, 0, 0, True, 1)


def shown(*ports: int, announces: str = "") -> list[Shown]:
    return [Shown(one, announces) for one in ports]


def after_it_has_left(now: list[float], monkeypatch: pytest.MonkeyPatch) -> tuple[Moves, World]:
    """The port is still there, and frames count again."""
    monkeypatch.setattr(moves, "monotonic", lambda: now[0])
    claims, gone = Moves(), on("hv2", PLUGGED)
    claims.left(gone, decide(gone), decide(on("hv1", PLUGGED)))
    now[0] += moves.HOLD_OFF
    return claims, gone


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


@pytest.mark.parametrize(("meanwhile", "again"), [(EMPTY, [ADDRESS]), (PLUGGED, []), (on("hv2", EMPTY), [])])
def test_what_a_port_leaves_is_forgotten_twice(
    meanwhile: World, again: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packet that was on its way may have begun a connection anew; but nobody's who has the address by then."""
    now = [100.0]
    monkeypatch.setattr(moves, "monotonic", lambda: now[0])
    known, here = Moves(), on("hv1", PLUGGED)
    without = on("hv1", EMPTY)
    assert known.left(without, decide(without), decide(here)) == [ADDRESS]
    assert known.left_before(without, decide(without)) == []
    now[0] += moves.CACHED
    assert known.left_before(meanwhile, decide(meanwhile)) == again
    assert known.left_before(meanwhile, decide(meanwhile)) == []


def test_a_nic_that_moves_here_keeps_its_connections_and_is_announced() -> None:
    waiting = on("hv2", PLUGGED)
    claimed = replace(waiting, claimed=frozenset({uid("web1")}))
    assert opened(claimed, waiting) == []
    assert announced(claimed, decide(waiting)) == 2
    assert announced(claimed, decide(claimed)) == 0
    assert announced(PLUGGED, decide(EMPTY)) == 0


def test_a_nic_that_has_waited_here_keeps_its_connections_whoever_says_that_it_is_here() -> None:
    assert opened(on("hv1", PLUGGED), on("hv2", PLUGGED)) == []
    assert opened(on("", PLUGGED), on("hv2", PLUGGED)) == []
    assert opened(on("hv1", PLUGGED), on("hv2", EMPTY)) == [ADDRESS]


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
    claims.claim(in_force(waiting), shown(7), LIVE)
    assert claims.claimed(waiting) == frozenset()
    claims.claim(in_force(waiting), shown(1, 1), LIVE)
    assert claims.claimed(waiting) == {uid("web1")}
    assert claims.claimed(on("hv1", PLUGGED)) == frozenset()
    assert claims.claimed(waiting) == frozenset()


def test_a_claim_ends_with_its_port() -> None:
    claims = Moves()
    claims.claim(in_force(on("hv2", PLUGGED)), shown(1), LIVE)
    assert claims.claimed(on("hv2", EMPTY)) == frozenset()


def test_frames_are_known_by_what_they_announce() -> None:
    mac = bytes.fromhex("0200000000aa")
    assert Shown.of(3, b"\xff" * 6 + mac + b"\x80\x35") == Shown(3, "02:00:00:00:00:aa")
    assert Shown.of(3, b"\xff" * 6 + mac + b"\x08\x06") == Shown(3, "")


def test_a_straggling_frame_does_not_bring_a_nic_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    claims, gone = after_it_has_left(now, monkeypatch)
    assert decide(gone).ports[-1].state is State.STANDBY
    now[0] -= moves.HOLD_OFF / 2
    assert not claims.claim(in_force(gone), shown(1), LIVE)
    assert claims.claimed(gone) == frozenset()
    now[0] += moves.HOLD_OFF
    assert claims.claim(in_force(gone), shown(1), LIVE)


def test_a_nic_that_is_announced_is_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    claims, gone = after_it_has_left(now, monkeypatch)
    now[0] -= moves.HOLD_OFF
    assert not claims.claim(in_force(gone), shown(1, announces=gone.nics[uid("web1")].mac), LIVE)
    assert claims.claimed(gone) == {uid("web1")}


def test_at_a_port_that_it_has_left_a_nic_that_is_not_announced_is_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be one of two guests, the other of which was started while this hypervisor was cut off."""
    claims, gone = after_it_has_left([100.0], monkeypatch)
    assert claims.claim(in_force(gone), shown(1, announces="02:00:00:00:00:99"), LIVE)
    assert claims.claimed(gone) == frozenset()
    assert claims.take_contested() == {uid("web1")}
    assert claims.take_contested() == frozenset()
    assert not claims.claim(in_force(gone), shown(1), frozenset())
    assert claims.claimed(gone) == {uid("web1")}


def test_what_a_port_was_before_a_restart_is_not_known() -> None:
    waiting = on("hv2", PLUGGED)
    claims = Moves()
    claims.left(waiting, decide(waiting), None)
    assert claims.claim(in_force(waiting), shown(1), LIVE)
    assert claims.claimed(waiting) == frozenset()


def test_a_new_port_is_not_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    claims, gone = after_it_has_left([100.0], monkeypatch)
    without = on("hv2", EMPTY)
    claims.left(without, decide(without), decide(gone))
    claims.left(gone, decide(gone), decide(without))
    assert not claims.claim(in_force(gone), shown(1), LIVE)
    assert claims.claimed(gone) == {uid("web1")}


PAIR = replace(world({"web1": ("web",), "web2": ("web",)}), ports=(UPLINK, port("web1", 1), port("web2", 2)))
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
