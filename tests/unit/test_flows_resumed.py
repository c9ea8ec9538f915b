# SPDX-License-Identifier: Apache-2.0
"""What a VM has brought along passes though no rule lets it in, in both directions, and nothing else does.

No rule of the server's lets `PORT` in, nor anything of what else is sent to it here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address
from itertools import permutations, product

import pytest

from flows import lint
from flows.flow import Match
from flows.inputs import Connection, Moved, Resumed, Unit
from flows.packet import End, Packet
from flows.pipeline import build
from flows.trace import Switch
from sgctl.handover import Carried, endings
from sgctl.reconcile import cookie_of, scope
from tests.unit.flow_cast import caged, caged6, client, nagios, nagios6, server
from tests.unit.flow_handover import enter
from tests.unit.flow_world import BRIDGE, CAGED, CLIENT, MOVED, POD, POLICIES, SERVER, UNITS, UPLINK, flows_of

TCP, UDP, ICMP, ICMPV6, SCTP, GRE, ESP = 6, 17, 1, 58, 132, 47, 50
PORT = 9999
FEW = flows_of((BRIDGE, POD, CLIENT, SERVER, CAGED, *POLICIES))
BROUGHT = next(unit.connections for unit in MOVED if isinstance(unit, Resumed))
NICS = {port.number: port.nic for port in (CLIENT, SERVER, CAGED)}


def switch(*brought: tuple[int, Connection]) -> Switch:
    """The bridge of `flow_world`, where VMs have brought connections along."""
    moved = {number: Moved(NICS[number], number) for number, _ in brought}
    resumed = [Resumed(NICS[number], number, index + 1, (one,)) for index, (number, one) in enumerate(brought)]
    flows = flows_of((*UNITS, *moved.values(), *resumed))
    assert lint.check(flows) == []
    return Switch(flows)


def handed(brought: Iterable[tuple[int, Carried]]) -> Switch:
    """A bridge with few others after hand-overs as the agent makes them: flows, and entries for what has tickets."""
    brought = list(brought)
    units: list[Unit] = [Moved(NICS[number], number) for number in {number for number, _ in brought}]
    for number, nic in NICS.items():
        load = endings((one for at, one in brought if at == number), 0)
        units += [Resumed(nic, number, end, some.connections, some.pieces) for end, some in load.items()]
    bridge = Switch((*FEW, *flows_of(units)))
    for _, one in brought:
        if one.ticketed:
            enter(bridge, one)
    return bridge


def at_server(peer: str, peer_port: int = 40000, proto: int = TCP) -> tuple[int, Connection]:
    return SERVER.number, Connection(proto, ip_address("10.1.0.12"), ip_address(peer), PORT, peer_port, 7, 2000)


FROM_WIRE = Packet.tcp(nagios, server, PORT, flags="PA")
FROM_CLIENT = Packet.tcp(client, server, PORT, flags="PA")


def outputs(bridge: Switch, packet: Packet, port: int) -> tuple[int, ...]:
    return bridge.walk(packet, port).outputs


def test_with_the_wire_in_both_directions() -> None:
    for first in ("asked", "answers"):
        bridge = switch(at_server(str(nagios.ip)))
        asks, answers = (FROM_WIRE, UPLINK), (FROM_WIRE.reply(flags="PA"), SERVER.number)
        expected = {UPLINK: (SERVER.number,), SERVER.number: (UPLINK,)}
        for packet, port in (asks, answers) if first == "asked" else (answers, asks):
            assert outputs(bridge, packet, port) == expected[port]


@pytest.mark.parametrize(
    "packet",
    [
        Packet.tcp(nagios, server, PORT, flags="S"),
        Packet.tcp(nagios, server, PORT, flags="PA", sport=40001),
        Packet.tcp(nagios, server, PORT + 1, flags="PA"),
        Packet.udp(nagios, server, PORT),
        Packet.tcp(replace(nagios, ip=ip_address("10.3.0.78")), server, PORT, flags="PA"),
    ],
)
def test_nothing_else(packet: Packet) -> None:
    assert outputs(switch(at_server(str(nagios.ip))), packet, UPLINK) == ()


def test_datagrams() -> None:
    bridge = switch(at_server(str(nagios.ip), proto=UDP))
    assert outputs(bridge, Packet.udp(nagios, server, PORT), UPLINK) == (SERVER.number,)
    assert outputs(bridge, Packet.udp(nagios, server, PORT, sport=1), UPLINK) == ()


def test_a_remote_connection_that_becomes_local() -> None:
    """The client's acceptance has a mark here; only the reply comes first."""
    bridge = switch(at_server(str(client.ip)))
    bridge.preset(FROM_CLIENT, "established", mark=1)
    assert outputs(bridge, FROM_CLIENT.reply(flags="PA"), SERVER.number) == (CLIENT.number,)
    assert outputs(bridge, FROM_CLIENT, CLIENT.number) == (SERVER.number,)


def test_the_other_end_must_agree() -> None:
    """A VM's own word is not that of the other VM of the same hypervisor, whose rules still count."""
    other = CLIENT.number, Connection(TCP, client.ip, server.ip, 40000, PORT, 7, 2000)
    assert outputs(switch(other), FROM_CLIENT, CLIENT.number) == ()
    assert outputs(switch(other, at_server(str(client.ip))), FROM_CLIENT, CLIENT.number) == (SERVER.number,)
    both = switch(other, at_server(str(client.ip)))
    assert outputs(both, FROM_CLIENT.reply(flags="PA"), SERVER.number) == (CLIENT.number,)


def carried(proto: int, peer: End = nagios, own: End = caged, *, opened: bool = False) -> Carried:
    """A connection of the caged VM's."""
    ports = {TCP: (PORT, 40000), UDP: (PORT, 40000), ICMP: (0x1234, 8 << 8), ICMPV6: (0x1234, 128 << 8)}
    return Carried(proto, str(own.ip), str(peer.ip), *ports.get(proto, (0, 0)), opened, 7, 2000)


def packet_of(proto: int, a: End, b: End, data: bytes = b"", ident: bytes = b"\x12\x34") -> Packet:
    """A packet of a connection as `carried` makes them; from 40000 to PORT, or an echo request."""
    if proto in (ICMP, ICMPV6):
        return Packet.icmp(a, b, rest=ident + b"\0\1" + data)
    if proto == TCP:
        return Packet.tcp(a, b, PORT, flags="PA", payload=data)
    return Packet.udp(a, b, PORT, payload=data) if proto == UDP else Packet.ip(a, b, proto, data or bytes(32))


#: A bridge that nobody has brought anything to.
NOBODY = handed([])


@pytest.mark.parametrize(("own", "peer"), [(caged, nagios), (caged6, nagios6)], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("proto", [TCP, UDP, ICMP, GRE])
def test_packets_in_pieces_that_arrive_in_any_order(own: End, peer: End, proto: int) -> None:
    proto = ICMPV6 if (proto, own) == (ICMP, caged6) else proto
    asks = packet_of(proto, peer, own, bytes(3000))
    for pieces in permutations(asks.fragments(1400)):
        assert {walk.outputs for walk in NOBODY.walk_pieces(pieces, UPLINK)} == {()}
        bridge = handed([(CAGED.number, carried(proto, peer, own))])
        assert {walk.outputs for walk in bridge.walk_pieces(pieces, UPLINK)} == {(CAGED.number,)}
    answer = asks.reply(flags="PA") if proto in (TCP, ICMP, ICMPV6, GRE) else Packet.udp(own, peer, 40000, sport=PORT)
    assert outputs(bridge, answer, CAGED.number) == (UPLINK,)


@pytest.mark.parametrize(("own", "peer"), [(caged, nagios), (caged6, nagios6)], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("proto", [TCP, UDP, ICMP, GRE])
def test_the_vm_itself_speaks_first_and_in_pieces(own: End, peer: End, proto: int) -> None:
    proto = ICMPV6 if (proto, own) == (ICMP, caged6) else proto
    one = carried(proto, peer, own, opened=True)._replace(own_port=40000, peer_port=PORT)
    one = one if proto in (TCP, UDP) else carried(proto, peer, own, opened=True)
    for pieces in permutations(packet_of(proto, own, peer, bytes(3000)).fragments(1400)):
        assert {walk.outputs for walk in NOBODY.walk_pieces(pieces, CAGED.number)} == {()}
        assert {walk.outputs for walk in handed([(CAGED.number, one)]).walk_pieces(pieces, CAGED.number)} == {(UPLINK,)}


def test_pieces_of_other_packets_between_the_same_two() -> None:
    for other in (Packet.udp(nagios, caged, PORT + 1, payload=bytes(3000)), Packet.ip(nagios, caged, ESP, bytes(3000))):
        bridge = handed([(CAGED.number, carried(UDP))])
        assert {walk.outputs for walk in bridge.walk_pieces(other.fragments(1400), UPLINK)} == {()}
        assert outputs(bridge, other.fragments(1400)[1], UPLINK) == ()


@pytest.mark.parametrize("proto", [GRE, ESP, 51, 33, 136])
def test_protocols_without_ports(proto: int) -> None:
    bridge = handed([(CAGED.number, carried(proto))])
    packet = packet_of(proto, nagios, caged)
    assert outputs(bridge, packet_of(proto + 1, nagios, caged), UPLINK) == ()
    assert outputs(bridge, packet.reply(), CAGED.number) == (UPLINK,)
    assert outputs(bridge, packet, UPLINK) == (CAGED.number,)


def test_sctp_goes_on_where_its_originator_may() -> None:
    """Its replies do not depend on rules; what its originator sends always does, as before the move."""
    theirs, ours = Packet.sctp(nagios, caged, PORT), Packet.sctp(caged, nagios, PORT)
    for opened in (False, True):
        bridge = handed([(CAGED.number, carried(SCTP, opened=opened))])
        assert outputs(bridge, theirs, UPLINK) == ((CAGED.number,) if opened else ())
        assert outputs(bridge, ours, CAGED.number) == (() if opened else (UPLINK,))
    assert outputs(handed([]), theirs, UPLINK) == ()
    assert outputs(handed([]), ours, CAGED.number) == ()


def test_a_ping_with_another_identifier_is_another_conversation() -> None:
    bridge = handed([(CAGED.number, carried(ICMP))])
    ping, other = (packet_of(ICMP, nagios, caged, ident=ident) for ident in (b"\x12\x34", b"\x12\x35"))
    for _ in range(2):
        assert outputs(bridge, other, UPLINK) == ()
        assert outputs(bridge, ping, UPLINK) == (CAGED.number,)
        assert outputs(bridge, ping.reply(), CAGED.number) == (UPLINK,)


def test_an_entry_means_nothing_without_the_flow_that_knows_its_ticket() -> None:
    """It lives for a minute, whatever its connection had left; the flow does not."""
    bridge = handed([(CAGED.number, carried(ICMP))])
    bridge.install(flows_of())
    assert outputs(bridge, packet_of(ICMP, nagios, caged), UPLINK) == ()
    assert outputs(bridge, packet_of(ICMP, nagios, caged).reply(), CAGED.number) == ()


@pytest.mark.parametrize("proto", [TCP, UDP, ICMP, GRE])
@pytest.mark.parametrize("asked", [False, True], ids=["sends", "receives"])
def test_an_address_that_has_been_given_to_another_vm_inherits_nothing(proto: int, *, asked: bool) -> None:
    """The client had it when it brought this along; now it is the caged VM's."""
    for number, passes in ((CAGED.number, True), (CLIENT.number, False)):
        bridge = handed([(number, carried(proto))])
        packet = packet_of(proto, nagios, caged)
        port, out = (UPLINK, CAGED.number) if asked else (CAGED.number, UPLINK)
        assert outputs(bridge, packet if asked else packet.reply(flags="PA"), port) == ((out,) if passes else ())


def test_the_terms_are_in_the_order_of_the_fields() -> None:
    for flow in build(MOVED[1], BRIDGE):
        assert flow.match == Match.of(*flow.match.terms)
        assert flow.expires > 0


def test_flows_of_many_connections_have_the_cookies_that_their_content_gives() -> None:
    """Their parts are made once for all that are alike: no flow has anything of another's."""
    texts = ("10.1.0.12", "10.3.0.77"), ("10.1.0.12", "10.3.0.78"), ("fd00:1::12", "fd00:3::77")
    ends = [(ip_address(own), ip_address(peer)) for own, peer in texts]
    some = tuple(
        Connection(proto, *between, *ports, rule, 9)
        for proto, between, ports, rule in product((TCP, UDP, GRE), ends, ((80, 40000), (80, 40001)), (7, 8))
    )
    unit = Resumed("nic2", 2, 12, (*some, *BROUGHT))
    flows = build(unit, BRIDGE, scope(unit.owner))
    assert {flow.owner for flow in flows} == {unit.owner}
    assert [flow.cookie for flow in flows] == [cookie_of(flow) for flow in flows]
    assert set(flows) == {flow for one in unit.connections for flow in build(replace(unit, connections=(one,)), BRIDGE)}
