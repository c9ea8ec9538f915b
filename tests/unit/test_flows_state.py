# SPDX-License-Identifier: Apache-2.0
"""Which marks of a connection let its packets pass without a rule, and which marks and rules are remembered."""

from __future__ import annotations

import pytest

from flows import fields as f
from flows.flow import Ct, Goto, Output, OutputBits
from flows.packet import Packet
from flows.tables import COMMIT, OUTPUT, RESUMED, STATE
from flows.terms import FROM_VM
from flows.trace import Switch
from tests.unit.flow_cast import LISTENER_MAC, C, G, S, U, at, caged, client, outside, server, stranger
from tests.unit.flow_world import flows_of

FLOWS = flows_of()
ORIGIN, RESPONDER = 1, 2
LISTENER = at(LISTENER_MAC, "10.1.0.9")
#: Connections that no rule allows, the ports of their two ends, and the marks that each direction needs.
REFUSED = {
    "between VMs": (Packet.udp(client, server, 9), C, S, ORIGIN | RESPONDER),
    "to the wire": (Packet.udp(caged, outside, 9), G, U, ORIGIN),
    "from the wire": (Packet.udp(outside, server, 9), U, S, RESPONDER),
}


@pytest.mark.parametrize("mark", range(4))
@pytest.mark.parametrize(("asks", "origin", "responder", "needed"), REFUSED.values(), ids=REFUSED)
def test_only_what_all_ends_here_have_accepted_passes(
    asks: Packet, origin: int, responder: int, needed: int, mark: int
) -> None:
    switch = Switch(FLOWS)
    switch.preset(asks, "established", mark=mark)
    accepted = mark & needed == needed
    assert switch.walk(asks, origin).outputs == ((responder,) if accepted else ())
    answer = switch.walk(asks.reply(), responder)
    asked_here = mark == ORIGIN and origin == C
    assert answer.outputs == ((origin,) if accepted or asked_here else ())
    assert mark or answer.reason == "reply to a connection that was not accepted"


#: Packets that a rule of the server's lets in, in connections that conntrack has seen the other way round, with the
#: marks of one end: the other one has come, or gone, with nothing handed over.
HALF = {
    "the client has come": (Packet.tcp(client, server, 80, flags="PA"), C, ORIGIN),
    "the server has come": (Packet.tcp(client, server, 80, flags="PA"), C, RESPONDER),
    "the server has come, the client gone": (Packet.tcp(stranger, server, 80, flags="PA"), U, RESPONDER),
}


@pytest.mark.parametrize(("asks", "port", "mark"), HALF.values(), ids=HALF)
def test_a_reply_that_one_end_has_accepted_is_held_against_the_others_rules(asks: Packet, port: int, mark: int) -> None:
    switch, answer = Switch(FLOWS), asks.reply(flags="PA")
    switch.preset(answer, "established", mark=mark)
    walk = switch.walk(asks, port)
    assert walk.outputs == (S,)
    (connection,) = walk.committed
    assert connection.mark == ORIGIN | RESPONDER
    assert connection.label & 0xFFFFFFFF == (0 if mark == ORIGIN else 0x80)
    assert switch.walk(answer, S).outputs == (port,)


@pytest.mark.parametrize(("asks", "port", "mark"), HALF.values(), ids=HALF)
def test_and_refused_if_they_refuse_it(asks: Packet, port: int, mark: int) -> None:
    """The server itself has asked, if the connection is its own: then it is the client's egress that counts."""
    refused = Packet.tcp(client if port == C else stranger, server, 84, flags="PA")
    if mark == ORIGIN:
        asks = refused = Packet.tcp(caged, server, 80, flags="PA")
        port = G
    for marked, packet in ((mark, refused), (0, asks)):
        switch = Switch(FLOWS)
        switch.preset(packet.reply(flags="PA"), "established", mark=marked)
        assert switch.walk(packet, port).outputs == ()


def test_a_vm_does_not_answer_by_the_router_what_it_has_refused() -> None:
    """It may lead back in to who asked, on this hypervisor, and must not be an answer there."""
    asks = Packet.tcp(outside, server, 84)
    switch = Switch(FLOWS)
    switch.preset(asks, "established", mark=ORIGIN)
    walk = switch.walk(asks.reply(), S)
    assert (walk.outputs, walk.reason) == ((), "reply to a connection that was not accepted")


@pytest.mark.parametrize("mark", range(4))
@pytest.mark.parametrize(
    ("asks", "origin", "responder", "needed"),
    [(*REFUSED["between VMs"][:3], RESPONDER), REFUSED["to the wire"], REFUSED["from the wire"]],
    ids=REFUSED,
)
def test_an_error_passes_if_who_is_here_has_accepted_what_it_is_about(
    asks: Packet, origin: int, responder: int, needed: int, mark: int
) -> None:
    switch = Switch(FLOWS)
    switch.preset(asks, "established", mark=mark)
    assert switch.walk(asks.error(), responder).outputs == ((origin,) if mark & needed == needed else ())


@pytest.mark.parametrize(
    ("packet", "port", "mark", "egress", "ingress"),
    [
        (Packet.tcp(client, server, 80), C, ORIGIN | RESPONDER, 0, 0x80),
        (Packet.tcp(caged, LISTENER, 80), G, ORIGIN, 0x99, 0),
        (Packet.tcp(stranger, server, 80), U, RESPONDER, 0, 0x80),
    ],
    ids=REFUSED,
)
def test_who_has_accepted_it_and_by_which_rule_is_remembered(
    packet: Packet, port: int, mark: int, egress: int, ingress: int
) -> None:
    (connection,) = Switch(FLOWS).walk(packet, port).committed
    assert (connection.mark, connection.label) == (mark, ingress << f.LABEL_INGRESS.first | egress)


def test_what_is_invalid_is_dropped_for_that_reason() -> None:
    assert Switch(FLOWS).walk(Packet.udp(client, server, 5300).error(), S).reason == "invalid"


def test_no_flow_takes_what_is_invalid() -> None:
    """The drop alone would do, and so would these: two of them may fail before a packet slips through."""
    tracked = [flow for flow in FLOWS if flow.table in (STATE.id, RESUMED.id, COMMIT.id, OUTPUT.id)]
    onward = [flow for flow in tracked if any(isinstance(one, Goto | Ct | Output | OutputBits) for one in flow.actions)]
    for flow in onward:
        state = [term for term in flow.match.terms if term.field is f.CT_STATE]
        wanted = f.CT_STATES["trk"], f.CT_STATES["trk"] | f.CT_STATES["inv"]
        default = flow.table == RESUMED.id and len(flow.match.terms) == 0
        assert default or any((term.value & wanted[1], term.mask & wanted[1]) == wanted for term in state), flow


def test_nothing_from_the_wire_goes_back_to_it() -> None:
    to_wire = [flow for flow in FLOWS if Output(U) in flow.actions]
    assert to_wire
    for flow in to_wire:
        assert any(term.field is FROM_VM.field and term.value & FROM_VM.mask for term in flow.match.terms), flow
