# SPDX-License-Identifier: Apache-2.0
"""What a VM has brought along passes though no rule lets it in, in both directions, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from flows import lint
from flows.flow import Match
from flows.inputs import Connection, Moved, Resumed
from flows.packet import Packet
from flows.pipeline import build
from flows.trace import Switch
from tests.unit.flow_cast import client, nagios, server
from tests.unit.flow_world import BRIDGE, CLIENT, MOVED, SERVER, UNITS, UPLINK, flows_of

TCP, UDP = 6, 17
#: No rule of the server's lets this port in.
PORT = 9999


def switch(*brought: tuple[int, Connection]) -> Switch:
    """The bridge of `flow_world`, where VMs have brought connections along."""
    nics = {CLIENT.number: CLIENT.nic, SERVER.number: SERVER.nic}
    moved = {number: Moved(nics[number], number) for number, _ in brought}
    resumed = [Resumed(nics[number], number, index + 1, (one,)) for index, (number, one) in enumerate(brought)]
    flows = flows_of((*UNITS, *moved.values(), *resumed))
    assert lint.check(flows) == []
    return Switch(flows)


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


def test_the_terms_are_in_the_order_of_the_fields() -> None:
    for flow in build(MOVED[1], BRIDGE):
        assert flow.match == Match.of(*flow.match.terms)
        assert flow.expires > 0
