# SPDX-License-Identifier: Apache-2.0
"""What NICs bring along to a hypervisor follows from its own row and the latest of others, not from clocks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from time import monotonic, time

import pytest

from sgctl.agent import arrivals as module
from sgctl.agent.arrivals import Arrivals
from sgctl.handover import RESPONDER_OK, Carried, Entry, pack
from sgctl.model import Cut, Handover
from sgctl.store.replica import Replica

HOUR = 3600
LEFT = 1000
#: A machine that has been running for much longer or shorter than this one.
THERE = 123456.0

UDP = Entry(proto=17, src="10.1.0.5", dst="10.1.0.6", sport=40000, mark=RESPONDER_OK)


def conversation(port: int, left: int = LEFT, since: float = THERE) -> Carried:
    """One of UDP that a peer has opened, and that will be remembered for so many seconds."""
    return Carried(17, "10.1.0.6", "10.1.0.5", port, 40000, False, 7, int(since) + left)


def row(host: str, *connections: Carried, taken: float, to: str = "here") -> Handover:
    """A hypervisor hands a NIC's connections over."""
    text = pack(connections, THERE)
    return Handover(
        id=host, nic="n", host=host, to=frozenset({to}), connections=text, final=True, taken=round(taken * 1000)
    )


@dataclass
class Reader:
    """A conntrack table."""

    held: list[Entry] = field(default_factory=list)

    def entries(self, zone: int, addresses: set[str], *, finished: bool) -> list[Entry]:
        assert addresses == {"10.1.0.6"} and finished
        return self.held


class Scene:
    """An agent that follows rows; `began`: those that were there when it started."""

    def __init__(self, *began: Handover) -> None:
        self.replica = Replica([Handover, Cut])
        self.replica.insync = True
        self.reader = Reader()
        self.replica.absorb({Handover: {one.id: one for one in began}})
        self.arrivals = Arrivals("here", self.replica, self.reader)  # type: ignore[arg-type]
        self.arrivals.brought()

    def say(self, *rows: Handover | None) -> None:
        """Rows change; None: the other hypervisor's goes."""
        self.replica.announce(self.replica.absorb({Handover: {one.id if one else "there": one for one in rows}}))
        self.arrivals.brought()

    def use(self, port: int, *, left: int = 2 * LEFT, over: bool = False) -> None:
        """Conntrack comes to know a connection."""
        self.reader.held.append(UDP._replace(dport=port, left=left, over=over))

    def own(self) -> Handover:
        """The row that the agent writes about it."""
        text, took = self.arrivals.rest("n")
        return Handover(id="here", nic="n", host="here", rest=text, took=took)

    @property
    def ports(self) -> dict[int, int]:
        """For how many seconds the connections of each port of the VM go on."""
        now, endings = monotonic(), self.arrivals.brought().get("n", {})
        return {one.own_port: round(one.expires - now) for some in endings.values() for one in some.connections}


def near(left: int) -> object:
    return pytest.approx(left, abs=2)


@pytest.mark.parametrize("off", [-HOUR, 0, HOUR])
def test_clocks_need_not_agree(off: int) -> None:
    """What arrives while the agent runs has left what was said, whatever the time of day is where it comes from."""
    scene = Scene()
    scene.say(row("there", conversation(1), conversation(2, 3), taken=time() + off))
    assert scene.ports == {1: near(LEFT), 2: near(3)}


def test_what_was_said_before_the_agent_started_is_as_old_as_its_time_of_day_says() -> None:
    scene = Scene(row("there", conversation(1), conversation(2, 100), taken=time() - 600))
    assert scene.ports == {1: near(LEFT - 600)}
    assert Scene(row("there", conversation(1), taken=time() + HOUR)).ports == {1: near(LEFT)}


@pytest.mark.parametrize("off", [-HOUR, HOUR])
def test_the_latest_row_counts_whatever_the_clocks(off: int) -> None:
    """Each is later for its writer than all that it has seen about the NIC."""
    scene, began = Scene(), row("there", conversation(1), taken=time() + off)
    scene.say(began)
    later = replace(row("beyond", conversation(2), taken=0), taken=began.taken + 1, took=began.taken)
    scene.say(later)
    assert set(scene.ports) == {2}
    scene.say(replace(began, taken=later.taken))
    assert set(scene.ports) == {2}
    scene.say(replace(row("there", conversation(3), taken=0), taken=later.taken + 1, took=later.taken))
    assert set(scene.ports) == {3}


def test_what_was_used_does_not_come_back_with_a_restart() -> None:
    """Not even if conntrack has forgotten it by then, and the old hypervisor's row is still there."""
    scene, said = Scene(), row("there", conversation(1), conversation(2), taken=time())
    scene.say(said)
    scene.use(1)
    assert scene.arrivals.settle()
    assert set(scene.ports) == {2}
    again = Scene(said, scene.own())
    assert again.ports == {2: near(LEFT)}
    assert again.own() == scene.own()
    everything = Scene()
    everything.say(said)
    for port in (1, 2):
        everything.use(port)
    everything.arrivals.settle()
    assert everything.own().rest == ""
    assert Scene(said, everything.own()).ports == {}


def test_a_restart_changes_no_expiry() -> None:
    """Or all flows of what is brought along would be replaced."""
    scene, said = Scene(), row("there", *(conversation(port, LEFT + port) for port in range(20)), taken=time())
    scene.say(said)
    assert Scene(said, scene.own()).arrivals.brought() == scene.arrivals.brought()


def test_what_conntrack_will_forget_sooner_goes_on_standing_for_itself() -> None:
    scene = Scene()
    scene.say(row("there", conversation(1), taken=time()))
    scene.use(1, left=30)
    assert not scene.arrivals.settle()
    scene.reader.held.clear()
    scene.use(1, left=30, over=True)
    assert scene.arrivals.settle()
    assert scene.ports == {}


def test_a_row_that_goes_takes_nothing_away() -> None:
    scene = Scene()
    scene.say(row("there", conversation(1), taken=time()))
    scene.say(None)
    assert set(scene.ports) == {1}
    scene.arrivals.keep({"n"}, set())
    assert set(scene.ports) == {1}
    scene.arrivals.keep(set(), set())
    assert scene.ports == {}


def test_what_a_nic_that_has_left_had_brought_is_forgotten() -> None:
    scene, said = Scene(), row("there", conversation(1), taken=time())
    scene.say(said)
    scene.say(replace(scene.own(), rest=""))
    scene.arrivals.keep({"n"}, {"n"})
    scene.say(said)
    assert scene.ports == {}


def test_a_row_for_others_or_that_cannot_be_read_brings_nothing() -> None:
    scene = Scene()
    scene.say(row("there", conversation(1), taken=time(), to="beyond"))
    assert scene.arrivals.empty
    scene.say(replace(row("there", taken=time()), connections="nonsense"))
    assert scene.ports == {}


def test_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    scene.say(row("there", conversation(1, 20), conversation(2, 100), taken=time()))
    ahead = monotonic() + 50
    monkeypatch.setattr(module, "monotonic", lambda: ahead)
    assert set(scene.ports) == {2}
    assert [one.own_port for one in scene.arrivals.unused("n")] == [2]
    later = ahead + 60
    monkeypatch.setattr(module, "monotonic", lambda: later)
    assert scene.ports == {}
    assert scene.own().rest == ""
    assert scene.arrivals.empty


def test_entries_are_made_anew_once_for_each_row() -> None:
    scene, ping = Scene(), conversation(77)._replace(proto=1)
    scene.say(row("there", ping, conversation(1), taken=time()))
    assert [one.proto for one in scene.arrivals.to_remake("n")] == [1]
    assert scene.arrivals.to_remake("n") == []
    scene.say(row("there", ping, taken=time() + 1))
    assert [one.proto for one in scene.arrivals.to_remake("n")] == [1]
    assert scene.arrivals.to_remake("nobody") == []


def test_entries_that_are_in_use_are_not_made_anew_by_an_agent_that_starts() -> None:
    pings = [conversation(ident)._replace(proto=1, peer_port=8 << 8) for ident in (77, 78)]
    said = row("there", *pings, taken=time())
    scene = Scene()
    scene.say(said)
    again = Scene(said, scene.own())
    again.reader.held.append(UDP._replace(proto=1, ident=77, kind=8, left=20))
    assert [one.own_port for one in again.arrivals.to_remake("n")] == [78]
    assert again.arrivals.to_remake("n") == []


def test_who_has_not_read_what_we_had_said_does_not_take_it_away() -> None:
    """The NIC comes back before the other hypervisor, which had no database for a while, has read what it had left."""
    scene, now = Scene(), monotonic()
    text = pack([conversation(port, since=now) for port in (1, 2)], now)
    ours = replace(row("here", taken=time(), to="there"), connections=text)
    assert scene.arrivals.reclaim(ours)
    assert scene.ports == {1: near(LEFT), 2: near(LEFT)}
    assert scene.arrivals.to_remake("n") == []
    assert not scene.arrivals.reclaim(ours)
    assert not Scene().arrivals.reclaim(replace(ours, final=False))
    fresh = row("there", conversation(3), conversation(2, 50), taken=time() + 1)
    unread, read = Scene(), Scene()
    for one in (unread, read):
        one.arrivals.reclaim(ours)
    unread.say(fresh)
    assert unread.ports == {1: near(LEFT), 2: near(50), 3: near(LEFT)}
    read.say(replace(fresh, took=ours.taken))
    assert read.ports == {2: near(50), 3: near(LEFT)}
    assert not read.arrivals.reclaim(ours)
    early = Scene()
    early.say(fresh)
    assert early.arrivals.reclaim(ours)
    assert early.ports == {1: near(LEFT), 2: near(50), 3: near(LEFT)}
    concurrent = Scene()
    concurrent.arrivals.reclaim(ours)
    concurrent.say(replace(fresh, taken=ours.taken - 1))
    assert concurrent.ports == {1: near(LEFT), 2: near(50), 3: near(LEFT)}


def test_who_says_something_later_takes_back_what_it_had_said() -> None:
    scene = Scene()
    scene.say(row("there", conversation(1), taken=time()))
    scene.say(row("there", conversation(2), taken=time() + 1))
    assert set(scene.ports) == {2}
