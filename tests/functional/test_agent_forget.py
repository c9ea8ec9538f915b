# SPDX-License-Identifier: Apache-2.0
"""Whoever gets an address next inherits no connections, however many there were and in whatever state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from tests.functional.agent_rig import Manager, Rig
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import cidr_rule, mac_of, world

ADDRESS = "10.1.0.11"
RULE = replace(cidr_rule("anything", "web", "0.0.0.0/0"), protocol="all", proto=-1, first=-1, last=-1)
CLOUD = world({"web1": ("web",), "web2": ("web",)}, rules=(RULE,))


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(CLOUD) as rig:
        yield rig


@pytest.fixture
def agent(rig: Rig) -> Manager:
    agent = rig.manager()
    for number, nic in ((5, "web1"), (6, "web2")):
        agent.wait_state(rig.plug(nic, number), "active")
    return agent


def receive(rig: Rig, *packets: Packet, to: str = ADDRESS, mac: str = mac_of(1)) -> None:
    """Let packets come in from the physical network."""
    frame = Ether(src="02:00:00:00:00:77", dst=mac) / IP(src="192.0.2.9", dst=to)
    rig.sandbox.appctl("netdev-dummy/receive", "eth1", *((bytes(frame / packet)).hex() for packet in packets))


def remembered(rig: Rig, address: str = ADDRESS) -> list[str]:
    dump = rig.sandbox.appctl("dpctl/dump-conntrack").splitlines()
    return [line for line in dump if f"dst={address}," in line or f"src={address}," in line]


def test_connections_in_all_states_are_forgotten_and_those_of_others_stay(rig: Rig, agent: Manager) -> None:
    for port in range(2000, 2020):
        receive(rig, TCP(sport=port, dport=80, flags="S"), TCP(sport=port, dport=80, flags="R"))
    receive(rig, *(UDP(sport=port, dport=53) for port in range(3000, 3010)))
    receive(rig, *(ICMP(id=number) for number in range(5)))
    receive(rig, UDP(sport=3000, dport=53), to="10.1.0.12", mac=mac_of(2))
    eventually(lambda: len(remembered(rig)) > 30 and remembered(rig, "10.1.0.12"))
    rig.unplug("tap5")
    eventually(lambda: "tap5 is gone" in agent.log.read_text())
    assert remembered(rig) == []
    assert remembered(rig, "10.1.0.12")


def test_an_address_that_is_used_again_inherits_nothing(rig: Rig, agent: Manager) -> None:
    agent.kill()
    receive(rig, *(UDP(sport=port, dport=53) for port in range(3000, 3020)))
    eventually(lambda: len(remembered(rig)) == 20)
    rig.unplug("tap5")
    agent.start()
    agent.wait_ready()
    agent.wait_state(rig.plug("web1", 7), "active")
    assert remembered(rig) == []
