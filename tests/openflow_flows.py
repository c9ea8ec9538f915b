# SPDX-License-Identifier: Apache-2.0
"""Flows that between them use every field and every action, as the switch accepts them."""

from __future__ import annotations

from flows.fields import (
    CHUNK,
    CT_IPV4_SRC,
    CT_IPV6_DST,
    EGRESS_RULE,
    ETH_DST,
    ETH_SRC,
    ETH_TYPE,
    FIELDS,
    IN_PORT,
    IP_FRAG,
    IP_PROTO,
    IP_TTL,
    IPV4_DST,
    IPV4_SRC,
    IPV6_DST,
    IPV6_SRC,
    LABEL_EGRESS,
    LABEL_INGRESS,
    MARKS,
    ORIGIN_OK,
    OUT_PORT,
    RESPONDER_OK,
    SRC_LOCAL,
    SRC_PORT,
    VLAN_TCI,
    Term,
    ct_state,
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
    Move,
    Output,
    OutputBits,
    Pop,
    Push,
    Resubmit,
    SetField,
)

IPV4, IPV6, ARP = ETH_TYPE.eq(0x0800), ETH_TYPE.eq(0x86DD), ETH_TYPE.eq(0x0806)
MAC = 0x02AABBCCDDEE
V6 = 0x20010DB8 << 96 | 0x42

ACTIONS: tuple[tuple[Action, ...], ...] = (
    (),
    (Goto(20),),
    (CtClear(), Load(SRC_PORT, 5), Load(SRC_LOCAL, 1), Load(EGRESS_RULE, 0xDEADBEEF), Goto(20)),
    (Move(SRC_PORT, OUT_PORT), OutputBits(OUT_PORT)),
    (Push(EGRESS_RULE), Push(SRC_PORT), Pop(OUT_PORT), Pop(EGRESS_RULE)),
    (Output(1), Output(2)),
    (SetField(ETH_SRC, MAC), SetField(ETH_DST, MAC), Output(1)),
    (Resubmit(90), Controller(max_len=128), Goto(20)),
)
CT_ACTIONS: tuple[tuple[Action, ...], ...] = (
    (DecTtl(), Output(2)),
    (SetField(IPV4_SRC, 0x0A000001), SetField(IP_TTL, 9), Output(1)),
    (Ct(zone=7, table=30),),
    (
        Ct(
            zone=0xFFF0,
            table=30,
            commit=True,
            execute=(
                Load(ORIGIN_OK, 1),
                Load(RESPONDER_OK, 0),
                Load(LABEL_INGRESS, 9),
                Move(EGRESS_RULE, LABEL_EGRESS),
            ),
        ),
    ),
    (
        Learn(
            table=90,
            priority=200,
            timeout=60,
            cookie=0x5C00000000000001,
            match=(ETH_TYPE.eq(0x0800), IP_PROTO.eq(17), FIELDS["udp_src"].eq(67), FIELDS["udp_dst"].eq(68)),
            copies=((SRC_LOCAL, SRC_LOCAL), (OUT_PORT, SRC_PORT)),
            output=SRC_PORT,
        ),
        Goto(20),
    ),
    (
        Learn(
            table=90,
            priority=200,
            timeout=0,
            cookie=0xFFFF000000000002,
            match=(ETH_DST.eq(MAC), FIELDS["reg9"].eq(7)),
            loads=((OUT_PORT, SRC_PORT),),
        ),
        Goto(20),
    ),
)
MATCHES: tuple[tuple[Term, ...], ...] = (
    (),
    (IN_PORT.eq(1), ETH_SRC.eq(MAC), ETH_DST.masked(1 << 40, 1 << 40)),
    (VLAN_TCI.masked(0x1000, 0x1000),),
    (SRC_PORT.eq(5), SRC_LOCAL.eq(1), CHUNK.eq(3), *(FIELDS[f"reg{n}"].eq(n) for n in range(1, 8))),
    (MARKS.eq(3), LABEL_EGRESS.eq(7), LABEL_INGRESS.eq(9), ct_state("+trk+new-inv")),
    (IPV4, ct_state("+trk+new"), CT_IPV4_SRC.eq(0x0A000001), FIELDS["ct_nw_dst"].prefix(0x0A000000, 8)),
    (IPV6, ct_state("+trk+rel"), FIELDS["ct_ipv6_src"].eq(V6), CT_IPV6_DST.prefix(V6, 64)),
    (IPV4, IPV4_SRC.prefix(0x0A000000, 8), IPV4_DST.eq(0x0A000002), IP_PROTO.eq(89)),
    (IPV4, IP_FRAG.masked(3, 3), IP_PROTO.eq(17)),
    (IPV4, IP_FRAG.masked(0, 3), IP_PROTO.eq(6), FIELDS["tcp_src"].eq(80), FIELDS["tcp_dst"].masked(0x3F0, 0xFFF0)),
    (IPV6, IP_PROTO.eq(6), FIELDS["tcp_dst"].eq(443)),
    (IPV4, IP_PROTO.eq(17), FIELDS["udp_src"].eq(68), FIELDS["udp_dst"].eq(67)),
    (IPV4, IP_PROTO.eq(132), FIELDS["sctp_src"].eq(1), FIELDS["sctp_dst"].eq(2)),
    (IPV4, IP_PROTO.eq(1), FIELDS["icmp_type"].eq(0), FIELDS["icmp_code"].eq(0)),
    (IPV6, IPV6_SRC.eq(V6), IPV6_DST.prefix(0xFF02 << 112, 16), IP_TTL.eq(255), IP_PROTO.eq(58),
     FIELDS["icmpv6_type"].eq(135), FIELDS["icmpv6_code"].eq(0), FIELDS["nd_target"].eq(V6), FIELDS["nd_sll"].eq(MAC)),
    (IPV6, IP_PROTO.eq(58), FIELDS["icmpv6_type"].eq(136), FIELDS["icmpv6_code"].eq(0), FIELDS["nd_tll"].eq(0)),
    (ARP, FIELDS["arp_op"].eq(1), FIELDS["arp_spa"].eq(0), FIELDS["arp_tpa"].eq(0x0A000001),
     FIELDS["arp_sha"].eq(MAC), FIELDS["arp_tha"].eq(0)),
)  # fmt: skip


def every() -> tuple[Flow, ...]:
    """A flow for each match and for each list of actions, with distinct cookies."""
    flows = [(Match.of(*terms), (Goto(20),)) for terms in MATCHES]
    flows += [(Match.of(SRC_PORT.eq(number)), actions) for number, actions in enumerate(ACTIONS)]
    flows += [(Match.of(SRC_PORT.eq(number), IPV4), actions) for number, actions in enumerate(CT_ACTIONS, 100)]
    return tuple(
        Flow(10, 100 + number, match, actions, cookie=0x5C00 << 48 | number)
        for number, (match, actions) in enumerate(flows)
    )
