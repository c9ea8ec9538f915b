# SPDX-License-Identifier: Apache-2.0
"""Waiting for answers: by xid, with a deadline, and never beyond the connection's end."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack, unpack_from

import pytest

from flows.fields import SRC_PORT
from flows.flow import Flow, Load, Match, Output
from sgctl.openflow import encode, messages
from sgctl.openflow.errors import Refused, SwitchError, SwitchGone
from sgctl.openflow.switch import Switch

ANSWERED = {
    messages.BARRIER_REQUEST: messages.BARRIER_REPLY,
    messages.BUNDLE_CONTROL: messages.BUNDLE_CONTROL,
    messages.GET_CONFIG_REQUEST: messages.GET_CONFIG_REPLY,
}
DROP = Flow(1, 2, Match(), ())
OTHER = Flow(2, 2, Match(), ())
GONE = messages.Tuple(src="10.1.0.11")


class Wire:
    """A connection whose other end answers at once, whatever `answer` says (None: nothing) to (type, xid)."""

    def __init__(self, *, first: int = 100) -> None:
        self.next = first
        self.sent: list[tuple[int, int]] = []
        self.pieces = 0
        self.steps: list[int] = []
        self.closed = False
        self.up = True
        self.answer: Callable[[int, int], bytes | None] = answer
        self.switch = Switch(self, bridge="br0", datapath_id=1, deadline=0.2)

    def reserve(self, count: int) -> int:
        first, self.next = self.next, (self.next + count) % 2**32
        return first

    def send(self, data: bytes) -> bool:
        self.pieces += 1
        while self.up and data:
            _version, kind, size, xid = unpack_from("!BBHI", data)
            self.sent.append((kind, xid))
            if kind == messages.BUNDLE_CONTROL:
                self.steps += unpack_from("!H", data, 12)
            reply = self.answer(kind, xid)
            if reply is not None:
                self.switch.receive(reply[1], xid, reply)
            data = data[size:]
        return self.up

    def close(self) -> None:
        self.closed = True


def answer(kind: int, xid: int) -> bytes | None:
    return messages.message(ANSWERED[kind], xid, pack("!HH", 3, 128)) if kind in ANSWERED else None


def refusal(xid: int) -> bytes:
    return messages.message(messages.ERROR, xid, pack("!HH", 4, 9))


def kinds(wire: Wire) -> list[int]:
    return [kind for kind, _xid in wire.sent]


def test_a_bundle_in_order() -> None:
    wire = Wire()
    wire.switch.apply([DROP], [(5, 1)])
    control, add, barrier = messages.BUNDLE_CONTROL, messages.BUNDLE_ADD, messages.BARRIER_REQUEST
    assert kinds(wire) == [control, add, add, barrier, control]
    assert len({xid for _kind, xid in wire.sent}) == 5


def test_what_is_done_meanwhile_comes_before_the_flows_are_in_force() -> None:
    wire = Wire()
    wire.switch.apply([DROP, OTHER], meanwhile=lambda: wire.switch.flush_connections(1, [GONE]))
    control, add, barrier = messages.BUNDLE_CONTROL, messages.BUNDLE_ADD, messages.BARRIER_REQUEST
    assert kinds(wire) == [control, add, add, barrier, messages.EXPERIMENTER, barrier, control]
    assert wire.steps == [messages.OPEN, messages.COMMIT]


def test_one_change_is_sent_alone() -> None:
    for change in (([DROP], []), ([], [(5, 1)])):
        wire = Wire()
        wire.switch.apply(*change, meanwhile=lambda wire=wire: wire.switch.flush_connections(1, [GONE]))
        mod, barrier = encode.FLOW_MOD, messages.BARRIER_REQUEST
        assert kinds(wire) == [messages.EXPERIMENTER, barrier, mod, barrier]


def test_one_change_that_is_refused_or_cannot_be_expressed() -> None:
    wire = Wire()
    wire.answer = lambda kind, xid: refusal(xid) if kind == encode.FLOW_MOD else answer(kind, xid)
    with pytest.raises(Refused, match="BAD_PREREQ") as raised:
        wire.switch.apply([DROP])
    assert raised.value.flows == (DROP,)
    with pytest.raises(SwitchError, match="BAD_PREREQ"):
        wire.switch.apply([], [(5, 1)])
    with pytest.raises(Refused, match="cannot be expressed"):
        wire.switch.apply([Flow(1, 2, Match(), (Output(-1),))])


def test_what_fails_meanwhile_discards_the_bundle() -> None:
    wire = Wire()

    def fail() -> None:
        raise SwitchError("cannot forget")

    with pytest.raises(SwitchError, match="cannot forget"):
        wire.switch.apply([DROP, OTHER], meanwhile=fail)
    assert wire.steps == [messages.OPEN, messages.DISCARD]


@pytest.mark.parametrize("first", [2**32 - 1, 2**32 - 3, 2**32 - 5])
def test_xids_wrap_around(first: int) -> None:
    wire = Wire(first=first)
    wire.switch.apply([DROP, DROP], [(5, 1)])
    assert not wire.closed


def test_a_refused_message_discards_the_bundle() -> None:
    wire = Wire()
    wire.answer = lambda kind, xid: refusal(xid) if (kind, xid) == (messages.BUNDLE_ADD, 101) else answer(kind, xid)
    with pytest.raises(Refused, match="BAD_PREREQ") as raised:
        wire.switch.apply([DROP, OTHER], [(5, 1)])
    assert raised.value.flows == (OTHER,)
    assert wire.steps == [messages.OPEN, messages.DISCARD]


def test_what_cannot_be_expressed_discards_the_bundle() -> None:
    wire = Wire()
    bad = [Flow(1, 2, Match(), (Output(-1),)), Flow(1, 3, Match(), (Output(1 << 40),))]
    with pytest.raises(Refused, match="1 more") as raised:
        wire.switch.apply([DROP, *bad])
    assert raised.value.flows == tuple(bad)
    assert kinds(wire).count(messages.BUNDLE_ADD) == 1
    assert wire.steps == [messages.OPEN, messages.DISCARD]


def test_what_was_taken_before_is_not_asked_about_again() -> None:
    wire = Wire()
    wire.switch.apply([DROP, OTHER])
    wire.sent.clear()
    wire.switch.apply([OTHER, DROP], [(5, 1)])
    assert kinds(wire) == [messages.BUNDLE_CONTROL, *[messages.BUNDLE_ADD] * 3, messages.BUNDLE_CONTROL]
    wire.switch.apply([OTHER, DROP, Flow(3, 2, Match(), ())])
    assert kinds(wire).count(messages.BARRIER_REQUEST) == 1


def test_what_was_taken_before_is_sent_in_one_piece() -> None:
    wire = Wire()
    wire.switch.apply([DROP, OTHER])
    wire.pieces = 0
    wire.switch.apply([OTHER, DROP], [(5, 1)])
    assert wire.pieces == 1
    wire.sent.clear()
    wire.switch.apply([OTHER, DROP], meanwhile=lambda: wire.switch.flush_connections(1, [GONE]))
    assert kinds(wire)[-2:] == [messages.BARRIER_REQUEST, messages.BUNDLE_CONTROL]


def test_what_cannot_be_expressed_discards_what_is_sent_in_one_piece() -> None:
    wire, bad = Wire(), Flow(1, 2, Match(), (Load(SRC_PORT, 1 << 70),))
    wire.switch.apply([Flow(1, 2, Match(), (Load(SRC_PORT, 5),)), DROP])
    wire.pieces, wire.steps = 0, []
    with pytest.raises(Refused, match="cannot be expressed"):
        wire.switch.apply([bad, DROP])
    assert wire.pieces == 1
    assert wire.steps == [messages.OPEN, messages.DISCARD]


@pytest.mark.parametrize("by", ["a refusal", "what cannot be expressed"])
def test_what_was_not_taken_is_asked_about_again(by: str) -> None:
    wire, bad = Wire(), Flow(1, 2, Match(), (Output(-1),))
    if by == "a refusal":
        wire.answer = lambda kind, xid: refusal(xid) if (kind, xid) == (messages.BUNDLE_ADD, 101) else answer(kind, xid)
    for _ in range(2):
        with pytest.raises(Refused):
            wire.switch.apply([DROP, OTHER] if by == "a refusal" else [DROP, bad])
        wire.next = 100
    assert kinds(wire).count(messages.BARRIER_REQUEST) == 2


def late(wire: Wire, control: Callable[[int], bytes]) -> Callable[[int, int], bytes | None]:
    """The switch complains of the second flow only when it is told to commit, and then says `control`."""

    def answered(kind: int, xid: int) -> bytes | None:
        if kind != messages.BUNDLE_CONTROL or wire.steps[-1] != messages.COMMIT:
            return answer(kind, xid)
        wire.switch.receive(messages.ERROR, wire.next - 4, refusal(wire.next - 4))
        return control(xid)

    return answered


def test_a_surprising_refusal_ends_the_connection_so_that_all_is_read_back() -> None:
    wire = Wire()
    wire.switch.apply([DROP, OTHER])
    wire.answer = late(wire, lambda xid: messages.message(messages.BUNDLE_CONTROL, xid, bytes(8)))
    with pytest.raises(SwitchGone, match=r"only a part of a change: .*BAD_PREREQ"):
        wire.switch.apply([DROP, OTHER])
    assert wire.closed


def test_a_commit_that_fails_has_changed_nothing() -> None:
    wire = Wire()
    wire.switch.apply([DROP, OTHER])
    wire.answer = late(wire, refusal)
    with pytest.raises(Refused) as raised:
        wire.switch.apply([DROP, OTHER])
    assert raised.value.flows == (OTHER,)
    assert not wire.closed


def test_a_refused_delete_or_control_is_an_error() -> None:
    wire = Wire()
    wire.answer = lambda kind, xid: refusal(xid) if kind == messages.BUNDLE_CONTROL else answer(kind, xid)
    with pytest.raises(SwitchError, match="refused a change"):
        wire.switch.apply([DROP, OTHER])


def test_silence_ends_the_connection() -> None:
    wire = Wire()
    wire.answer = lambda _kind, _xid: None
    with pytest.raises(SwitchGone, match="has not answered"):
        wire.switch.drain()
    assert wire.closed


def test_a_lost_connection_ends_the_wait() -> None:
    wire = Wire()

    def lose(_kind: int, _xid: int) -> None:
        wire.switch.gone()

    wire.answer = lose
    with pytest.raises(SwitchGone, match="was lost"):
        wire.switch.apply([DROP])
    assert not wire.switch.alive
    with pytest.raises(SwitchGone):
        wire.switch.drain()


def test_sending_on_a_dead_connection() -> None:
    wire = Wire()
    wire.up = False
    for call in (wire.switch.drain, wire.switch.installed, lambda: wire.switch.packet_out(1, b"")):
        with pytest.raises(SwitchGone):
            call()


def test_messages_of_others_are_not_taken() -> None:
    wire = Wire()
    assert not wire.switch.receive(messages.BARRIER_REPLY, 100, messages.message(messages.BARRIER_REPLY, 100))
    wire.switch.drain()
    assert not wire.switch.receive(messages.BARRIER_REPLY, 100, messages.message(messages.BARRIER_REPLY, 100))


def test_the_fragment_mode_is_asked_back() -> None:
    wire = Wire()
    wire.switch.set_fragment_mode()
    refused = messages.message(messages.GET_CONFIG_REPLY, 0, pack("!HH", 0, 128))
    wire.answer = lambda kind, _xid: refused if kind == messages.GET_CONFIG_REQUEST else None
    with pytest.raises(SwitchError, match="flags are 0x0"):
        wire.switch.set_fragment_mode()


def test_deletes_are_exact() -> None:
    assert encode.flow_delete(5, 1, 9)[8:24] == (5).to_bytes(8, "big") + b"\xff" * 8
