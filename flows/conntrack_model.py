# SPDX-License-Identifier: Apache-2.0
"""Conntrack as OVS's userspace datapath does it, as far as verdicts depend on it.

It knows connections by zone and tuple, their marks and labels, and moves them through the states of lib/conntrack-*.c.
It has no clock (nothing times out) and trusts TCP's sequence numbers (no packet is out of its window).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from flows import conversation, frames
from flows.conversation import Conversation, Tuple
from flows.fields import CT_STATES

NEW, EST, REL, RPL, INV, TRK = (CT_STATES[name] for name in ("new", "est", "rel", "rpl", "inv", "trk"))
_SYN, _ACK, _FIN, _RST = (frames.TCP_FLAGS[letter] for letter in "SAFR")


class Write(NamedTuple):
    """Bits to write into a mark or label; an empty mask writes nothing."""

    value: int = 0
    mask: int = 0

    def into(self, old: int) -> int:
        """The old value with these bits written."""
        return old & ~self.mask | self.value


class Found(NamedTuple):
    """What conntrack says of one packet: state bits, the connection's mark and label, its original direction."""

    state: int
    mark: int = 0
    label: int = 0
    original: Tuple | None = None


class TcpState(IntEnum):
    """States of one end of a TCP connection, in the order that conntrack compares them."""

    CLOSED = 0
    SYN_SENT = 2
    ESTABLISHED = 4
    CLOSING = 7
    FIN_WAIT_2 = 9
    TIME_WAIT = 10


@dataclass(slots=True)
class Connection:
    """One connection: its original direction, mark and label; a reply was seen or not; the states of TCP's two ends."""

    zone: int
    original: Tuple
    mark: int = 0
    label: int = 0
    replied: bool = False
    ends: list[TcpState] = field(default_factory=lambda: [TcpState.SYN_SENT, TcpState.CLOSED])

    @property
    def is_closed(self) -> bool:
        """True for a TCP connection that both ends have closed."""
        return min(self.ends) >= TcpState.FIN_WAIT_2

    def see(self, talk: Conversation, *, reply: bool) -> int:
        """Take note of one packet (no error) of this connection; its state bits."""
        if talk.tuple.proto == frames.TCP:
            return self._see_tcp(talk.flags, reply=reply)
        self.replied = self.replied or reply
        return (EST if self.replied else NEW) | (RPL if reply else 0)

    def _see_tcp(self, flags: int, *, reply: bool) -> int:
        if conversation.tcp_is_odd(flags):
            return INV
        sender, receiver = (1, 0) if reply else (0, 1)
        if flags & (_SYN | _ACK) == _SYN and self.ends[sender] <= TcpState.SYN_SENT:
            self.ends[sender] = TcpState.SYN_SENT
            return NEW
        self.replied = self.replied or reply
        self._move(flags, sender, receiver)
        return EST | (RPL if reply else 0)

    def _move(self, flags: int, sender: int, receiver: int) -> None:
        ends = self.ends
        ends[sender] = max(ends[sender], TcpState.SYN_SENT)
        if flags & _FIN:
            ends[sender] = max(ends[sender], TcpState.CLOSING)
        if flags & _ACK and ends[receiver] == TcpState.SYN_SENT:
            ends[receiver] = TcpState.ESTABLISHED
        elif flags & _ACK and ends[receiver] == TcpState.CLOSING:
            ends[receiver] = TcpState.FIN_WAIT_2
        if flags & _RST:
            ends[:] = [TcpState.TIME_WAIT, TcpState.TIME_WAIT]


class Conntrack:
    """The connections of one switch."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, Tuple], Connection] = {}

    def __len__(self) -> int:
        return len(self.connections)

    @property
    def connections(self) -> list[Connection]:
        """All connections, each once."""
        return [one for (_, way), one in self._known.items() if way == one.original]

    def forget(self) -> None:
        """Forget all connections."""
        self._known.clear()

    def remove(self, connection: Connection) -> None:
        """Forget one connection."""
        for way in (connection.original, connection.original.reversed()):
            self._known.pop((connection.zone, way), None)

    def add(self, connection: Connection) -> None:
        """Know a connection, in place of one with the same tuple."""
        for way in (connection.original, connection.original.reversed()):
            self._known.setdefault((connection.zone, way), connection)

    def find(self, zone: int, way: Tuple) -> Connection | None:
        """The connection with this tuple in either direction."""
        return self._known.get((zone, way))

    def admit(self, zone: int, original: Tuple, mark: int, label: int = 0) -> Connection:
        """Know a connection that was accepted and answered."""
        ends = [TcpState.ESTABLISHED, TcpState.ESTABLISHED]
        connection = Connection(zone, original, mark, label, replied=True, ends=ends)
        self.add(connection)
        return connection

    def track(
        self, zone: int, talk: Conversation | None, *, commit: bool, mark: Write = Write(), label: Write = Write()  # noqa: B008
    ) -> Found:
        """Look one packet up (None: unreadable), and with `commit` remember its connection with what is written."""
        if talk is None:
            return Found(TRK | INV)
        connection = self.find(zone, talk.tuple)
        if connection is not None and self._reopens(connection, talk):
            self.remove(connection)
            connection = None
        if connection is None:
            state = NEW if talk.starts else INV
            if not (commit and talk.starts):
                return Found(TRK | state, original=talk.tuple)
            connection = Connection(zone, talk.tuple)
            self.add(connection)
        else:
            state = self._state(connection, talk)
        connection.mark = mark.into(connection.mark)
        connection.label = label.into(connection.label)
        return Found(TRK | state, connection.mark, connection.label, connection.original)

    @staticmethod
    def _reopens(connection: Connection, talk: Conversation) -> bool:
        opens = talk.tuple.proto == frames.TCP and talk.flags & (_SYN | _ACK) == _SYN and talk.starts
        return opens and not talk.error and connection.is_closed

    @staticmethod
    def _state(connection: Connection, talk: Conversation) -> int:
        reply = talk.tuple != connection.original
        if talk.error:
            return REL | (RPL if reply else 0)
        return connection.see(talk, reply=reply)
