# SPDX-License-Identifier: Apache-2.0
"""Somebody else's changes show in the number of flows."""

import pytest

from flows.tables import CLASSIFIER, DHCP_WAITING, OUTPUT
from sgctl.agent import drift
from sgctl.agent.drift import PARTS, Census, exchanged
from sgctl.openflow.compare import parts
from sgctl.openflow.replies import Installed

SEEN = [Installed(1, CLASSIFIER.id, 5, 0, 0), Installed(2, OUTPUT.id, 5, 0, 0)]
FOREIGN = [Installed(0, 250, priority, 0, 0) for priority in (1, 2, 3)]
COOKIES = {flow.cookie: flow.table for flow in (*SEEN, *FOREIGN)}
COUNTS = {CLASSIFIER.id: 1, OUTPUT.id: 1, 250: 3}


def census() -> Census:
    taken = Census()
    taken.take([*SEEN, *FOREIGN], COOKIES)
    return taken


def test_what_was_read_and_what_we_have_changed_ourselves_is_no_drift() -> None:
    taken = census()
    assert taken.compare(COUNTS, COOKIES) == ""
    assert taken.compare(COUNTS | {CLASSIFIER.id: 2}, COOKIES | {7: CLASSIFIER.id}) == ""
    assert not taken.due


def test_deleted_and_added_flows_are_noticed() -> None:
    assert census().compare({OUTPUT.id: 1, 250: 3}, COOKIES) == "CLASSIFIER has 0, not 1"
    assert census().compare(COUNTS | {250: 4, 9: 1}, COOKIES) == "9 has 1, not 0, 250 has 4, not 3"


def test_flows_that_come_and_go_by_themselves_do_not_count() -> None:
    assert census().compare(COUNTS | {DHCP_WAITING.id: 8}, COOKIES) == ""


def test_flows_exchanged_for_as_many_others_show_in_their_part() -> None:
    odd, even = parts(2)[1], parts(2)[0]
    assert exchanged(odd, SEEN[:1], COOKIES) == exchanged(even, [SEEN[1], *FOREIGN], COOKIES) == ""
    other = [Installed(3, CLASSIFIER.id, 5, 0, 0)]
    assert exchanged(odd, other, COOKIES) == "1 have gone, 1 have come"
    learned = [SEEN[0], Installed(5, DHCP_WAITING.id, 5, 0, 0)]
    assert exchanged(odd, learned, COOKIES) == ""


def test_a_look_is_due_after_a_while_and_overdue_after_twice_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(drift, "monotonic", lambda: clock[0])
    taken = census()
    found = []
    for after in (0.0, drift.EVERY - 0.1, drift.EVERY, 2 * drift.EVERY - 0.1, 2 * drift.EVERY):
        clock[0] = 100 + after
        found.append((taken.due, taken.overdue))
    assert found == [(False, False), (False, False), (True, False), (True, False), (True, True)]
    taken.compare(COUNTS, COOKIES)
    assert (taken.left, taken.due, taken.overdue) == (drift.EVERY, False, False)


def test_all_parts_are_read_in_turn() -> None:
    taken = census()
    turns = [taken.next() for _ in range(2 * len(PARTS))]
    assert turns == [*PARTS, *PARTS]
    assert all(sum(part.holds(cookie) for part in PARTS) == 1 for cookie in (0, 1, 2**64 - 1, 0x5C << 56 | 31))
