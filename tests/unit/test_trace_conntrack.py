# SPDX-License-Identifier: Apache-2.0
"""The model of conntrack gives the states that OVS's userspace datapath gives, one line per sequence of packets.

Whether they are the switch's own, `tests.functional.test_trace_switch` finds out with random sequences.
"""

import pytest

from flows.conntrack_model import Conntrack, Write
from flows.fields import CT_STATES
from flows.packet import End, Packet

A, B, C = (End.of(f"02:00:00:00:00:0{n}", f"10.0.0.{n}") for n in (1, 2, 3))
SYN, UDP, PING, GRE = Packet.tcp(A, B, 80), Packet.udp(A, B, 53), Packet.icmp(A, B), Packet.ip(A, B, 47, bytes(8))
SYN_ACK, ACK, FIN, FIN_BACK = SYN.reply(), SYN.follow_up("A"), SYN.follow_up("FA"), SYN.reply(flags="FA")


def states(*packets: Packet) -> list[str]:
    """What conntrack says of each, if whatever is new is committed with mark 1."""
    conntrack, said = Conntrack(), []
    for packet in packets:
        found = conntrack.track(1, packet.talk, commit=False)
        said.append("+".join(name for name, bit in CT_STATES.items() if found.state & bit and name != "trk"))
        said[-1] += f" {found.mark}"
        if found.state & CT_STATES["new"]:
            conntrack.track(1, packet.talk, commit=True, mark=Write(1, 1))
    return said


@pytest.mark.parametrize("packet", [UDP, PING, GRE], ids=["udp", "icmp", "gre"])
def test_one_way_stays_new(packet: Packet) -> None:
    said = states(packet, packet, packet.reply(), packet)
    assert said == ["new 0", "new 1", "est+rpl 1", "est 1"]


def test_tcp() -> None:
    assert states(SYN, SYN, SYN_ACK, ACK) == ["new 0", "new 1", "est+rpl 1", "est 1"]


@pytest.mark.parametrize("flags", ["A", "PA", "FA", "R", "RA"])
def test_tcp_picked_up_in_the_middle(flags: str) -> None:
    middle = SYN.follow_up(flags)
    assert states(middle, middle.reply(flags="A"))[0] == "new 0"


@pytest.mark.parametrize("flags", ["SA", "F", "", "FPU", "SF", "SR"])
def test_odd_tcp_is_invalid(flags: str) -> None:
    odd = Packet.tcp(A, B, 80, flags=flags)
    assert states(odd) == ["inv 0"]
    if flags != "SA":
        assert states(SYN, SYN_ACK, odd)[2] == "inv 1"


@pytest.mark.parametrize("end", [(SYN.follow_up("R"),), (FIN, FIN_BACK, ACK)], ids=["reset", "both FINs"])
def test_a_closed_connection_starts_anew(end: tuple[Packet, ...]) -> None:
    assert states(SYN, SYN_ACK, ACK, *end, SYN)[-1] == "new 0"
    assert states(SYN, SYN_ACK, ACK, FIN, SYN)[-1] == "est 1"


def test_errors_are_related_whoever_sends_them() -> None:
    assert states(UDP, UDP.error(), UDP.error(by=C)) == ["new 0", "rel+rpl 1", "rel+rpl 1"]
    assert states(UDP, UDP.reply(), UDP.reply().error(by=C))[2] == "rel 1"
    assert states(UDP.error()) == ["inv 0"]


STRAY = (PING.reply(), Packet.icmp(A, B, 17), Packet.icmp(A, B, code=1), Packet.arp(A, B.ip))


@pytest.mark.parametrize("packet", STRAY)
def test_what_starts_nothing_is_invalid(packet: Packet) -> None:
    assert states(packet) == ["inv 0"]


def test_sctp_has_no_ports() -> None:
    assert states(Packet.sctp(A, B, 5), Packet.sctp(A, B, 6)) == ["new 0", "new 1"]


def test_zones_know_nothing_of_each_other() -> None:
    conntrack = Conntrack()
    conntrack.track(1, UDP.talk, commit=True, mark=Write(2, 2))
    assert conntrack.track(2, UDP.talk, commit=False).mark == 0
    assert [one.mark for one in conntrack.connections] == [2]
    conntrack.forget()
    assert len(conntrack) == 0


def test_written_bits_leave_the_others() -> None:
    conntrack = Conntrack()
    conntrack.track(1, UDP.talk, commit=True, mark=Write(1, 1), label=Write(7, 0xFF))
    again = conntrack.track(1, UDP.talk, commit=True, mark=Write(2, 2), label=Write(0x900, 0xF00))
    assert (again.mark, again.label) == (3, 0x907)
