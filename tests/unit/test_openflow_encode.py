# SPDX-License-Identifier: Apache-2.0
"""Flows as bytes, compared with what os-ken makes of the same flow."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from os_ken.ofproto import ofproto_v1_4 as ofp
from os_ken.ofproto import ofproto_v1_4_parser as parser
from os_ken.ofproto.ofproto_protocol import ProtocolDesc

from flows import text
from flows.fields import (
    ETH_DST,
    ETH_TYPE,
    FIELDS,
    IP_TTL,
    IPV4_SRC,
    LABEL_EGRESS,
    OUT_PORT,
    SRC_LOCAL,
    SRC_PORT,
    MatchField,
    Term,
)
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
    Meter,
    Move,
    Output,
    OutputBits,
    Pop,
    Push,
    Resubmit,
    SetField,
)
from sgctl.openflow import encode
from tests.openflow_flows import MAC

OSKEN = ProtocolDesc(ofp.OFP_VERSION)
REG0, REG1 = "reg0", "reg1"

#: Names that os-ken gives to fields; it has none for conntrack's original addresses and vlan_tci.
NAMES = {
    "dl_dst": "eth_dst", "dl_src": "eth_src", "dl_type": "eth_type", "nw_frag": "ip_frag", "nw_ttl": "nw_ttl",
    "nw_proto": "ip_proto", "nw_src": "ipv4_src", "nw_dst": "ipv4_dst", "icmp_type": "icmpv4_type",
    "icmp_code": "icmpv4_code", "tcp_flags": "tcp_flags_nxm",
    "nd_target": "ipv6_nd_target", "nd_sll": "ipv6_nd_sll", "nd_tll": "ipv6_nd_tll",
}  # fmt: skip
UNKNOWN = {"vlan_tci", "ct_nw_src", "ct_nw_dst", "ct_ipv6_src", "ct_ipv6_dst"}
KNOWN = [field for field in FIELDS.values() if field.name not in UNKNOWN]


def osken_name(field: MatchField) -> str:
    return NAMES.get(field.name, field.name)


def osken_match(one: Term) -> Any:
    numbers = [one.value] if one.mask == one.field.full else [one.value, one.mask]
    if one.field.kind in ("mac", "ipv4", "ipv6"):
        values: list[Any] = [text.value(one.field, number) for number in numbers]
    else:
        values = list(numbers)
    return parser.OFPMatch(**{osken_name(one.field): values[0] if len(values) == 1 else tuple(values)})


def osken_flow_mod(flow: Flow, match: Any, instructions: list[Any]) -> bytes:
    message = parser.OFPFlowMod(
        OSKEN, cookie=flow.cookie, table_id=flow.table, priority=flow.priority, match=match, instructions=instructions,
        out_port=ofp.OFPP_ANY, out_group=ofp.OFPG_ANY, hard_timeout=0, idle_timeout=0,
    )  # fmt: skip
    message.set_xid(7)
    message.serialize()
    return bytes(message.buf)


def terms(field: MatchField) -> st.SearchStrategy[Term]:
    def term(mask: int, value: int) -> Term:
        return field.masked(value & mask, mask)

    numbers = st.integers(1, field.full)
    return st.builds(term, st.one_of(st.just(field.full), numbers), numbers)


@pytest.mark.parametrize("field", KNOWN, ids=repr)
@given(data=st.data())
def test_a_term_is_osken_s(field: MatchField, data: st.DataObject) -> None:
    term = data.draw(terms(field))
    flow = Flow(3, 4, Match((term,)), (), cookie=9)
    assert encode.flow_mod(flow, 7) == osken_flow_mod(flow, osken_match(term), [])


@given(st.lists(st.sampled_from(KNOWN), unique=True).flatmap(lambda some: st.tuples(*map(terms, some))))
def test_a_match_is_all_its_terms(some: tuple[Term, ...]) -> None:
    entries = b"".join(map(encode.term, some))
    size = 4 + len(entries)
    expected = struct.pack("!HH", 1, size) + entries + bytes(-size % 8)
    assert encode.match(Match(some)) == expected


@pytest.mark.parametrize(
    ("name", "header"),
    [("vlan_tci", 0x00000802), ("ct_nw_src", 0x0001F004), ("ct_nw_dst", 0x0001F204), ("ct_ipv6_src", 0x0001F410),
     ("ct_ipv6_dst", 0x0001F610)],
)  # fmt: skip
def test_headers_that_osken_lacks_are_those_of_nicira_ext(name: str, header: int) -> None:
    assert encode.oxm(FIELDS[name]) == header.to_bytes(4, "big")


def nx_learn(*specs: Any) -> Any:
    return parser.NXActionLearn(table_id=90, specs=list(specs), hard_timeout=60, priority=200, cookie=5)


LEARN = Learn(
    table=90, priority=200, timeout=60, cookie=5, match=(ETH_TYPE.eq(0x0800),), copies=((OUT_PORT, SRC_PORT),),
    output=SRC_PORT,
)  # fmt: skip
HOLDER = Learn(
    table=90, priority=200, timeout=0, cookie=5, match=(ETH_DST.eq(MAC),), loads=((OUT_PORT, SRC_PORT),)
)  # fmt: skip
CASES: list[tuple[Action, Any]] = [
    (Load(SRC_PORT, 5), parser.NXActionRegLoad(ofs_nbits=15, dst=REG0, value=5)),
    (Load(SRC_LOCAL, 1), parser.NXActionRegLoad(ofs_nbits=16 << 6, dst=REG0, value=1)),
    (Load(LABEL_EGRESS, 9), parser.NXActionRegLoad(ofs_nbits=31, dst="ct_label", value=9)),
    (Move(SRC_PORT, SRC_PORT), parser.NXActionRegMove(src_field=REG0, dst_field=REG0, n_bits=16)),
    (Push(OUT_PORT), parser.NXActionStackPush(field="reg1", start=0, end=16)),
    (Pop(SRC_LOCAL), parser.NXActionStackPop(field="reg0", start=16, end=1)),
    (SetField(ETH_DST, MAC), parser.OFPActionSetField(eth_dst="02:aa:bb:cc:dd:ee")),
    (SetField(IPV4_SRC, 0x0A000001), parser.OFPActionSetField(ipv4_src="10.0.0.1")),
    (SetField(IP_TTL, 9), parser.OFPActionSetField(nw_ttl=9)),
    (DecTtl(), parser.OFPActionDecNwTtl()),
    (Output(3), parser.OFPActionOutput(3, 0)),
    (OutputBits(SRC_PORT), parser.NXActionOutputReg(ofs_nbits=15, src=REG0, max_len=0)),
    (Controller(max_len=128), parser.OFPActionOutput(ofp.OFPP_CONTROLLER, 128)),
    (Resubmit(90), parser.NXActionResubmitTable(table_id=90)),
    (CtClear(), parser.NXActionCTClear()),
    (Ct(zone=7, table=30), parser.NXActionCT(0, "", 7, 30, 0, [])),
    (
        Ct(zone=7, table=30, commit=True, execute=(Load(LABEL_EGRESS, 1),)),
        parser.NXActionCT(1, "", 7, 30, 0, [parser.NXActionRegLoad(ofs_nbits=31, dst="ct_label", value=1)]),
    ),
    (
        LEARN,
        nx_learn(
            parser.NXFlowSpecMatch(src=0x0800, dst=("eth_type", 0), n_bits=16),
            parser.NXFlowSpecMatch(src=(REG0, 0), dst=(REG1, 0), n_bits=16),
            parser.NXFlowSpecOutput(src=(REG0, 0), n_bits=16),
        ),
    ),
    (
        HOLDER,
        parser.NXActionLearn(
            table_id=90,
            priority=200,
            cookie=5,
            flags=2,
            specs=[
                parser.NXFlowSpecMatch(src=MAC, dst=("eth_dst", 0), n_bits=48),
                parser.NXFlowSpecLoad(src=(REG0, 0), dst=(REG1, 0), n_bits=16),
            ],
        ),
    ),
]


@pytest.mark.parametrize(("action", "theirs"), CASES, ids=lambda one: str(one)[:40])
def test_an_action_is_osken_s(action: Action, theirs: Any) -> None:
    flow = Flow(3, 4, Match(), (action,), cookie=9)
    applied = parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, [theirs])
    assert encode.flow_mod(flow, 7) == osken_flow_mod(flow, parser.OFPMatch(), [applied])


def test_goto_is_the_last_instruction() -> None:
    flow = Flow(3, 4, Match(), (DecTtl(), Goto(20)))
    applied = parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, [parser.OFPActionDecNwTtl()])
    expected = osken_flow_mod(flow, parser.OFPMatch(), [applied, parser.OFPInstructionGotoTable(20)])
    assert encode.flow_mod(flow, 7) == expected
    with pytest.raises(ValueError, match="not the last"):
        encode.flow_mod(Flow(3, 4, Match(), (Goto(20), CtClear())), 7)


def test_a_meter_is_the_first_instruction() -> None:
    flow = Flow(3, 4, Match(), (Meter(4097), DecTtl(), Goto(20)))
    applied = parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, [parser.OFPActionDecNwTtl()])
    theirs = [parser.OFPInstructionMeter(4097), applied, parser.OFPInstructionGotoTable(20)]
    assert encode.flow_mod(flow, 7) == osken_flow_mod(flow, parser.OFPMatch(), theirs)
    with pytest.raises(ValueError, match="not the first"):
        encode.flow_mod(Flow(3, 4, Match(), (CtClear(), Meter(1))), 7)


def test_a_delete_names_its_cookie_and_table() -> None:
    message = parser.OFPFlowMod(
        OSKEN, cookie=9, cookie_mask=2**64 - 1, table_id=3, command=ofp.OFPFC_DELETE, priority=0,
        out_port=ofp.OFPP_ANY, out_group=ofp.OFPG_ANY,
    )  # fmt: skip
    message.set_xid(7)
    message.serialize()
    assert encode.flow_delete(9, 3, 7) == bytes(message.buf)


@pytest.mark.parametrize(
    "flow",
    [
        Flow(256, 0, Match(), ()),
        Flow(0, 1 << 16, Match(), ()),
        Flow(0, 0, Match(), (Output(-1),)),
        Flow(0, 0, Match(), (Move(SRC_PORT, SRC_LOCAL),)),
        Flow(0, 0, Match(), (Learn(1, 2, 3, 4, (ETH_DST.masked(1, 1),), (), SRC_PORT),)),
        Flow(0, 0, Match(), (Learn(1, 2, 3, 4, (), ((SRC_LOCAL, SRC_PORT),), SRC_PORT),)),
    ],
    ids=["table", "priority", "port", "widths", "learned mask", "learned widths"],
)
def test_what_cannot_be_expressed_is_refused(flow: Flow) -> None:
    with pytest.raises(encode.INEXPRESSIBLE):
        encode.flow_mod(flow, 7)


@pytest.mark.parametrize(("expires", "seconds"), [(0, 0), (1010, 10), (900, 1), (1 << 20, 0xFFFF)])
def test_a_flow_that_expires_by_itself(monkeypatch: pytest.MonkeyPatch, expires: int, seconds: int) -> None:
    monkeypatch.setattr(encode, "monotonic", lambda: 1000.5)
    message = encode.flow_mod(Flow(3, 4, Match(()), (), expires=expires), 7)
    assert int.from_bytes(message[28:30], "big") == seconds
