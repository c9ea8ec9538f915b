# SPDX-License-Identifier: Apache-2.0
"""What the switch answers, taken out of the bytes: only the parts that are needed.

Matches and actions of flow statistics are not decoded: the cookie says what a flow is, and 100,000 flows are read in
a fifth of a second instead of three.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct, unpack_from
from typing import NamedTuple

from os_ken.ofproto import ofproto_v1_4

MULTIPART_HEAD = 16
_MORE = 1
_EXPERIMENTER = 0xFFFF
_ENTRY = Struct("!HB9xH10xQQQ")
_TABLE = Struct("!B3xI16x")
_PORT_RECEIVED = Struct("!16xQ")


class Installed(NamedTuple):
    """A flow that is in the switch. packets, bytes: what it has seen, up to half a second ago."""

    cookie: int
    table: int
    priority: int
    packets: int
    bytes: int


def flow_entries(replies: Iterable[bytes]) -> Iterator[Installed]:
    """The flows of multipart replies."""
    unpack = _ENTRY.unpack_from
    for data in replies:
        offset, end = MULTIPART_HEAD, len(data)
        while offset < end:
            size, table, priority, cookie, packets, octets = unpack(data, offset)
            if size < _ENTRY.size:
                raise ValueError(f"flow statistics of {size} bytes")
            yield Installed(cookie, table, priority, packets, octets)
            offset += size


def table_counts(replies: Iterable[bytes]) -> dict[int, int]:
    """The number of flows of each table that has any."""
    tables = (one for data in replies for one in _TABLE.iter_unpack(data[MULTIPART_HEAD:]))
    return {table: count for table, count in tables if count}


def received(replies: Iterable[bytes]) -> int:
    """The number of frames that a port has received."""
    return sum(_PORT_RECEIVED.unpack_from(one, MULTIPART_HEAD)[0] for one in replies if len(one) > MULTIPART_HEAD)


def more_follows(multipart: bytes) -> bool:
    """True if this multipart reply is not the last part."""
    return bool(unpack_from("!H", multipart, 10)[0] & _MORE)


def config_flags(reply: bytes) -> int:
    """The flags of a GET_CONFIG reply."""
    return int(unpack_from("!H", reply, 8)[0])


def error_text(error: bytes) -> str:
    """An error message in words, with the standard's name where it has one."""
    kind, code = unpack_from("!HH", error, 8)
    if kind == _EXPERIMENTER and len(error) >= MULTIPART_HEAD:
        return f"experimenter {unpack_from('!I', error, 12)[0]:#x} error {code}"
    return f"{ofproto_v1_4.ofp_error_type_to_str(kind)} {ofproto_v1_4.ofp_error_code_to_str(kind, code)}"
