# SPDX-License-Identifier: Apache-2.0
"""Whoever gets an address next inherits no connections, however many there were and in whatever state."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from sgctl.model import Account, Address
from sgctl.store import Delete, Insert
from tests.functional.agent_rig import BRIDGE, Manager, Rig
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import address, cidr_rule, mac_of, uid, world

ADDRESS, FREED = "10.1.0.11", "10.1.0.50"
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


def remember(rig: Rig, *, to: str = ADDRESS, mac: str = mac_of(1), count: int = 20) -> None:
    """Somebody outside has so many connections to an address."""
    receive(rig, *(UDP(sport=port, dport=53) for port in range(4000, 4000 + count)), to=to, mac=mac)
    eventually(lambda: len(remembered(rig, to)) == count)


def give(rig: Rig, text: str, nic: str) -> None:
    """An address is freed, and another NIC gets it."""
    old = [row for row in rig.database.replica.all(Address) if row.address == text]
    rig.database.write([Delete(Address, row.id) for row in old])
    rig.database.write([Insert(address(nic, text))])


@pytest.mark.parametrize("away", [False, True])
def test_an_address_that_changes_hands_between_open_ports_inherits_nothing(
    rig: Rig, agent: Manager, away: bool
) -> None:
    """Also while no agent is there: both ports have flows in the switch, and only one of them for this address."""
    give(rig, FREED, "web1")
    eventually(lambda: FREED in agent.ports()["tap5"]["addresses"])
    remember(rig, to=FREED)
    remember(rig)
    if away:
        agent.kill()
    give(rig, FREED, "web2")
    if away:
        agent.start()
    eventually(lambda: FREED in agent.ports()["tap6"]["addresses"])
    assert remembered(rig, FREED) == []
    assert len(remembered(rig)) == 20


def test_a_port_that_took_anothers_place_meanwhile_inherits_nothing(rig: Rig, agent: Manager) -> None:
    """While no agent is there a tenant's VM goes, and another tenant's gets its address, its number, and its port."""
    remember(rig)
    remember(rig, to="10.1.0.12", mac=mac_of(2))
    agent.kill()
    rig.unplug("tap5")
    newcomer = replace(rig.nic("web1"), id=uid("other"), mac=mac_of(7), account=uid("umbrella"), vm=uid("vm other"))
    rig.database.write([Insert(Account(id=uid("umbrella"), name="umbrella", name_key="umbrella"))])
    rig.database.write([
        Insert(replace(CLOUD.vms[uid("vm web1")], id=uid("vm other"), name="other", account=uid("umbrella"))),
        Insert(newcomer),
    ])  # fmt: skip
    give(rig, ADDRESS, "other")
    port = rig.plug("other", 5)
    agent.start()
    agent.wait_state(port, "active")
    assert remembered(rig) == []
    assert len(remembered(rig, "10.1.0.12")) == 20


def test_flows_of_another_version_show_whose_an_address_was(rig: Rig, agent: Manager) -> None:
    """After an upgrade no cookie may be what it was; connections live on nevertheless."""
    remember(rig)
    cookies = rig.sandbox.ofctl("dump-flows", BRIDGE, "table=10,ip,nw_src=10.1.0.11", "--no-stats")
    found = re.search(r"cookie=(0x\w+), table=10, (\S+) actions=(\S+)", cookies)
    assert found
    agent.kill()
    rig.sandbox.ofctl("add-flow", BRIDGE, f"cookie={int(found[1], 16) ^ 1:#x},table=10,{found[2]},actions={found[3]}")
    agent.start()
    agent.wait_ready()
    assert len(remembered(rig)) == 20
