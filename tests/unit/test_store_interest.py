# SPDX-License-Identifier: Apache-2.0
"""What an agent asks for follows from what is here now; what was here before only keeps NICs asked for by name."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from sgctl.model import Address, Group, Handover, Host, Member, Nic, Pod, Row, Rule, Vm, handover_id
from sgctl.store.columns import Json
from sgctl.store.interest import KINDS, Conditions, Watch
from sgctl.store.replica import Replica
from tests.unit.store_rows import Place, account, group, rule, uid

ACME = account("acme")
GROUPS = [group(name, ACME) for name in "abc"]
RULES = [rule(GROUPS[0], GROUPS[1]), rule(GROUPS[1]), rule(GROUPS[2], GROUPS[0])]
PLACES = [Place("one"), Place("two")]
IDS = [uid(f"nic {number}") for number in range(4)]
NICS = st.builds(
    replace,
    st.just(PLACES[0].machine(ACME)[1]),
    id=st.sampled_from(IDS),
    vm=st.sampled_from([uid("vm 1"), uid("vm 2")]),
    pod=st.sampled_from([place.pod.id for place in PLACES]),
    host=st.sampled_from(["", "h1", "h2"]),
    groups=st.frozensets(st.sampled_from([group.id for group in GROUPS]), max_size=2),
    copied=st.integers(0, 1),
)
HANDOVERS = st.builds(
    lambda nic, host: Handover(id=handover_id(nic, host), nic=nic, host=host),
    st.sampled_from(IDS),
    st.sampled_from(["h1", "h2"]),
)
ROWS = NICS | HANDOVERS | st.sampled_from([*GROUPS, *RULES, *(place.pod for place in PLACES)])
SOME = st.frozensets(st.sampled_from(IDS))


def ids(condition: Json) -> set[str]:
    """What clauses ask for by an id."""
    return {clause[2][1] for clause in condition if isinstance(clause, list) and isinstance(clause[2], list)}


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(ROWS, st.booleans(), SOME, SOME), max_size=12))
def test_a_history_does_not_matter(steps: list[tuple[Row, bool, frozenset[str], frozenset[str]]]) -> None:
    replica, followed = Replica(KINDS), Conditions()
    named = frozenset[str]()
    for row, gone, plugged, lent in steps:
        replica.absorb({type(row): {row.id: None if gone else row}})
        watch = Watch("h1", plugged)
        found = followed.of(watch, replica, lent)
        afresh = Conditions().of(watch, replica, lent)
        here = {nic.id for nic in replica.find(Nic, host="h1")}
        named = plugged - here - lent | plugged & named
        assert ids(found[Nic]) == named | ids(afresh[Nic])
        assert {**found, Nic: None} == {**afresh, Nic: None}


def shown(*rows: Row) -> Replica:
    replica = Replica(KINDS)
    for row in rows:
        replica.absorb({type(row): {row.id: row}})
    return replica


def test_what_a_host_needs() -> None:
    place, other = PLACES
    _, mine, _, *_ = place.machine(ACME, GROUPS[0], host="h1")
    vm, bare, _, *_ = other.machine(ACME, GROUPS[2], host="h2")
    replica = shown(replace(mine, copied=1), bare, *GROUPS, *RULES, place.pod, other.pod)
    found = Conditions().of(Watch("h1", frozenset({mine.id, bare.id, IDS[0]})), replica)
    assert ids(found[Nic]) == {bare.id, IDS[0]}
    assert found[Nic][0] == ["host", "==", "h1"] == found[Handover][0]
    assert ids(found[Handover]) == {mine.id, bare.id}
    assert (ids(found[Vm]), ids(found[Address])) == ({vm.id}, {bare.id})
    assert ids(found[Rule]) == {GROUPS[0].id, GROUPS[2].id}
    assert ids(found[Member]) == {GROUPS[1].id, GROUPS[0].id}
    assert ids(found[Group]) == {one.id for one in GROUPS}
    assert ids(found[Pod]) == {place.pod.id, other.pod.id}
    assert found[Host] == [["name", "==", "h1"], ["name", "==", "h2"]]


def test_a_nic_that_changes_leaves_what_is_asked_for() -> None:
    """The same objects: otherwise hundreds of clauses would be compared with what the server knows."""
    nics = [PLACES[0].machine(ACME, GROUPS[0], host="h1")[1] for _ in range(3)]
    replica, conditions = shown(*nics, *GROUPS), Conditions()
    watch = Watch("h1", frozenset(nic.id for nic in nics) | {IDS[0]})
    before = conditions.of(watch, replica)
    replica.absorb({Nic: {nics[1].id: replace(nics[1], addresses=frozenset({"10.0.0.9"}))}})
    after = conditions.of(watch, replica)
    assert all(after[kind] is condition for kind, condition in before.items() if kind is not Host)
