# SPDX-License-Identifier: Apache-2.0
"""Takes the switch's answers to our own requests off an os-ken connection before os-ken decodes them.

os-ken lets an application register the parser of a protocol version.  Ours asks the connection whether somebody on it
waits for this very message (by its xid) and hands the bytes over; everything else, and every connection without such a
receiver, goes to os-ken's own parser.  So other applications of the process see what they always see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from os_ken.ofproto import ofproto_parser, ofproto_v1_4, ofproto_v1_4_parser

Receiver: TypeAlias = Callable[[int, int, bytes], bool]
Fault: TypeAlias = Callable[[Exception], None]
_ATTRIBUTE = "sgctl_receiver"


def install() -> None:
    """Register the parser with os-ken; doing it again changes nothing."""
    ofproto_parser.register_msg_parser(ofproto_v1_4.OFP_VERSION)(_parse)


def attach(datapath: Any, receiver: Receiver, on_error: Fault) -> None:
    """Offer all further messages of a connection to `receiver(type, xid, bytes)` first; it must not block.

    Its errors go to `on_error`: os-ken would log them, end the connection, and let the switch connect again, for ever.
    """
    setattr(datapath, _ATTRIBUTE, (receiver, on_error))


def _parse(datapath: Any, version: int, msg_type: int, msg_len: int, xid: int, buf: bytearray) -> Any:
    attached: tuple[Receiver, Fault] | None = getattr(datapath, _ATTRIBUTE, None)
    if attached is not None:
        receiver, on_error = attached
        try:
            if receiver(msg_type, xid, bytes(buf)):
                return None
        except Exception as error:  # noqa: BLE001 - not swallowed: it goes to who decides
            on_error(error)
    return ofproto_v1_4_parser.msg_parser(datapath, version, msg_type, msg_len, xid, buf)


class DatapathChannel:
    """An os-ken Datapath as a `sgctl.openflow.conversation.Channel`."""

    def __init__(self, datapath: Any) -> None:
        self._datapath = datapath

    def reserve(self, count: int) -> int:
        """The first of `count` xids out of the connection's own count, which os-ken and other applications share."""
        datapath = self._datapath
        first = (datapath.xid + 1) & datapath.ofproto.MAX_XID
        datapath.xid = (datapath.xid + count) & datapath.ofproto.MAX_XID
        return int(first)

    def send(self, data: bytes) -> bool:
        """Queue whole messages; waits while the queue (16 pieces) is full."""
        return bool(self._datapath.send(data))

    def close(self) -> None:
        """End the connection."""
        self._datapath.close()
