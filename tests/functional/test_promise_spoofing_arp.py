# SPDX-License-Identifier: Apache-2.0
"""Promise: no VM speaks for another's MAC or IPv4 address in ARP and RARP, and the honest ones work."""

from collections.abc import Iterator

import pytest
from scapy.layers.l2 import ARP
from scapy.packet import Packet

from devstack.lab import Lab
from devstack.lab.cloud import Cloud
from tests.functional.scene import BROADCAST, STRANGER_MAC, Frame, Host, Scene, spoofing_scene

pytestmark = pytest.mark.usefixtures("in_force")
ZERO = "00:00:00:00:00:00"
RARP_TYPE = 0x8035


@pytest.fixture(scope="module")
def scene(module_lab: Lab) -> Iterator[Scene]:
    with spoofing_scene(module_lab) as scene:
        yield scene


@pytest.fixture
def cloud(scene: Scene) -> Cloud:
    return scene.cloud


def arp(sender: Host, to: Host | str, op: int, **fields: object) -> Packet:
    """An ARP message that is honest but for `fields`."""
    honest = {"hwsrc": sender.mac, "psrc": sender.ip, "hwdst": ZERO}
    return sender.ether(to) / ARP(op=op, **(honest | fields))


def rarp(sender: Host, to: str = BROADCAST, **fields: object) -> Packet:
    """What QEMU announces a VM with when it has moved."""
    honest = {"op": 3, "hwsrc": sender.mac, "hwdst": sender.mac, "psrc": "0.0.0.0", "pdst": "0.0.0.0"}
    return sender.ether(to, RARP_TYPE) / ARP(**(honest | fields))


def test_honest_arp_reaches_the_one_it_concerns(scene: Scene) -> None:
    mallory, alice, bob = scene.mallory, scene.alice, scene.bob
    frames = {
        "who has alice": arp(mallory, BROADCAST, 1, pdst=alice.ip),
        "who has bob": arp(mallory, BROADCAST, 1, pdst=bob.ip),
        "who has the gateway": arp(mallory, BROADCAST, 1, pdst=scene.gateway[0]),
        "still there, alice?": arp(mallory, alice, 1, pdst=alice.ip),
        "still there, bob?": arp(mallory, bob, 1, pdst=bob.ip),
        "I am mallory, alice": arp(mallory, alice, 2, hwdst=alice.mac, pdst=alice.ip),
        "I am mallory, bob": arp(mallory, bob, 2, hwdst=bob.mac, pdst=bob.ip),
        "probe of its own address": arp(mallory, BROADCAST, 1, psrc="0.0.0.0", pdst=mallory.ip),
        "announcement by request": arp(mallory, BROADCAST, 1, pdst=mallory.ip),
        "announcement by reply": arp(mallory, BROADCAST, 2, hwdst=BROADCAST, pdst=mallory.ip),
        "RARP after a move": rarp(mallory),
    }
    assert scene.arrivals(mallory, frames) == {
        "who has alice": {"alice"},
        "who has bob": {"bob", "out1", "stray"},
        "who has the gateway": {"out1", "stray"},
        "still there, alice?": {"alice"},
        "still there, bob?": {"bob", "out1"},
        "I am mallory, alice": {"alice"},
        "I am mallory, bob": {"bob", "out1"},
        "probe of its own address": {"out1", "stray"},
        "announcement by request": {"out1", "stray"},
        "announcement by reply": {"out1", "stray"},
        "RARP after a move": {"out1", "stray"},
    }


def forged(scene: Scene) -> Iterator[tuple[str, Frame]]:
    """Every field of ARP that can lie, one at a time, to everybody it could reach."""
    mallory, alice, bob = scene.mallory, scene.alice, scene.bob
    victims = {"alice": alice, "bob": bob, "all": BROADCAST}
    lies = {
        "alice's address": {"psrc": alice.ip},
        "bob's address": {"psrc": bob.ip},
        "the gateway's address": {"psrc": scene.gateway[0]},
        "the server's address": {"psrc": scene.server[0]},
        "a free address": {"psrc": "10.1.0.249"},
        "a multicast address": {"psrc": "224.0.0.1"},
        "127.0.0.1": {"psrc": "127.0.0.1"},
        "alice's MAC": {"hwsrc": alice.mac},
        "bob's MAC": {"hwsrc": bob.mac},
        "nobody's MAC": {"hwsrc": STRANGER_MAC},
        "no MAC": {"hwsrc": ZERO},
        "broadcast MAC": {"hwsrc": BROADCAST},
        "alice altogether": {"hwsrc": alice.mac, "psrc": alice.ip},
    }
    for name, fields in lies.items():
        for target, to in victims.items():
            asked = bob.ip if target == "bob" else alice.ip
            for op in (1, 2):
                yield f"{target}: op {op} from {name}", arp(mallory, to, op, pdst=asked, **fields)
    for target, to in victims.items():
        for asked in (alice.ip, mallory.ip):
            yield f"{target}: probe reply about {asked}", arp(mallory, to, 2, psrc="0.0.0.0", pdst=asked)
        # Who probes an address takes another's probe for a conflict, and gives it up (RFC 5227, 2.1.1).
        for asked in (alice.ip, bob.ip, scene.gateway[0], "10.1.0.249", "0.0.0.0"):
            yield f"{target}: probe of {asked}", arp(mallory, to, 1, psrc="0.0.0.0", pdst=asked)
        yield f"{target}: probe with alice's MAC", arp(mallory, to, 1, psrc="0.0.0.0", hwsrc=alice.mac, pdst=mallory.ip)
        for op in (0, 3, 4, 5, 8, 9, 256, 257, 258):
            yield f"{target}: op {op}", arp(mallory, to, op, pdst=alice.ip)
        for source in (alice.mac, bob.mac, STRANGER_MAC, ZERO, BROADCAST, scene.gateway_mac):
            frame = arp(mallory, to, 1, pdst=alice.ip)
            frame.src = source
            yield f"{target}: dl_src {source}", frame
            both = arp(mallory, to, 1, pdst=alice.ip, hwsrc=source)
            both.src = source
            yield f"{target}: dl_src and sha {source}", both


def test_forged_arp_reaches_nobody(scene: Scene) -> None:
    assert scene.arrivals(scene.mallory, dict(forged(scene))) == {}


def test_malformed_arp_reaches_nobody(scene: Scene) -> None:
    """What OVS reads as a probe, because it sets all fields of what it does not understand to zero."""
    mallory, alice = scene.mallory, scene.alice
    frames = {}
    for target, to in {"alice": alice, "all": BROADCAST}.items():
        whole = bytes(arp(mallory, to, 1, pdst=alice.ip))
        frames |= {
            f"{target}: truncated": whole[:30],
            f"{target}: other hardware": bytes(arp(mallory, to, 1, pdst=alice.ip, hwtype=6)),
            f"{target}: other protocol": bytes(arp(mallory, to, 1, pdst=alice.ip, ptype=0x86DD)),
            f"{target}: MAC of 8 octets": bytes(arp(mallory, to, 1, pdst=alice.ip, hwlen=8)),
            f"{target}: address of 16 octets": bytes(arp(mallory, to, 1, pdst=alice.ip, plen=16)),
            f"{target}: address of no octets": bytes(arp(mallory, to, 1, psrc=alice.ip, pdst=alice.ip, plen=0)),
        }
    assert scene.arrivals(mallory, frames) == {}


def test_forged_rarp_reaches_nobody(scene: Scene) -> None:
    mallory, alice = scene.mallory, scene.alice
    reply = {"op": 4, "hwsrc": mallory.mac, "hwdst": alice.mac, "psrc": mallory.ip, "pdst": "10.1.0.66"}
    frames: dict[str, Frame] = {
        "for alice": rarp(mallory, hwsrc=alice.mac, hwdst=alice.mac),
        "sender is alice": rarp(mallory, hwsrc=alice.mac),
        "target is alice": rarp(mallory, hwdst=alice.mac),
        "to alice": rarp(mallory, alice.mac),
        "to bob": rarp(mallory, scene.bob.mac),
        "reply to alice": mallory.ether(alice, RARP_TYPE) / ARP(**reply),
        "reply to all": mallory.ether(BROADCAST, RARP_TYPE) / ARP(**reply),
        "request by op 1": rarp(mallory, op=1),
    }
    other = rarp(mallory, hwsrc=alice.mac, hwdst=alice.mac)
    other.src = alice.mac
    frames["alice altogether"] = other
    assert scene.arrivals(mallory, frames) == {}


def test_the_wire_may_ask_and_answer(scene: Scene) -> None:
    stray, alice, bob = scene.stray, scene.alice, scene.bob
    frames = {
        "who has alice": arp(stray, BROADCAST, 1, pdst=alice.ip),
        "who has bob": arp(stray, BROADCAST, 1, pdst=bob.ip),
        "I am stray": arp(stray, alice, 2, hwdst=alice.mac, pdst=alice.ip),
        "probe of alice's address": arp(stray, BROADCAST, 1, psrc="0.0.0.0", pdst=alice.ip),
    }
    assert scene.arrivals(stray, frames) == {
        "who has alice": {"alice"},
        "who has bob": {"bob"},
        "I am stray": {"alice"},
        "probe of alice's address": {"alice"},
    }


def test_the_wire_cannot_be_a_vm(scene: Scene) -> None:
    """Frames from outside that claim a VM of the hypervisor they come to, or concern nobody there."""
    stray, mallory, alice = scene.stray, scene.mallory, scene.alice
    frames: dict[str, Frame] = {
        "mallory's address to alice": arp(stray, alice, 2, psrc=mallory.ip, hwdst=alice.mac, pdst=alice.ip),
        "mallory's address, asking": arp(stray, BROADCAST, 1, psrc=mallory.ip, pdst=alice.ip),
        "announcement": arp(stray, BROADCAST, 1, pdst=stray.ip),
        "announcement by reply": arp(stray, BROADCAST, 2, pdst=stray.ip),
        "who has nobody": arp(stray, BROADCAST, 1, pdst="10.1.0.249"),
        "RARP": rarp(stray),
        "RARP to alice": rarp(stray, alice.mac),
    }
    for source in (mallory.mac, ZERO, BROADCAST):
        frame = arp(stray, alice, 1, pdst=alice.ip)
        frame.src = source
        frames[f"dl_src {source}"] = frame
    assert scene.arrivals(stray, frames) == {}
    assert mallory.vm.ping(scene.gateway[0])  # the wire's own switch has been told lies: let it learn the truth


def test_the_neighbours_still_know_each_other(scene: Scene) -> None:
    """After all of that their caches hold the truth."""
    for host, others in ((scene.alice, (scene.mallory, scene.bob)), (scene.bob, (scene.alice, scene.mallory))):
        for other in others:
            assert host.vm.ping(other.ip)
            known = host.vm.exec("ip", "neighbour", "show", other.ip)
            assert other.mac in known
