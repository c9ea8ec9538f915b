# SPDX-License-Identifier: Apache-2.0
"""A VM over its quota begins no connection, in the way in which it is over, and all else goes on."""

from __future__ import annotations

from dataclasses import replace

from flows import lint
from flows.inputs import Overdrawn, Port
from flows.packet import Packet
from flows.trace import Switch
from tests.unit.flow_cast import client, outside, server
from tests.unit.flow_world import CLIENT, SERVER, UNITS, UPLINK, flows_of

OPENED, ACCEPTED = (True, False), (False, True)
AWAY = Packet.tcp(client, outside, 443)
INSIDE = Packet.tcp(client, server, 80)
FROM_OUTSIDE = Packet.tcp(replace(outside, ip=client.ip + 30), server, 80)


def over(port: Port, ways: tuple[bool, bool]) -> Switch:
    """The bridge of `flow_world`, with a port over its quota."""
    flows = flows_of((*UNITS, Overdrawn(port.nic, port.number, *ways)))
    assert lint.check(flows) == []
    return Switch(flows)


def test_it_opens_none_and_says_why() -> None:
    switch = over(CLIENT, OPENED)
    for packet in (AWAY, INSIDE):
        assert switch.walk(packet, CLIENT.number).reason == "new, from a VM with more connections than its quota"
        assert over(CLIENT, ACCEPTED).walk(packet, CLIENT.number).outputs


def test_it_accepts_none_from_outside_and_says_why() -> None:
    refused = over(SERVER, ACCEPTED).walk(FROM_OUTSIDE, UPLINK)
    assert refused.reason == "from outside, to a VM with more connections than its quota"
    assert over(SERVER, OPENED).walk(FROM_OUTSIDE, UPLINK).outputs == (SERVER.number,)


def test_a_flooded_server_is_still_there_for_its_neighbours_and_opens_connections_itself() -> None:
    switch = over(SERVER, ACCEPTED)
    assert switch.walk(INSIDE, CLIENT.number).outputs == (SERVER.number,)
    assert switch.walk(Packet.tcp(server, outside, 443), SERVER.number).outputs == (UPLINK,)


def test_what_it_has_goes_on() -> None:
    both = (True, True)
    for port, asks, here, there in (
        (CLIENT, AWAY, CLIENT.number, UPLINK),
        (CLIENT, INSIDE, CLIENT.number, SERVER.number),
        (SERVER, FROM_OUTSIDE, UPLINK, SERVER.number),
    ):
        switch = over(port, both)
        switch.preset(asks, "established", mark={UPLINK: 1}.get(there, 2 if here == UPLINK else 3))
        assert switch.walk(asks, here).outputs == (there,)
        assert switch.walk(asks.reply(), there).outputs == (here,)


def test_a_neighbour_that_comes_back_in_by_the_router_is_no_outsider() -> None:
    """The first pass has counted it for who opened it."""
    switch = over(SERVER, ACCEPTED)
    switch.preset(FROM_OUTSIDE, "established", mark=1)
    assert switch.walk(FROM_OUTSIDE, UPLINK).outputs == (SERVER.number,)
