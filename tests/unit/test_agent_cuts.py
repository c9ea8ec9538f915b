# SPDX-License-Identifier: Apache-2.0
"""Which connections a revoked rule takes with it, and when."""

import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from flows import fields as f
from flows.flow import Ct, Load
from flows.inputs import Bridge
from flows.packet import Packet
from sgctl.agent.applied import Applied
from sgctl.agent.arrivals import Arrivals
from sgctl.agent.cuts import Cuts
from sgctl.cuts import cuts, frame
from sgctl.handover import Carried, Entry, pack
from sgctl.memo import Layers
from sgctl.model import Cut, Handover
from sgctl.numbers import number
from sgctl.openflow.errors import SwitchError
from sgctl.store import Replica
from sgctl.world import Decision, World

ZONE = 7
RULE, OTHER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
NUMBER = number([RULE])
IN, OUT = NUMBER << 32, NUMBER


def entry(label: int, *, proto: int = 6, src: str = "10.1.0.5", dst: str = "10.1.0.6", **more: int) -> Entry:
    return Entry(proto=proto, src=src, dst=dst, label=label, **more)


@pytest.mark.parametrize(
    ("label", "cleared"),
    [
        (0, []),
        (9 << 32 | 9, []),
        (IN | 9, [Load(f.MARKS, 0), Load(f.LABEL_INGRESS, 0)]),
        (9 << 32 | OUT, [Load(f.MARKS, 0), Load(f.LABEL_EGRESS, 0)]),
        (IN | OUT, [Load(of, 0) for of in (f.MARKS, f.LABEL_EGRESS, f.LABEL_INGRESS)]),
    ],
)
def test_only_what_the_rule_has_set_is_cleared(label: int, cleared: list[Load]) -> None:
    found = list(cuts([entry(label)], {NUMBER}, ZONE))
    assert [list(action.execute) for action, _ in found] == ([cleared] if cleared else [])
    assert all(action.commit and action.zone == ZONE for action, _ in found)


V4, V6 = ("10.1.0.5", "10.1.0.6"), ("fd00::5", "fd00::6")


@pytest.mark.parametrize(
    ("ends", "proto", "more"),
    [
        *((ends, 6, {"sport": 40000, "dport": 80}) for ends in (V4, V6)),
        *((ends, 17, {"sport": 40000, "dport": 53}) for ends in (V4, V6)),
        *((ends, 47, {}) for ends in (V4, V6)),
        (V4, 1, {"ident": 77, "kind": 8}),
        (V6, 58, {"ident": 77, "kind": 128}),
    ],
)
def test_frames_are_of_the_connection(ends: tuple[str, str], proto: int, more: dict[str, int]) -> None:
    one = entry(0, proto=proto, src=ends[0], dst=ends[1], **more)
    packet = Packet.parse(frame(one))
    assert packet.talk is not None
    assert [str(end.ip) for end in packet.ends] == list(ends)


@dataclass
class Switch:
    """Remembers what it was sent."""

    sent: list[tuple[Ct, bytes]] = field(default_factory=list)
    barriers: int = 0

    def run_actions(self, actions: list[Ct], data: bytes) -> None:
        self.sent += [(action, data) for action in actions]

    def flush_connections(self, zone: int, originals: tuple[()]) -> None:
        assert (zone, originals) == (Bridge(()).zone, ())
        self.barriers += 1


@dataclass
class Reader:
    """A conntrack table that may be out of reach."""

    held: list[Entry]
    broken: bool = False
    seconds: float = 0.0

    def labelled(self, zone: int, numbers: frozenset[int]) -> list[Entry]:
        time.sleep(self.seconds)
        if self.broken:
            raise SwitchError("broken")
        return self.held


class Scene:
    """A hypervisor with one connection that RULE has admitted, and one of another rule's."""

    def __init__(self) -> None:
        self.replica = Replica([Cut])
        self.reader = Reader([entry(IN), entry(5 << 32)])
        self.switch = Switch()
        self.cuts = Cuts(self.replica, self.reader)  # type: ignore[arg-type]

    def revoke(self, id: str = "a") -> None:
        self.replica.absorb({Cut: {id: Cut(id=id, rule=RULE)}})

    def turn(self, rules: dict[int, str]) -> bool:
        decision = Decision(units=Layers({"bridge": Bridge(())}), ports=(), rules=rules)
        applied = Applied(World(host="h"), decision, {}, 0, 0, current=True, number=1)
        return self.cuts.carry_out(applied, self.switch)  # type: ignore[arg-type]

    @property
    def cut(self) -> int:
        assert self.switch.barriers or not self.switch.sent
        return len(self.switch.sent)


def test_once_the_rule_is_gone_from_the_flows_and_once_only() -> None:
    scene = Scene()
    assert scene.turn({NUMBER: RULE})
    scene.revoke()
    assert not scene.turn({NUMBER: RULE})
    assert scene.cut == 0
    assert scene.turn({})
    assert scene.turn({})
    assert scene.cut == 1


def test_an_agent_that_has_just_started_knows_the_number_too() -> None:
    scene = Scene()
    scene.revoke()
    assert scene.turn({})
    assert scene.cut == 1


def test_rules_whose_numbers_collided() -> None:
    scene = Scene()
    scene.reader.held.append(entry(77))
    scene.turn({NUMBER: OTHER, 77: RULE})
    scene.revoke()
    assert scene.turn({NUMBER: OTHER})
    assert [action.execute[0] for action, _ in scene.switch.sent] == [Load(f.MARKS, 0)]


def test_a_number_that_is_anothers_is_left_alone() -> None:
    scene = Scene()
    scene.revoke()
    assert scene.turn({NUMBER: OTHER})
    assert scene.cut == 0


def test_it_is_tried_again(caplog: Any) -> None:
    scene = Scene()
    scene.revoke()
    scene.reader.broken = True
    assert not scene.turn({})
    assert not scene.turn({})
    assert caplog.text.count("cannot end connections") == 1
    scene.reader.broken = False
    assert scene.turn({})
    assert scene.cut == 1


def test_many_rows_are_done_at_once_and_not_one_after_the_other() -> None:
    scene = Scene()
    scene.reader.seconds = 0.05
    for id in "12345":
        scene.revoke(id)
    assert scene.turn({})
    assert scene.cut == 1
    scene.revoke("6")
    assert not scene.turn({})
    begun = time.monotonic()
    while not scene.turn({}):
        assert time.monotonic() - begun < 10
        time.sleep(0.01)
    assert scene.cut == 2


def test_swept_rows_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgctl.agent.cuts.REST", 0)
    scene = Scene()
    scene.revoke()
    scene.turn({})
    scene.replica.absorb({Cut: {"a": None}})
    assert scene.turn({})
    scene.revoke("b")
    scene.turn({})
    assert scene.cut == 2


@pytest.mark.parametrize("cut_first", [True, False])
def test_what_a_moving_vm_brings_along_ends_too(cut_first: bool) -> None:
    replica = Replica([Handover, Cut])
    replica.insync = True
    arrivals = Arrivals("there", replica, Reader([]))  # type: ignore[arg-type]
    now = time.monotonic()
    until = int(now) + 1000
    carried = [Carried(6, "10.1.0.6", "10.1.0.5", 80, port, False, rule, until) for port, rule in ((1, NUMBER), (2, 5))]
    row = Handover(
        id="h", nic="n", host="here", to=frozenset({"there"}), connections=pack(carried, now),
        taken=round(time.time() * 1000),
    )  # fmt: skip
    news = [{Cut: {"c": Cut(id="c", rule=RULE)}}, {Handover: {"h": row}}]
    for one in news if cut_first else reversed(news):
        replica.announce(replica.absorb(one))  # type: ignore[arg-type]
        arrivals.brought()
    (endings,) = arrivals.brought().values()
    assert [connection.rule for ending in endings.values() for connection in ending.connections] == [5]
