# SPDX-License-Identifier: Apache-2.0
"""What another hypervisor has handed over, at a real agent and switch: what of it passes, until when, and not again.

The other hypervisor is rows of the database, the VM and its peer are frames. No rule lets anything in.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic, time

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Packet, Raw

from sgctl.agent.handover import TICK
from sgctl.handover import Carried, pack, unpack
from sgctl.model import Handover, handover_id
from sgctl.store import Delete, Insert
from tests.functional.agent_rig import BRIDGE, Manager, Rig
from tests.functional.test_agent_moves import put_on, speak
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import mac_of, uid, world

OWN, PEER = "10.1.0.11", "192.0.2.9"
CLOUD = world({"web1": ("web",)})
STREAM = Carried(17, OWN, PEER, 5000, 6000, False, 0, 0)
PING = Carried(1, OWN, PEER, 77, 8 << 8, False, 0, 0)
CALL = Carried(6, OWN, PEER, 80, 6000, False, 0, 0)
CONTROL = STREAM._replace(own_port=4000)
SHORT, HOUR = 6, 3600


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(CLOUD) as rig:
        yield rig


def handed_over(*brought: tuple[Carried, int], wrong: int) -> Handover:
    """The row with which hv2, whose clock is wrong, hands connections over that have so many seconds left."""
    now = monotonic()
    connections = pack([one._replace(expires=int(now) + left) for one, left in brought], now)
    return Handover(
        id=handover_id(uid("web1"), "hv2"), nic=uid("web1"), host="hv2", to=frozenset({"hv1"}),
        connections=connections, final=True, taken=round((time() + wrong) * 1000),
    )  # fmt: skip


class Scene:
    """A NIC that has come from hv2, whose clock is wrong, with connections that have so many seconds left."""

    def __init__(self, rig: Rig, *brought: tuple[Carried, int], wrong: int = -HOUR) -> None:
        self.rig, self.sent = rig, 0
        rig.sandbox.vsctl("set", "Interface", "eth1", f"options:tx_pcap={rig.directory}/uplink.pcap")
        self.agent = rig.manager()
        put_on(rig, "hv2")
        self.port = rig.plug("web1", 5, mac_of(1))
        rig.sandbox.vsctl("set", "Interface", self.port, f"options:tx_pcap={rig.directory}/vm.pcap")
        self.agent.wait_state(self.port, "standby", "hv2")
        rig.database.write([Insert(handed_over(*brought, (CONTROL, HOUR), wrong=wrong))])
        eventually(lambda: self.flows())
        speak(rig, self.port)
        self.agent.wait_state(self.port, "active")
        rig.wait_nic("web1", "hv1", "up")

    def flows(self) -> list[str]:
        """What stands for the connections of packets from the VM."""
        text = self.rig.sandbox.ofctl("dump-flows", BRIDGE, "table=112")
        return [line for line in text.splitlines() if "hard_timeout" in line]

    def tickets(self) -> int:
        """How many of them are for one entry."""
        return sum("ct_label" in line for line in self.flows())

    def ports(self) -> set[int]:
        """The VM's TCP ports in them."""
        return {int(line.partition("tp_src=")[2].partition(",")[0]) for line in self.flows() if ",tcp," in line}

    def row(self) -> Handover:
        """What the agent says; nothing if it says nothing."""
        id = handover_id(uid("web1"), "hv1")
        return self.rig.database.replica.get(Handover, id) or Handover(id=id, nic=uid("web1"), host="hv1")

    def arrives(self, packet: Packet, *, size: int = 0) -> bool:
        """Whether a packet from the wire reaches the VM, in pieces if it is large; one that does follows it."""
        mark, control = self._send(packet, size), self._send(udp(CONTROL.own_port))
        eventually(lambda: control in self._received())
        found = self._received().count(mark)
        assert found in (0, 2), "only a part of it"
        return found == 2

    def _send(self, packet: Packet, size: int = 0) -> bytes:
        self.sent += 1
        mark = f"packet {self.sent:05d}".encode()
        whole = IP(src=PEER, dst=OWN, id=self.sent) / packet / Raw(mark + bytes(size) + mark)
        head = Ether(src="02:00:00:00:00:77", dst=mac_of(1))
        frames = [bytes(head / piece) for piece in fragment(whole, 1400)]
        self.rig.sandbox.appctl("netdev-dummy/receive", "eth1", *(frame.hex() for frame in frames))
        return mark

    def _received(self) -> bytes:
        return (self.rig.directory / "vm.pcap").read_bytes()

    def conntrack(self) -> str:
        return self.rig.sandbox.appctl("dpctl/dump-conntrack")


def udp(own_port: int) -> Packet:
    return UDP(sport=6000, dport=own_port)


def tcp(own_port: int, flags: str) -> Packet:
    return TCP(sport=6000, dport=own_port, flags=flags)


def ping(ident: int) -> Packet:
    return ICMP(id=ident)


def test_exactly_what_was_handed_over_passes_and_no_longer_than_it_had_left(rig: Rig) -> None:
    association = Carried(132, OWN, PEER, 0, 0, True, 0, 0)
    lasting = PING._replace(own_port=78)
    scene = Scene(rig, (STREAM, 100), (PING, SHORT), (lasting, 100), (association, 100))
    assert not scene.arrives(udp(5001), size=3000)
    assert not scene.arrives(udp(5001))
    assert scene.arrives(udp(5000), size=3000)
    assert scene.arrives(udp(5000))
    eventually(lambda: "id=78" in scene.conntrack())
    assert not scene.arrives(ping(79), size=3000)
    assert scene.arrives(ping(78), size=3000)
    assert scene.arrives(SCTP(sport=1, dport=2, tag=0) / SCTPChunkInit())
    # Nobody has used the other one. Its entry is still there when it is over.
    eventually(lambda: scene.tickets() == 2, 3 * SHORT)
    assert "id=77" in scene.conntrack()
    assert not scene.arrives(ping(77))
    assert scene.arrives(ping(78))


def test_what_was_used_and_is_over_is_not_accepted_again(rig: Rig) -> None:
    """Not after a second migration that is given up, by an agent that starts anew, whatever the old host still says."""
    scene = Scene(rig, (CALL, 1000), (CALL._replace(own_port=81), 1000), wrong=HOUR)
    assert scene.ports() == {80, 81}
    assert scene.arrives(tcp(80, "PA"))
    assert scene.arrives(tcp(80, "R"))
    eventually(lambda: scene.ports() == {81}, 2 * TICK)
    eventually(lambda: tcp_ports(scene.row().rest) == [81])
    rig.sandbox.appctl("dpctl/flush-conntrack")
    waiting = Handover(id=handover_id(uid("web1"), "hv3"), nic=uid("web1"), host="hv3", waiting=True)
    rig.database.write([Insert(waiting)])
    eventually(lambda: scene.row().to == {"hv3"})
    assert tcp_ports(scene.row().connections) == [81]
    restart(scene.agent)
    rig.database.write([Delete(Handover, waiting.id)])
    eventually(lambda: not scene.row().to)
    restart(scene.agent)
    assert scene.ports() == {81}
    assert not scene.arrives(tcp(80, "PA"))
    assert scene.arrives(tcp(81, "PA"))


def tcp_ports(text: str) -> list[int]:
    return [one.own_port for one in unpack(text).connections if one.proto == CALL.proto]


def restart(agent: Manager) -> None:
    agent.kill()
    agent.start()
    agent.wait_ready()


def test_an_agent_that_starts_again_replaces_no_flow(rig: Rig) -> None:
    scene = Scene(rig, *((STREAM._replace(own_port=port), 1000 + port) for port in range(30)))
    eventually(lambda: scene.row().rest and not scene.row().waiting)
    before = rig.ages()
    restart(scene.agent)
    after = rig.ages()
    assert before.keys() == after.keys()
    assert all(after[cookie] >= age for cookie, age in before.items())


def test_what_was_said_while_the_agent_was_away_is_as_old_as_its_time_of_day_says(rig: Rig) -> None:
    agent = rig.manager()
    put_on(rig, "hv2")
    agent.wait_state(rig.plug("web1", 5, mac_of(1)), "standby", "hv2")
    agent.kill()
    rig.database.write([Insert(handed_over((STREAM, 300), (CONTROL, HOUR), wrong=-600))])
    agent.start()
    agent.wait_ready()
    eventually(lambda: f"tp_src={CONTROL.own_port}," in rig.sandbox.ofctl("dump-flows", BRIDGE, "table=112"))
    assert f"tp_src={STREAM.own_port}," not in rig.sandbox.ofctl("dump-flows", BRIDGE, "table=112")
