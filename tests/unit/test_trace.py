# SPDX-License-Identifier: Apache-2.0
"""The walker on hand-written flows: which flow wins, what each action does, what is remembered."""

from collections.abc import Sequence

import pytest

from flows import fields as f
from flows import headers
from flows.explain import explain
from flows.flow import (
    Action,
    Controller,
    Ct,
    CtClear,
    DecTtl,
    Flow,
    Goto,
    Learn,
    Load,
    Match,
    Move,
    Output,
    OutputBits,
    Pop,
    Push,
    Resubmit,
    SetField,
)
from flows.packet import End, Packet
from flows.trace import BACK, Ambiguous, Switch

A, B = (End.of(f"02:00:00:00:00:0{n}", f"10.0.0.{n}") for n in (1, 2))
SYN = Packet.tcp(A, B, 80)
IPV4 = f.ETH_TYPE.eq(0x0800)
ANY = Match()


def outputs(actions: Sequence[Action], *more: Flow, packet: Packet = SYN) -> tuple[int, ...]:
    """Where a packet from port 1 goes if table 0 has these actions for all."""
    return Switch([Flow(0, 0, ANY, tuple(actions)), *more]).walk(packet, 1).outputs


class TestLookup:
    def test_the_higher_priority_wins_whatever_the_masks(self) -> None:
        wide, narrow = Match.of(IPV4), Match.of(IPV4, f.IPV4_SRC.eq(int(A.ip)))
        flows = [Flow(0, 5, wide, (Output(2),)), Flow(0, 4, narrow, (Output(3),)), Flow(0, 6, narrow, (Output(4),))]
        assert Switch(flows).walk(SYN, 1).outputs == (4,)
        assert Switch(flows[:2]).walk(SYN, 1).outputs == (2,)

    def test_equal_priority_with_different_actions_is_an_error(self) -> None:
        flows = [
            Flow(0, 5, Match.of(IPV4), (Output(2),)),
            Flow(0, 5, Match.of(f.ETH_SRC.eq(A.mac)), (Output(3),)),
        ]
        with pytest.raises(Ambiguous, match="equal priority"):
            Switch(flows).walk(SYN, 1)
        higher = Flow(0, 6, Match.of(f.IN_PORT.eq(1)), (Output(4),))
        assert Switch([*flows, higher]).walk(SYN, 1).outputs == (4,)

    def test_equal_priority_with_equal_actions_is_none(self) -> None:
        flows = [Flow(0, 5, match, (Output(2),)) for match in (Match.of(IPV4), Match.of(f.ETH_SRC.eq(A.mac)))]
        assert Switch(flows).walk(SYN, 1).outputs == (2,)

    def test_the_same_match_twice_is_an_error(self) -> None:
        with pytest.raises(Ambiguous, match="twice"):
            Switch([Flow(0, 5, ANY, (Output(2),)), Flow(0, 5, ANY, (Output(3),))])

    def test_a_miss_drops_and_says_where(self) -> None:
        walk = Switch([Flow(0, 0, ANY, (Goto(1),))], names={1: "SECOND"}).walk(SYN, 1)
        assert (walk.verdict, walk.reason, walk.path) == ("dropped", "no flow of SECOND matches", (0, 1))

    def test_a_drop_gives_its_reason(self) -> None:
        assert Switch([Flow(0, 0, ANY, (), note="not yours")]).walk(SYN, 1).reason == "not yours"


class TestActions:
    def test_registers_and_fields(self) -> None:
        moved = (Load(f.SRC_PORT, 7), Move(f.SRC_PORT, f.OUT_PORT), SetField(f.ETH_DST, 9), OutputBits(f.OUT_PORT))
        walk = Switch([Flow(0, 0, ANY, moved)]).walk(SYN, 1)
        assert walk.outputs == (7,)
        assert headers.get(walk.sent[0].headers, f.ETH_DST) == 9

    def test_the_stack_is_carried_through_tables_and_conntrack(self) -> None:
        first = (Load(f.SRC_PORT, 3), Push(f.SRC_PORT), Load(f.SRC_PORT, 4), Push(f.SRC_PORT), Ct(1, 1))
        second = (Pop(f.OUT_PORT), OutputBits(f.OUT_PORT), Pop(f.OUT_PORT), OutputBits(f.OUT_PORT))
        switch = Switch([Flow(0, 0, Match.of(IPV4), first), Flow(1, 0, ANY, second)])
        assert switch.walk(SYN, 1).outputs == (3, 4)
        with pytest.raises(ValueError, match="stack"):
            Switch([Flow(0, 0, ANY, (Pop(f.OUT_PORT),))]).walk(SYN, 1)

    @pytest.mark.parametrize(("port", "seen"), [(1, ()), (BACK, (1,)), (2, (2,)), (0, ())])
    def test_never_back_unless_told_to(self, port: int, seen: tuple[int, ...]) -> None:
        assert outputs([Output(port)]) == seen

    def test_ports_that_do_not_exist(self) -> None:
        switch = Switch([Flow(0, 0, ANY, (Output(2), Output(3)))], ports={3})
        assert switch.walk(SYN, 1).outputs == (3,)

    def test_resubmit_comes_back_with_what_it_changed(self) -> None:
        changes = Flow(1, 0, ANY, (Load(f.OUT_PORT, 5),))
        assert outputs([Resubmit(1), OutputBits(f.OUT_PORT), Resubmit(2), Output(6)], changes) == (5, 6)

    def test_ttl(self) -> None:
        actions = (Output(2), DecTtl(), Output(3))
        assert outputs(actions, packet=Packet.icmp(A, B, ttl=1)) == (2,)
        walk = Switch([Flow(0, 0, ANY, actions)]).walk(SYN, 1)
        assert [headers.get(one.headers, f.IP_TTL) for one in walk.sent] == [64, 63]

    def test_shown_to_the_controller_is_not_delivered(self) -> None:
        walk = Switch([Flow(0, 0, ANY, (Controller(),))]).walk(SYN, 1)
        assert walk.shown and walk.verdict == "dropped"

    def test_learned_flows_count_for_the_next_packet(self) -> None:
        learn = Learn(1, 9, 60, 3, (IPV4,), ((f.SRC_PORT, f.SRC_PORT),), f.SRC_PORT)
        switch = Switch([Flow(0, 0, ANY, (Load(f.SRC_PORT, 4), learn, Goto(1)))])
        first = switch.walk(SYN, 1)
        assert first.outputs == () and [flow.cookie for flow in first.learned] == [3]
        assert switch.walk(SYN, 1).outputs == (4,)
        assert switch.walk(Packet.arp(A, B.ip), 1).outputs == ()
        switch.expire()
        assert switch.walk(SYN, 1).outputs == ()

    def test_endless_flows_are_an_error(self) -> None:
        with pytest.raises(ValueError, match="for ever"):
            Switch([Flow(0, 0, Match.of(IPV4), (Ct(1, 0),))]).walk(SYN, 1)


def stateful(mark: int = 1) -> list[Flow]:
    """What port 1 starts may pass, and what belongs to it."""
    commit = Ct(1, 2, commit=True, execute=(Load(f.ORIGIN_OK, mark), Move(f.EGRESS_RULE, f.LABEL_EGRESS)))
    return [
        Flow(0, 1, Match.of(IPV4), (Load(f.EGRESS_RULE, 0xABCD), Ct(1, 1))),
        Flow(1, 9, Match.of(f.ct_state("+trk+inv")), (), note="invalid"),
        Flow(1, 8, Match.of(f.ct_state("+trk"), f.ORIGIN_OK.eq(1)), (Goto(2),)),
        Flow(1, 7, Match.of(f.ct_state("+trk+new"), f.IN_PORT.eq(1), IPV4), (commit,)),
        Flow(2, 1, Match.of(f.ct_state("+trk-inv"), f.IN_PORT.eq(1)), (Output(2),)),
        Flow(2, 1, Match.of(f.ct_state("+trk-inv"), f.IN_PORT.eq(2)), (Output(1),)),
    ]


class TestConntrack:
    def test_a_commit_lets_replies_pass(self) -> None:
        switch = Switch(stateful())
        answer = SYN.reply()
        assert switch.walk(answer, 2).reason == "invalid"
        walk = switch.walk(SYN, 1)
        assert walk.outputs == (2,)
        assert [(one.mark, one.label) for one in walk.committed] == [(1, 0xABCD)]
        assert switch.walk(answer, 2).outputs == (1,)
        assert switch.walk(SYN.follow_up("A"), 1).outputs == (2,)
        assert len(switch.conntrack) == 1
        switch.forget()
        assert switch.walk(answer, 2).outputs == ()

    def test_nothing_of_conntrack_outlives_ct_in_the_same_flow(self) -> None:
        untracked = Flow(2, 1, Match.of(f.ct_state("-trk")), (Output(2),))
        assert Switch([Flow(0, 1, Match.of(IPV4), (Ct(1, 1), Goto(2))), untracked]).walk(SYN, 1).outputs == (2,)

    def test_ct_clear(self) -> None:
        flows = [
            Flow(0, 1, Match.of(IPV4), (Ct(1, 1),)),
            Flow(1, 1, ANY, (CtClear(), Goto(2))),
            Flow(2, 1, Match.of(f.ct_state("-trk"), f.CT_IPV4_SRC.eq(0)), (Output(2),)),
        ]
        assert Switch(flows).walk(SYN, 1).outputs == (2,)

    @pytest.mark.parametrize(
        ("state", "in_port", "seen"), [("established", 1, (2,)), ("reply", 2, (1,)), ("new", 2, ())]
    )
    def test_preset(self, state: str, in_port: int, seen: tuple[int, ...]) -> None:
        switch = Switch(stateful())
        packet = Packet.tcp(A, B, 80, flags="A")
        switch.preset(packet, state)
        assert switch.walk(packet, in_port).outputs == seen

    def test_preset_of_what_conntrack_does_not_follow(self) -> None:
        with pytest.raises(ValueError, match="does not follow"):
            Switch(stateful()).preset(Packet.arp(A, B.ip), "reply")

    def test_fragments_pass_together_or_not_at_all(self) -> None:
        switch = Switch(stateful())
        first, last = Packet.udp(A, B, 53, payload=bytes(2000)).fragments()
        assert [walk.outputs for walk in switch.walk_pieces((last, first), 1)] == [(2,), (2,)]
        assert switch.walk(first, 1).reason == "conntrack waits for the other fragments"
        small = Packet.udp(A, B, 53, payload=bytes(2000)).fragments(800)
        assert switch.walk_pieces(small, 1)[0].reason == "invalid"


def test_explain() -> None:
    switch = Switch(stateful(), names={0: "ENTRY", 1: "STATE", 2: "EXIT"})
    walk = switch.walk(SYN, 1)
    sentences = [one.text for one in explain(walk, names=switch.names, ports={2: "tap2"})]
    assert sentences == [
        "ENTRY: ip; EGRESS_RULE = 0xabcd, the connection is looked up, on to STATE.",
        "STATE: conntrack says new; in_port=1,ct_state=+new+trk,ip; the connection is remembered, on to EXIT.",
        "EXIT: conntrack says new, of a connection marked 0x1; in_port=1,ct_state=-inv+trk; out by tap2.",
    ]
    missed = explain(Switch([], names={0: "ENTRY"}).walk(SYN, 1), names={0: "ENTRY"})
    assert (missed[0].flow, missed[0].text) == (None, "ENTRY: no flow matches, the packet is dropped.")
