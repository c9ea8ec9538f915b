# SPDX-License-Identifier: Apache-2.0
"""The replica's look-ups agree with a plain search, and it tells exactly what changed."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from sgctl.model import Account, Group, Nic, Row, Vm
from sgctl.store.columns import Kind
from sgctl.store.replica import Changes, Replica
from tests.unit.store_rows import Place, account, group, uid

ACME = account("acme")
GROUPS = [group(name, ACME) for name in "abc"]
NIC = Place("z").machine(ACME)[1]
NICS = st.builds(
    replace,
    st.just(NIC),
    id=st.sampled_from([uid(str(number)) for number in range(4)]),
    mac=st.sampled_from("xyz"),
    host=st.sampled_from(["", "h1", "h2"]),
    groups=st.frozensets(st.sampled_from([group.id for group in GROUPS])),
)


def news(*records: Row, gone: tuple[Row, ...] = ()) -> dict[Kind, dict[str, Row | None]]:
    told: dict[Kind, dict[str, Row | None]] = {}
    for record in records:
        told.setdefault(type(record), {})[record.id] = None if record in gone else record
    return told


@settings(max_examples=60)
@given(steps=st.lists(st.tuples(NICS, st.booleans()), max_size=25))
def test_indexes_agree_with_a_search(steps: list[tuple[Nic, bool]]) -> None:
    replica, expected = Replica([Nic]), dict[str, Nic]()
    for nic, gone in steps:
        replica.absorb({Nic: {nic.id: None if gone else nic}})
        expected.pop(nic.id, None) if gone else expected.update({nic.id: nic})
    rows = expected.values()
    assert {nic.id: nic for nic in replica.all(Nic)} == expected
    for host in ("", "h1", "h2"):
        assert ids(replica.find(Nic, host=host)) == {nic.id for nic in rows if nic.host == host}
        assert ids(replica.find(Nic, host=host, mac="x", device=0)) == {
            nic.id for nic in rows if nic.host == host and nic.mac == "x"
        }
    for named in GROUPS:
        assert ids(replica.find(Nic, groups=named.id)) == {nic.id for nic in rows if named.id in nic.groups}


def ids(records: list[Nic]) -> set[str]:
    return {record.id for record in records}


def test_equal_records_are_no_change() -> None:
    replica = Replica([Account, Group])
    assert replica.absorb(news(ACME, *GROUPS)) == {(Account, ACME.id), *((Group, one.id) for one in GROUPS)}
    renamed = replace(GROUPS[0], name="other")
    assert replica.absorb(news(ACME, renamed, *GROUPS[1:], gone=(GROUPS[1],))) == {
        (Group, renamed.id), (Group, GROUPS[1].id),
    }  # fmt: skip
    assert replica.absorb(news(GROUPS[1], gone=(GROUPS[1],))) == frozenset()


def test_listeners_hear_of_changes_and_of_being_in_sync() -> None:
    replica = Replica([Account])
    heard: list[Changes] = []
    replica.on_change(heard.append)
    replica.announce(frozenset())
    assert heard == []
    replica.insync = True
    replica.announce(frozenset())
    replica.announce(replica.absorb(news(ACME)))
    replica.announce(frozenset())
    replica.insync = False
    replica.announce(frozenset())
    assert heard == [frozenset(), frozenset({(Account, ACME.id)}), frozenset()]


def test_an_unknown_id_is_none() -> None:
    replica = Replica([Account])
    assert replica.get(Account, "nobody") is None
    assert replica.one(Account, name_key="nobody") is None


def test_a_revision_is_new_when_a_record_is() -> None:
    replica = Replica([Nic, Vm])
    seen = [replica.revision(Nic)]
    for row in (NIC, NIC, replace(NIC, mac="02:00:00:00:00:99"), None):
        replica.absorb({Nic: {NIC.id: row}})
        seen.append(replica.revision(Nic))
    assert [before != after for before, after in pairwise(seen)] == [True, False, True, True]
    assert replica.revision(Vm) == Replica([Vm]).revision(Vm)
