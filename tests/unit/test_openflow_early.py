# SPDX-License-Identifier: Apache-2.0
"""Flows that are sent while others are still being made belong to the one bundle that is committed, or to none."""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack_from

import pytest

from flows import fields as f
from flows.flow import Flow, Match
from sgctl.openflow import encode, messages
from sgctl.openflow.early import BATCH
from sgctl.openflow.errors import Refused
from sgctl.openflow.switch import Switch

_STEPS = {messages.OPEN: "open", messages.COMMIT: "commit", messages.DISCARD: "discard"}


def flows(count: int, start: int = 0) -> list[Flow]:
    return [Flow(1, 7, Match.of(f.IN_PORT.eq(number)), (), cookie=number + 1) for number in range(start, start + count)]


class Bundles:
    """A channel to a switch that knows bundles; what it does is written down: a step and its bundle, or cookies."""

    def __init__(self, first: int = 100) -> None:
        self.steps: list[tuple[str, int]] = []
        self.bundles: dict[int, list[int]] = {}
        self.committed: list[list[int]] = []
        self.refused: set[int] = set()
        self._next = first
        self.switch = Switch(self, bridge="br", datapath_id=1)

    def reserve(self, count: int) -> int:
        first, self._next = self._next, self._next + count
        return first

    def send(self, data: bytes) -> bool:
        for kind, xid, message in _split(data):
            answer = self._take(kind, message)
            if answer is not None:
                self.switch.receive(answer, xid, messages.message(answer, xid, bytes((0, 3, 0, 5))))
        return True

    def close(self) -> None:
        raise AssertionError("the connection is ended")

    def _take(self, kind: int, message: bytes) -> int | None:
        if kind == messages.BARRIER_REQUEST:
            return messages.BARRIER_REPLY
        if kind == encode.FLOW_MOD:
            self.committed.append([_cookie(message)])
            return None
        (bundle,) = unpack_from("!I", message, 8)
        if kind == messages.BUNDLE_ADD:
            cookie = _cookie(message[16:])
            if cookie in self.refused:
                return messages.ERROR
            self.bundles[bundle].append(cookie)
            return None
        step = unpack_from("!H", message, 12)[0]
        self.steps.append((_STEPS[step], bundle))
        if step == messages.OPEN:
            self.bundles[bundle] = []
        elif step == messages.COMMIT:
            self.committed.append(self.bundles.pop(bundle))
        else:
            del self.bundles[bundle]
        return messages.BUNDLE_CONTROL

    @property
    def happened(self) -> list[str]:
        return [step for step, _ in self.steps]


def _split(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    while data:
        _, kind, size, xid = unpack_from("!BBHI", data)
        yield kind, xid, data[:size]
        data = data[size:]


def _cookie(mod: bytes) -> int:
    return int(unpack_from("!Q", mod, 8)[0])


@pytest.mark.parametrize("first", [0, 100])
def test_all_flows_are_in_one_bundle_once_and_deletes_come_last(first: int) -> None:
    channel, adds = Bundles(first), flows(3 * BATCH + 5)
    with channel.switch.early() as early:
        for start in range(0, len(adds), 100):
            early.add(adds[start : start + 100])
        assert channel.happened == ["open"] and early.sent == 3 * BATCH
        channel.switch.apply(adds[::-1], [(9999, 1)], early=early)
    assert channel.happened == ["open", "commit"] and not channel.bundles
    (committed,) = channel.committed
    assert committed[-1] == 9999 and sorted(committed[:-1]) == [flow.cookie for flow in adds]


def test_a_bundle_with_other_flows_than_the_change_is_given_up() -> None:
    channel, adds = Bundles(), flows(BATCH + 3)
    with channel.switch.early() as early:
        early.add(flows(BATCH, start=1))
        channel.switch.apply(adds, early=early)
    assert channel.happened == ["open", "discard", "open", "commit"]
    assert channel.committed == [[flow.cookie for flow in adds]]


@pytest.mark.parametrize("number", [3, BATCH + 1], ids=["sent early", "sent later"])
def test_a_refused_flow_is_named_and_nothing_is_committed(number: int) -> None:
    channel, adds = Bundles(), flows(BATCH + 3)
    channel.refused = {adds[number].cookie}
    with pytest.raises(Refused) as raised, channel.switch.early() as early:
        early.add(adds)
        channel.switch.apply(adds, early=early)
    assert [*raised.value.reasons] == [adds[number]]
    assert channel.happened == ["open", "discard"] and not channel.committed and not channel.bundles


def test_a_change_that_does_not_come_leaves_no_bundle() -> None:
    channel = Bundles()
    with pytest.raises(ZeroDivisionError), channel.switch.early() as early:
        early.add(flows(BATCH))
        raise ZeroDivisionError
    assert channel.happened == ["open", "discard"] and not channel.committed


def test_of_few_flows_none_is_sent_early_and_one_needs_no_bundle() -> None:
    channel, adds = Bundles(), flows(1)
    with channel.switch.early() as early:
        early.add(adds)
        assert not channel.steps
        channel.switch.apply(adds, early=early)
    assert not channel.steps and channel.committed == [[1]]


def test_what_cannot_be_encoded_is_named_though_others_were_sent() -> None:
    channel, adds = Bundles(), flows(BATCH + 3)
    adds[1] = Flow(1, 1 << 17, Match(), (), cookie=99)
    with pytest.raises(Refused) as raised, channel.switch.early() as early:
        early.add(adds)
        channel.switch.apply(adds, early=early)
    assert [*raised.value.reasons] == [adds[1]] and not channel.committed
