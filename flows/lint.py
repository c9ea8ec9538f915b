# SPDX-License-Identifier: Apache-2.0
"""Hold built flows against the declarations of `flows.tables`, and against what a switch would refuse or leave open.

`check` is part of every unit test of the pipeline and costs about as much as building the flows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from flows import fields as f
from flows.bands import Band
from flows.fields import OWNED, Bits, MatchField
from flows.flow import Action, Ct, Flow, Goto, Learn, Load, Match, Meter, Move, OutputBits, Pop, Push, Resubmit
from flows.tables import ASIDE, BY_ID, TABLES, Table

_REGISTERS = {bits.of for bits in OWNED}
_ETHERNET = {
    f.IPV4_SRC: (0x0800,), f.IPV4_DST: (0x0800,), f.IPV6_SRC: (0x86DD,), f.IPV6_DST: (0x86DD,),
    f.CT_IPV4_SRC: (0x0800,), f.CT_IPV4_DST: (0x0800,), f.CT_IPV6_SRC: (0x86DD,), f.CT_IPV6_DST: (0x86DD,),
    f.IP_PROTO: (0x0800, 0x86DD), f.IP_TTL: (0x0800, 0x86DD), f.IP_FRAG: (0x0800, 0x86DD),
    f.ARP_OP: (0x0806, 0x8035), f.ARP_SPA: (0x0806, 0x8035), f.ARP_TPA: (0x0806, 0x8035),
    f.ARP_SHA: (0x0806, 0x8035), f.ARP_THA: (0x0806, 0x8035),
}  # fmt: skip
_PROTOCOL = {
    f.TCP_SRC: 6, f.TCP_DST: 6, f.TCP_FLAGS: 6, f.UDP_SRC: 17, f.UDP_DST: 17, f.SCTP_SRC: 132, f.SCTP_DST: 132,
    f.ICMP_TYPE: 1, f.ICMP_CODE: 1, f.ICMPV6_TYPE: 58, f.ICMPV6_CODE: 58,
}  # fmt: skip
_ND = {f.ND_TARGET: (135, 136), f.ND_SLL: (135,), f.ND_TLL: (136,)}
_CONNTRACK = {f.CT_IPV4_SRC, f.CT_IPV4_DST, f.CT_IPV6_SRC, f.CT_IPV6_DST}
_TRACKED = f.ct_state("+trk-inv").mask


def check(flows: Iterable[Flow]) -> list[str]:
    """All problems, in words; none for a pipeline that is as declared."""
    flows = list(flows)
    return [*_each(flows), *_keys(flows), *overlaps(flows), *_misses(flows)]


def _each(flows: Sequence[Flow]) -> Iterator[str]:
    for flow in flows:
        table = BY_ID.get(flow.table)
        if table is None:
            yield f"no such table: {flow}"
            continue
        for problem in (*_matching(flow, table), *prerequisites(flow.match), *_acting(flow, table)):
            yield f"{table.name}: {problem}: {flow}"
        if not flow.note:
            yield f"{table.name}: no note: {flow}"


def _matching(flow: Flow, table: Table) -> Iterator[str]:
    for term in flow.match.terms:
        if term.field in _REGISTERS:
            readable = 0
            for bits in table.reads:
                readable |= _mask(bits) if bits.of is term.field else 0
            if term.mask & ~readable:
                yield f"may not read all of {term.field.name}"
        elif term.field not in table.match:
            yield f"may not match {term.field.name}"


def _mask(bits: Bits) -> int:
    return ((1 << bits.width) - 1) << bits.first


def prerequisites(match: Match) -> Iterator[str]:
    """What a switch wants to see matched beside a field, OpenFlow 1.4 table 13 and ovs-fields(7)."""
    exact = {term.field: term.value for term in match.terms if term.mask == term.field.full}
    for term in match.terms:
        field = term.field
        if field in _ETHERNET and exact.get(f.ETH_TYPE) not in _ETHERNET[field]:
            yield f"{field.name} without its Ethernet type"
        if field in _PROTOCOL and exact.get(f.IP_PROTO) != _PROTOCOL[field]:
            yield f"{field.name} without its protocol"
        if field in _ND and exact.get(f.ICMPV6_TYPE) not in _ND[field]:
            yield f"{field.name} without its ICMPv6 type"
        if field in _CONNTRACK and not _valid(match):
            yield f"{field.name} of a packet that may not be tracked"


def _valid(match: Match) -> bool:
    state = match.get(f.CT_STATE)
    return state is not None and state.mask & _TRACKED == _TRACKED and state.value & _TRACKED == f.CT_STATES["trk"]


def _acting(flow: Flow, table: Table) -> Iterator[str]:
    for action in flow.actions:
        for bits in _read_by(action):
            if bits not in table.reads and not isinstance(action, Learn):
                yield f"may not read {bits.name}"
        for bits in _written_by(action):
            if bits not in table.writes:
                yield f"may not write {bits.name}"
        for number in _reached_by(action):
            name = BY_ID[number].name if number in BY_ID else str(number)
            if name not in table.to:
                yield f"may not go to {name}"
            elif isinstance(action, Resubmit) is not (BY_ID[number] in ASIDE):
                yield f"may not {'resubmit' if isinstance(action, Resubmit) else 'go on'} to {name}"
        if isinstance(action, Learn):
            yield from _learning(action)
        if isinstance(action, Ct) and action.commit and not _valid(flow.match):
            yield "commits a packet that may be invalid"
    if any(isinstance(action, Goto) for action in flow.actions[:-1]):
        yield "goto is not the last action"
    if any(isinstance(action, Meter) for action in flow.actions[1:]):
        yield "meter is not the first action"


def _learning(action: Learn) -> Iterator[str]:
    """A learned flow is held against the table that it goes to."""
    table = BY_ID.get(action.table)
    if table is None:
        yield f"may not learn into table {action.table}"
        return
    learned = Flow(action.table, action.priority, Match.of(action.match, (new.eq(0) for new, _ in action.copies)), ())
    yield from (f"learns what {table.name} {problem}" for problem in _matching(learned, table))
    for new, _ in action.loads:
        if new not in table.writes:
            yield f"learns what {table.name} may not write: {new.name}"


def _read_by(action: Action) -> tuple[Bits, ...]:
    match action:
        case Move(source=source) | Push(source=source):
            return (source,)
        case OutputBits(bits=bits):
            return (bits,)
        case Ct(execute=execute):
            return tuple(bits for inner in execute for bits in _read_by(inner))
        case _:
            return ()


def _written_by(action: Action) -> tuple[Bits, ...]:
    match action:
        case Load(to=bits) | Move(to=bits) | Pop(to=bits):
            return (bits,)
        case Ct(execute=execute):
            return tuple(bits for inner in execute for bits in _written_by(inner))
        case _:
            return ()


def _reached_by(action: Action) -> tuple[int, ...]:
    match action:
        case Goto(table=table) | Resubmit(table=table) | Ct(table=table):
            return (table,)
        case _:
            return ()


def _keys(flows: Sequence[Flow]) -> Iterator[str]:
    seen: dict[object, Flow] = {}
    for flow in flows:
        other = seen.setdefault(flow.key, flow)
        if other is not flow:
            yield f"{BY_ID[flow.table].name}: {other.owner} and {flow.owner} both own: {flow}"


def overlaps(flows: Sequence[Flow]) -> Iterator[str]:
    """Pairs of flows of one table and priority that a packet may match both, and that do different things.

    Flows are compared by tuple (fields and masks): within one tuple different matches never overlap, and between two
    tuples only those can that agree on the bits which both look at.
    """
    alike: dict[tuple[int, int], dict[object, list[Flow]]] = defaultdict(lambda: defaultdict(list))
    for flow in flows:
        shape = tuple((term.field, term.mask) for term in flow.match.terms)
        alike[flow.table, flow.priority][shape].append(flow)
    for tuples in alike.values():
        groups = list(tuples.values())
        for index, group in enumerate(groups):
            for other in groups[index + 1 :]:
                yield from _between(group, other)


def _between(group: list[Flow], other: list[Flow]) -> Iterator[str]:
    common = [
        (term.field, term.mask & theirs.mask)
        for term in group[0].match.terms
        if (theirs := other[0].match.get(term.field)) is not None and term.mask & theirs.mask
    ]
    by_common: dict[tuple[int, ...], list[Flow]] = defaultdict(list)
    for flow in group:
        by_common[_project(flow.match, common)].append(flow)
    for flow in other:
        for twin in by_common.get(_project(flow.match, common), ()):
            if twin.actions != flow.actions:
                yield f"{BY_ID[flow.table].name}: undecided between: {twin} and: {flow}"


def _project(match: Match, common: list[tuple[MatchField, int]]) -> tuple[int, ...]:
    values = {term.field: term.value for term in match.terms}
    return tuple(values[field] & mask for field, mask in common)


def _misses(flows: Sequence[Flow]) -> Iterator[str]:
    missing = {flow.table for flow in flows if flow.priority == Band.MISS and not flow.match.terms and flow.drops}
    if any(flow.owner == "bridge" for flow in flows):
        yield from (f"{table.name}: a miss is not a drop" for table in TABLES if table.id not in missing)


def reachable() -> frozenset[str]:
    """Names of the tables that a packet can get to, from the first."""
    found = {TABLES[0].name}
    for table in TABLES:
        if table.name in found:
            found.update(table.to)
    return frozenset(found)
