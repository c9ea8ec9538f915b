# SPDX-License-Identifier: Apache-2.0
"""Whole flows compared, from the bytes of flow statistics."""

from __future__ import annotations

from dataclasses import replace
from struct import pack
from time import monotonic

import pytest

from flows.flow import Flow
from sgctl.openflow import compare, encode
from sgctl.openflow.compare import Entry, Findings, entries, terms, together
from sgctl.openflow.messages import MULTIPART_REPLY, message
from sgctl.reconcile import cookie_of
from tests.unit.flow_world import flows_of

FLOWS = [replace(flow, cookie=cookie_of(flow), expires=0) for flow in flows_of()]
DESIRED = {flow.cookie: flow for flow in FLOWS}
LEARNED, FOREIGN = 0xFFFF_0000_0000_0001, 0x99


def statistics(flow: Flow, *, cookie: int | None = None, hard: int = 0) -> bytes:
    """A flow as a switch tells it that uses our words."""
    body = encode.match(flow.match) + encode.instructions(flow.actions)
    head = pack(
        "!HBxIIHHHHH2xQQQ", 48 + len(body), flow.table, 9, 0, flow.priority, 0, hard, 0, 0,
        flow.cookie if cookie is None else cookie, 5, 500,
    )  # fmt: skip
    return head + body


def reply(*parts: bytes) -> bytes:
    return message(MULTIPART_REPLY, 1, pack("!HH4x", 1, 0) + b"".join(parts))


def found(*parts: bytes, desired: dict[int, Flow] = DESIRED, accepted: dict[int, Entry] | None = None) -> Findings:
    installed = entries([reply(part) for part in parts])
    return together(compare.compare(desired, installed, accepted or {}))


def without_learning(flows: list[Flow]) -> list[Flow]:
    """A switch tells learn actions in its own words, which `statistics` does not speak."""
    return [flow for flow in flows if "learn(" not in str(flow)]


ALL = [statistics(flow) for flow in without_learning(FLOWS)]
KNOWN = {flow.cookie: flow for flow in without_learning(FLOWS)}
PICKED = without_learning(FLOWS)[40]


def test_equal_flows_are_not_worth_a_word() -> None:
    assert found(*ALL, desired=KNOWN) == Findings()
    assert found(*ALL, statistics(PICKED, cookie=LEARNED), desired=KNOWN) == Findings()


def test_each_kind_of_difference() -> None:
    rest = [one for one in ALL if one != statistics(PICKED)]
    other = replace(PICKED, actions=FLOWS[0].actions, priority=PICKED.priority)
    assert found(*rest, desired=KNOWN) == Findings(missing=(PICKED,))
    changed = replace(PICKED, actions=() if PICKED.actions else FLOWS[-1].actions)
    assert found(*rest, statistics(changed), desired=KNOWN) == Findings(changed=(PICKED,))
    moved = found(*rest, statistics(replace(other, priority=7)), desired=KNOWN)
    assert moved.missing == (PICKED,) and [one.priority for one in moved.intruders] == [7]
    stranger = found(*ALL, statistics(PICKED, cookie=FOREIGN), desired=KNOWN)
    assert not stranger.wrong and [one.cookie for one in stranger.foreign] == [FOREIGN]
    forged = found(*ALL, statistics(PICKED, cookie=0x5C << 56), desired=KNOWN)
    assert [one.cookie for one in forged.intruders] == [0x5C << 56]


def test_a_timeout_that_was_added_is_a_change() -> None:
    rest = [one for one in ALL if one != statistics(PICKED)]
    assert found(*rest, statistics(PICKED, hard=60), desired=KNOWN) == Findings(changed=(PICKED,))


def test_a_flow_that_has_expired_is_not_missing() -> None:
    past, future = (replace(PICKED, expires=round(monotonic()) + seconds) for seconds in (-5, 60))
    rest = [one for one in ALL if one != statistics(PICKED)]
    assert found(*rest, desired=KNOWN | {PICKED.cookie: past}) == Findings()
    assert found(*rest, desired=KNOWN | {PICKED.cookie: future}) == Findings(missing=(future,))
    assert found(*rest, statistics(PICKED, hard=60), desired=KNOWN | {PICKED.cookie: future}) == Findings()


def test_words_that_are_known_to_be_right_are_accepted() -> None:
    rest = [one for one in ALL if one != statistics(PICKED)]
    odd = statistics(replace(PICKED, actions=FLOWS[-1].actions if PICKED.actions != FLOWS[-1].actions else ()))
    (entry,) = entries([reply(odd)])
    assert found(*rest, odd, desired=KNOWN).wrong
    assert not found(*rest, odd, desired=KNOWN, accepted={PICKED.cookie: entry}).wrong


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("00000904" "10001000", "80000d04" "10001000"),
        ("00013502" "0003", "00013401" "00"),
        ("00014504" "00000002", "ffff5508" "4f4e460000000002"),
    ],
)
def test_fields_that_open_vswitch_tells_otherwise(ours: str, theirs: str) -> None:
    def match(text: str) -> bytes:
        return pack("!HH", 1, 4 + len(text) // 2) + bytes.fromhex(text)

    assert terms(match(ours)) == terms(match(theirs))
    assert terms(match("00013502" "0101")) != terms(match("00013401" "01"))


def test_statistics_without_a_size_are_refused() -> None:
    with pytest.raises(ValueError, match="of 0 bytes"):
        list(entries([reply(bytes(64))]))
