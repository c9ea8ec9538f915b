# SPDX-License-Identifier: Apache-2.0
"""Quotas of connections: who is over, when that ends, and what becomes of a decision."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from flows.inputs import Allowed, Overdrawn
from sgctl.openflow.conntrack import _lines
from sgctl.openflow.errors import SwitchError
from sgctl.overdraft import Owners, Quota, overdraw
from sgctl.policy import decide
from sgctl.protection import ProtectionError, quota
from sgctl.world import Overdraft, Refusal, State
from tests.unit.flow_world import CLIENT, SERVER
from tests.unit.worlds import port, uid, world

QUOTA = Quota(most=50, room=1000)
OPENED = Overdraft(opened=True, accepted=False)
DECISION = decide(world({"web1": ("web",), "web2": ("web",)}, ports=(port("web1", 1), port("web2", 2))))


def test_nobody_is_bounded_while_half_is_free() -> None:
    assert not QUOTA.pressing(499, before=False)
    assert QUOTA.pressing(500, before=False)
    assert QUOTA.pressing(499, before=True)
    assert not QUOTA.pressing(449, before=True)


@pytest.mark.parametrize(("used", "quota"), [(0, 50), (500, 50), (750, 25), (980, 2), (1000, 0), (2000, 0)])
def test_the_quota_shrinks_with_what_is_left(used: int, quota: int) -> None:
    assert QUOTA.now(used) == quota


def test_whatever_their_number_some_room_remains() -> None:
    """Each takes what it may, in both ways, one after the other."""
    used = 0
    for _ in range(1000):
        used += 2 * (QUOTA.now(used) + 1) if QUOTA.now(used) else 0
    assert used < QUOTA.room


def test_who_is_over_stays_so_until_it_is_well_below() -> None:
    assert QUOTA.judge(500, {"a": (51, 0), "b": (50, 50), "c": (0, 51)}, {}) == {
        "a": OPENED, "c": Overdraft(opened=False, accepted=True),
    }  # fmt: skip
    assert QUOTA.judge(500, {"a": (46, 46)}, {"a": OPENED}) == {"a": OPENED}
    assert QUOTA.judge(500, {"a": (45, 45)}, {"a": OPENED}) == {}


def test_a_port_says_so_and_stays_active() -> None:
    found = overdraw(DECISION, {uid("web1"): OPENED}, {})
    assert {one.name: (one.state, one.reason) for one in found.ports} == {
        "tap1": (State.ACTIVE, "more connections than its quota: opens no more"),
        "tap2": (State.ACTIVE, ""),
    }
    unit = Overdrawn(uid("web1"), 1, opened=True, accepted=False)
    assert found.units == {**DECISION.units, unit.owner: unit}
    assert overdraw(DECISION, {uid("gone"): OPENED}, {}).units == DECISION.units


def test_what_the_switch_refuses_of_it_is_a_problem_and_not_tried_for_ever() -> None:
    unit = Overdrawn(uid("web1"), 1, opened=True, accepted=False)
    found = overdraw(DECISION, {uid("web1"): OPENED}, {unit.owner: Refusal(unit, "no room")})
    assert unit.owner not in found.units
    assert found.problems == (f"{unit.owner}: no room",)


@pytest.mark.parametrize(
    ("text", "of", "expected"), [("5%", 1_000_000, 50_000), ("5%", 0, 0), ("0", 0, 0), ("77", 100, 77), ("1%", 5, 0)]
)
def test_option(text: str, of: int, expected: int) -> None:
    assert quota("--max", text, of) == expected


@pytest.mark.parametrize("text", ["", "-1", "101%", "5.5%", "five", "%", "3 %"])
def test_options_that_cannot_be_right(text: str) -> None:
    with pytest.raises(ProtectionError, match="--max"):
        quota("--max", text, 1000)


def test_a_number_without_a_limit_of_all() -> None:
    with pytest.raises(ProtectionError, match="ct-limit"):
        quota("--max", "10", 0)


def test_whose_an_address_is() -> None:
    """Also one of a network that a NIC has been promised, and one that two NICs share."""
    shared, network = Allowed(ip_network("10.8.0.7"), shared=True), Allowed(ip_network("10.9.0.0/24"))
    owners = Owners((replace(CLIENT, allowed=(shared, network)), replace(SERVER, allowed=(shared,))))
    assert owners.of("10.1.0.11") == owners.of("fd00:1::11") == owners.of("10.9.0.8") == (CLIENT.nic,)
    assert owners.of("203.0.113.9") == Owners((CLIENT,)).of("203.0.113.9") == ()
    assert owners.of("10.8.0.7") == (CLIENT.nic, SERVER.nic)


ANSWER = rb'{"id":0,"result":"udp,orig=(src=10.0.0.1,dst=10.0.0.2)\ntcp,orig=(src=fd00::1,dst=fd00::2)\n","error":null}'


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_lines_of_a_dump_in_parts(size: int) -> None:
    parts = [ANSWER[at : at + size] for at in range(0, len(ANSWER), size)]
    text = "\n".join(_lines(parts))
    assert text.count("orig=(src=") == 2 and "dst=10.0.0.2)" in text and "dst=fd00::2)" in text


def test_a_dump_that_fails_or_ends_early() -> None:
    with pytest.raises(SwitchError, match="not found"):
        list(_lines([rb'{"id":0,"error":"datapath not found\n"}']))
    with pytest.raises(OSError, match="without"):
        list(_lines([ANSWER[:-20]]))
    assert "".join(_lines([b'{"id":0,"result":"","error":null}'])) == ""
