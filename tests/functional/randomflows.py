# SPDX-License-Identifier: Apache-2.0
"""Random flows that the packets of a test have a good chance to match."""

import random
from collections.abc import Sequence

from flows import fields as f
from flows import headers
from flows.fields import Bits, MatchField, Term
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
    Resubmit,
    SetField,
)
from flows.packet import Packet

TABLES = 6
LEARNED_TABLE = 5
_IP_FIELDS = {"nw_ttl", "nw_proto", "nw_frag"}
_REGISTERS: tuple[Bits, ...] = (f.SRC_PORT, f.OUT_PORT, f.CHUNK, f.SRC_LOCAL, f.EGRESS_POLICY, f.EGRESS_RULE)
_WIDE = (f.EGRESS_POLICY, f.INGRESS_POLICY, f.EGRESS_RULE)


def random_flows(
    rng: random.Random, packets: Sequence[Packet], ports: Sequence[int], *, learn: bool = True
) -> list[Flow]:
    """Some flows for each table, no two of them with equal priority."""
    flows = []
    for table in range(TABLES):
        for priority in rng.sample(range(1, 100), 14):
            match = _match(rng, rng.choice(packets), table)
            flows.append(Flow(table, priority, match, _actions(rng, match, table, ports, learn=learn)))
        flows.append(Flow(table, 0, Match(), (Goto(table + 1),) if table + 1 < TABLES else ()))
    return flows


def _match(rng: random.Random, packet: Packet, table: int) -> Match:
    terms = []
    exact = {term.field: term for term in headers.unpack(packet.headers)}
    for field in rng.sample(list(exact), rng.choice((1, 1, 2))):
        terms += [*_needed(field, exact), _loosened(rng, exact[field])]
    if table and rng.random() < 0.5:
        terms.append(rng.choice((f.SRC_PORT, f.OUT_PORT, f.CHUNK)).eq(rng.randrange(4)))
    if table and f.ETH_TYPE in exact and exact[f.ETH_TYPE].value in (0x800, 0x86DD) and rng.random() < 0.4:
        states = ("+trk", "-trk", "+trk+new-inv", "+trk+est-inv", "+trk+inv", "+trk-inv+rel", "+trk-inv-rpl")
        terms += [exact[f.ETH_TYPE], f.ct_state(rng.choice(states))]
    if rng.random() < 0.15:
        terms.append(f.CT_MARK.masked(rng.choice((0, 1)), 1))
    return Match.of(_agreeing(terms))


def _agreeing(terms: list[Term]) -> list[Term]:
    """One term for each field, the exact one if there is one (prerequisites are exact)."""
    chosen: dict[MatchField, Term] = {}
    for term in terms:
        if term.field not in chosen or term.mask == term.field.full:
            chosen[term.field] = term
    return list(chosen.values())


def _needed(field: MatchField, exact: dict[MatchField, Term]) -> list[Term]:
    """The prerequisites of matching a field."""
    names = []
    if field.name.startswith(("nw_", "ipv6_", "arp_", "tcp_", "udp_", "sctp_", "icmp", "nd_")):
        names.append(f.ETH_TYPE)
    if field.name.startswith(("tcp_", "udp_", "sctp_", "icmp", "nd_")):
        names.append(f.IP_PROTO)
    if field.name.startswith("nd_"):
        names += [f.ICMPV6_TYPE, *([f.ICMPV6_CODE] if f.ICMPV6_CODE in exact else [])]
    return [exact[name] for name in names]


def _loosened(rng: random.Random, term: Term) -> Term:
    if term.field.kind not in ("ipv4", "ipv6", "mac", "port") or rng.random() < 0.6:
        return term
    return term.field.prefix(term.value, rng.randrange(term.field.bits // 2, term.field.bits))


def _actions(rng: random.Random, match: Match, table: int, ports: Sequence[int], *, learn: bool) -> tuple[Action, ...]:
    kinds = {term.field: term.value for term in match.terms if term.mask == term.field.full}
    is_ip = kinds.get(f.ETH_TYPE) in (0x800, 0x86DD)
    simple = [_simple(rng, ports, is_ip=is_ip) for _ in range(rng.randrange(4))]
    if table + 1 == TABLES:
        return (*simple, Output(rng.choice(ports)))
    later = rng.randrange(table + 1, TABLES)
    if learn and table < LEARNED_TABLE and kinds.get(f.ETH_TYPE) == 0x800 and rng.random() < 0.3:
        copies = ((f.SRC_PORT, f.SRC_PORT), (f.SRC_LOCAL, f.SRC_LOCAL))
        simple.append(Learn(LEARNED_TABLE, 200, 60, 1, (f.ETH_TYPE.eq(0x800),), copies, f.SRC_PORT))
    if rng.random() < 0.2:
        simple.append(Resubmit(later))
    if is_ip and rng.random() < 0.5:
        return (*simple, _ct(rng, match, later), Output(rng.choice(ports)))
    return (*simple, Goto(later)) if rng.random() < 0.8 else tuple(simple)


def _simple(rng: random.Random, ports: Sequence[int], *, is_ip: bool) -> Action:
    source, to = rng.sample(_WIDE, 2)
    loaded = rng.choice(_REGISTERS)
    choices: list[Action] = [
        Load(loaded, rng.randrange(min(12, 1 << loaded.width))),
        Load(rng.choice((f.SRC_PORT, f.OUT_PORT)), rng.randrange(4)),
        Move(source, to),
        Output(rng.choice(ports)),
        OutputBits(rng.choice((f.SRC_PORT, f.OUT_PORT))),
        SetField(f.ETH_DST, rng.randrange(1 << 48)),
        CtClear(),
        Controller(64),
    ]
    return DecTtl() if is_ip and rng.random() < 0.2 else rng.choice(choices)


def _ct(rng: random.Random, match: Match, table: int) -> Ct:
    state = match.get(f.CT_STATE)
    if state is not None and state.value & f.CT_STATES["inv"]:
        return Ct(rng.choice((1, 2)), table)
    execute = (Load(rng.choice((f.ORIGIN_OK, f.RESPONDER_OK)), 1), Move(rng.choice(_WIDE), f.LABEL_EGRESS))
    return Ct(rng.choice((1, 2)), table, *rng.choice(((False, ()), (True, ()), (True, execute))))
