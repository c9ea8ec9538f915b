# SPDX-License-Identifier: Apache-2.0
"""Finding what differs between two tables finds just that, whatever has come, gone or moved."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sgctl.memo import Along, Distinct, Grouped, Layers, changes, difference

POOL = [[number] for number in range(8)]
"""Values of which no two are the same object, so that `is` and equality of their contents agree."""
TABLES = st.lists(st.sampled_from(POOL), unique_by=id)


@given(TABLES, TABLES)
def test_without_what_both_begin_and_end_with(old: list[list[int]], new: list[list[int]]) -> None:
    was, now = difference(old, new)
    common = len(old) - len(was)
    assert common == len(new) - len(now)
    splits = range(common + 1)
    assert any(
        old[:start] == new[:start]
        and (old[start : start + len(was)], new[start : start + len(now)]) == (was, now)
        and old[start + len(was) :] == new[start + len(now) :]
        for start in splits
    )


@given(TABLES, TABLES)
def test_what_has_come_and_gone(old: list[list[int]], new: list[list[int]]) -> None:
    gone, come = changes({str(one): one for one in old}, {str(one): one for one in new})
    assert gone == [one for one in old if one not in new]
    assert come == [one for one in new if one not in old]


def test_a_changed_value_has_gone_and_come() -> None:
    assert changes({"a": [1], "b": POOL[0]}, {"a": [2], "b": POOL[0]}) == ([[1]], [[2]])


def test_one_of_thousands() -> None:
    many = list(map(str, range(5000)))
    assert difference(many, [*many[:2500], "new", *many[2501:]]) == (["2500"], ["new"])
    assert difference(many, [*many, "new"]) == ([], ["new"])
    assert difference(many[1:], many) == ([], ["0"])
    assert difference(many, many) == ([], [])


def test_a_function_along_a_sequence_is_called_for_what_differs_only() -> None:
    called: list[str] = []

    def look_up(key: str, table: dict[str, int]) -> tuple[str, int]:
        called.append(key)
        return key, table[key]

    along = Along(look_up)
    table = {"a": 1, "b": 2, "c": 3, "d": 4}
    for keys, now, expected in (
        (("a", "b", "c"), table, ["a", "b", "c"]),
        (("a", "x", "b", "c"), table | {"x": 9}, ["x"]),
        (("a", "b", "c"), table, []),
        (("b", "c"), {"b": 2, "c": 3}, []),
        (("b", "c", "d"), table, ["d"]),
        (("b", "c", "d"), table | {"c": 0}, ["b", "c", "d"]),
        ((), {}, []),
    ):
        called.clear()
        assert along(keys, now) == tuple((key, now[key]) for key in keys)
        assert called == expected


def test_equal_results_along_a_sequence_stay_the_same_objects() -> None:
    along = Along(lambda value: [value // 10])
    before = along((1000, 2000, 3000))
    after = along((1000, int("2001"), 3000))
    assert all(one is other for one, other in zip(before, after, strict=True))


TABLES = st.lists(st.dictionaries(st.text("ab", max_size=2), st.integers(0, 3)), max_size=4)


def layered(tables: list[dict[str, int]], same: Layers[list[int]] | None = None) -> Layers[list[int]]:
    """Each table's keys apart from the others', its values as objects; those equal to one of `same` are that object."""
    known = {(key, value[0]): value for key, value in (same or {}).items()}
    named = [{f"{number}/{key}": value for key, value in table.items()} for number, table in enumerate(tables)]
    return Layers(*({key: known.get((key, value), [value]) for key, value in table.items()} for table in named))


@given(TABLES, TABLES)
def test_layers_are_one_table(old: list[dict[str, int]], new: list[dict[str, int]]) -> None:
    before = layered(old)
    after = layered(new, before)
    flat = dict(after.items())
    assert after == flat
    assert (len(after), list(after)) == (len(flat), list(flat))
    assert list(map(id, after.values())) == list(map(id, flat.values()))
    assert "c" not in after
    for _ in range(2):
        ours, flatly = changes(before, after), changes(dict(before.items()), flat)
        assert [sorted(map(id, side)) for side in ours] == [sorted(map(id, side)) for side in flatly]


def test_layers_that_stay_are_not_compared() -> None:
    many, one, other = {str(number): [number] for number in range(5)}, {"a": [1]}, {"a": [2]}
    before, after = Layers(many, one), Layers(many, other)
    assert changes(before, after) == ([[1]], [[2]])
    assert changes(after, after.plus({"b": [3]})) == ([], [[3]])
    assert changes(Layers(), after)[1] == [*many.values(), [2]]


NUMBERS = [[number % 3] for number in range(9)]
HISTORIES = st.lists(st.lists(st.sampled_from(NUMBERS), unique_by=id), max_size=6)


def odd(value: list[int]) -> int | None:
    return value[0] if value[0] else None


@given(HISTORIES)
def test_distinct_results_are_those_of_all_values(history: list[list[list[int]]]) -> None:
    distinct = Distinct(odd)
    before = distinct(())
    for values in history:
        found = distinct(values)
        assert found == {value[0] for value in values} - {0}
        assert found is before or found != before
        before = found


@given(HISTORIES)
def test_values_are_grouped_whatever_came_before(history: list[list[list[int]]]) -> None:
    grouped: Grouped[list[int]] = Grouped(name)
    before: list[list[int]] = []
    for values in history:
        differ = {id(one) for one in before} ^ {id(one) for one in values}
        touched = {name(one) for one in (*before, *values) if id(one) in differ}
        before = values
        assert grouped.follow(values) == touched - {None}
        assert grouped.groups.keys() == set(map(name, values)) - {None}
        for key, group in grouped.groups.items():
            assert sorted(map(id, group)) == sorted(id(value) for value in values if name(value) == key)


def name(value: list[int]) -> str | None:
    return str(value[0]) if value[0] else None


def test_only_what_comes_or_goes_is_looked_at() -> None:
    called: list[int] = []
    values = [[number] for number in range(100)]
    other = [*values[:50], [1000], *values[51:]]
    distinct: Distinct[None] = Distinct(lambda one: called.append(one[0]))
    grouped: Grouped[list[int]] = Grouped(lambda one: called.append(one[0]))
    for follow in (distinct, grouped.follow):
        follow(values)
        called.clear()
        follow(other)
        assert sorted(called) == [50, 1000]
