# SPDX-License-Identifier: Apache-2.0
"""VMs that work together cannot fill the table of connections: a victim's new ones beside long-lived ones, on a switch.

Each attack is tried twice. Without quotas it must do harm, or the test would prove nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from tests.functional.agent_rig import Manager, Rig
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import cidr_rule, mac_of, uid, world

ANYTHING = replace(cidr_rule("anything", "any", "0.0.0.0/0"), protocol="all", proto=-1, first=-1, last=-1)
NAMES = ("mallory", "friend", "victim", "server")
CLOUD = world(dict.fromkeys(NAMES, ("any",)), rules=(ANYTHING,))
ROUTER = "02:00:00:00:00:77"
HELPER = "192.0.2.66"
"""A machine outside that works with the attackers."""
ROOM = 400
OPTIONS = (f"--ct-limit={ROOM}", "--limit-connections=0")
FIRST, MORE = 220, 240
"""Connections of the attackers': at first more than half of the room, then more than the rest of it."""
QUEUE = 90
"""Frames that a port of these takes at once."""
TRIES = 8
OPENS, ACCEPTS = "opens no more", "accepts no more from outside"


def number(name: str) -> int:
    return NAMES.index(name) + 1


def ip(name: str) -> str:
    return f"10.1.0.{10 + number(name)}" if name in NAMES else HELPER


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(CLOUD) as rig:
        for name in NAMES:
            rig.plug(name, number(name), mac_of(number(name)))
        yield rig


def send(rig: Rig, source: str, target: str, *segments: Packet) -> None:
    """Let segments come in where `source` is; the helper is on the wire, as is all that is not here."""
    macs = [mac_of(number(one)) if one in NAMES else ROUTER for one in (source, target)]
    head = Ether(src=macs[0], dst=macs[1]) / IP(src=ip(source), dst=ip(target))
    port = f"tap{number(source)}" if source in NAMES else "eth1"
    frames = [bytes(head / segment).hex() for segment in segments]
    for at in range(0, len(frames), QUEUE):
        some = frames[at : at + QUEUE]
        expected = packets(rig, port, "RX") + len(some)
        rig.sandbox.appctl("netdev-dummy/receive", port, *some)
        eventually(lambda number=expected: packets(rig, port, "RX") >= number)


def packets(rig: Rig, port: str, way: str) -> int:
    """How many the switch has taken from a port (RX), or given to it (TX)."""
    text = rig.sandbox.appctl("dpctl/show", "-s")
    return int(re.findall(rf"port \d+: {port} .*?{way} packets:(\d+)", text, re.DOTALL)[0])


def shake_hands(rig: Rig, source: str, target: str, ports: range) -> None:
    """Established TCP connections, which are remembered for a day."""
    send(rig, source, target, *(TCP(sport=port, dport=7, flags="S", seq=1) for port in ports))
    send(rig, target, source, *(TCP(sport=7, dport=port, flags="SA", seq=1, ack=2) for port in ports))
    send(rig, source, target, *(TCP(sport=port, dport=7, flags="A", seq=2, ack=2) for port in ports))


def passes(rig: Rig, source: str, target: str, segment: Packet) -> bool:
    port = f"tap{number(target)}" if target in NAMES else "eth1"
    before = packets(rig, port, "TX")
    send(rig, source, target, segment)
    return packets(rig, port, "TX") > before


def successes(rig: Rig, source: str, target: str, first: int) -> int:
    """How many of the victim's attempts at a new connection get their answer."""
    done = 0
    for port in range(first, first + TRIES):
        asked = passes(rig, source, target, TCP(sport=port, dport=80, flags="S", seq=1))
        done += asked and passes(rig, target, source, TCP(sport=80, dport=port, flags="SA", seq=1, ack=2))
    return done


def used(rig: Rig) -> int:
    return int(re.findall(r"zone=1,limit=\d+,count=(\d+)", rig.sandbox.appctl("dpctl/ct-get-limits", "zone=1"))[0])


def attack(rig: Rig, source: str, target: str, count: int, first: int = 10_000) -> None:
    shake_hands(rig, source, target, range(first, first + count))


def reason(agent: Manager, name: str) -> str:
    return str(agent.ports()[f"tap{number(name)}"]["reason"])


def dropped(agent: Manager) -> dict[str, int]:
    return {one["reason"]: one["packets"] for one in agent.get("/admin/drops")[1]["drops"] if "quota" in one["reason"]}


PAIRS = [("mallory", "friend", "mallory", OPENS), ("helper", "friend", "friend", ACCEPTS)]


@pytest.mark.parametrize(("source", "target", "culprit", "said"), PAIRS)
def test_it_does_harm_without_quotas(rig: Rig, source: str, target: str, culprit: str, said: str) -> None:
    agent = rig.manager(*OPTIONS, "--max-connections-per-nic=0")
    agent.wait_state("tap4", "active")
    assert successes(rig, "victim", "server", 1000) == TRIES
    attack(rig, source, target, FIRST + MORE)
    assert used(rig) == ROOM
    assert successes(rig, "victim", "server", 2000) < TRIES // 2


@pytest.mark.parametrize(("source", "target", "culprit", "said"), PAIRS)
def test_who_has_too_many_begins_no_more_and_the_others_do(
    rig: Rig, source: str, target: str, culprit: str, said: str
) -> None:
    agent = rig.manager(*OPTIONS)
    agent.wait_state("tap4", "active")
    attack(rig, source, target, FIRST)
    agent.wait_state(f"tap{number(culprit)}", "active", said)
    rig.wait_nic(culprit, "hv1", "up")
    eventually(lambda: said in rig.nic(culprit).reason)
    before = used(rig)
    attack(rig, source, target, MORE, first=20_000)
    assert used(rig) <= before
    assert [successes(rig, "victim", one, 1000) for one in ("server", "helper")] == [TRIES, TRIES]
    eventually(lambda: sum(dropped(agent).values()) >= MORE)
    assert [name for name in NAMES if reason(agent, name)] == [culprit]
    assert "sgctl_ports_over_quota 1.0" in agent.get("/metrics")[1]
    assert f"NIC {uid(culprit)} has opened " in agent.log.read_text()

    established = TCP(sport=10_000, dport=7, flags="PA", seq=2, ack=2)
    assert passes(rig, source, target, established)
    assert passes(rig, target, source, TCP(sport=7, dport=10_000, flags="PA", seq=2, ack=2))
    rig.sandbox.appctl("dpctl/flush-conntrack")
    eventually(lambda: not reason(agent, culprit))
    assert successes(rig, source, target, 3000) == TRIES


def test_a_restart_of_the_agent_gives_nobody_another_chance(rig: Rig) -> None:
    agent = rig.manager(*OPTIONS)
    agent.wait_state("tap4", "active")
    attack(rig, "mallory", "friend", FIRST)
    agent.wait_state("tap1", "active", OPENS)
    before = rig.ages()
    agent.kill()
    agent.start()
    agent.wait_state("tap1", "active", OPENS)
    after = rig.ages()
    assert after.keys() == before.keys() and all(after[cookie] >= age for cookie, age in before.items())
    agent.stop()
    rig.manager(*OPTIONS[1:], "--ct-limit=0").wait_state("tap1", "active")
    assert successes(rig, "mallory", "friend", 3000) == TRIES


def test_a_flooded_server_is_there_for_its_neighbours(rig: Rig) -> None:
    """It has been closed to the outside only, and may still ask for something itself."""
    agent = rig.manager(*OPTIONS)
    agent.wait_state("tap4", "active")
    attack(rig, "helper", "server", FIRST)
    agent.wait_state("tap4", "active", ACCEPTS)
    assert successes(rig, "victim", "server", 1000) == TRIES
    assert successes(rig, "server", "helper", 1000) == TRIES
    assert not passes(rig, "helper", "server", TCP(sport=9, dport=7, flags="S"))
