# SPDX-License-Identifier: Apache-2.0
"""Meters as OpenFlow 1.4 bytes, sections 7.3.4.4 and 7.3.5.13 to 7.3.5.15 of the specification: METER_MOD, and what
the switch answers about its meters.

Open vSwitch does not take METER_MOD in bundles: meters come before the flows that use them, and go after.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from struct import Struct, pack, unpack_from

from flows.meters import MeterSpec
from sgctl.openflow.messages import MULTIPART_REQUEST, message
from sgctl.openflow.replies import MULTIPART_HEAD

METER_MOD = 29
ALL_METERS = 0xFFFFFFFF
_STATS, _CONFIG, _FEATURES = 9, 10, 11
_PACKETS_PER_SECOND, _BURST, _COUNTED = 2, 4, 8
_FLAGS = _PACKETS_PER_SECOND | _BURST | _COUNTED
_DROP = 1
_BAND = Struct("!HHII4x")
_CONFIG_HEAD = Struct("!HHI")
_STATS_HEAD = Struct("!IH")
_STATS_SIZE = 40
"""Bytes of a meter's statistics before those of its bands."""


class Change(IntEnum):
    """What is to become of a meter."""

    ADD = 0
    MODIFY = 1
    DELETE = 2


def meter_mod(change: Change, meter: MeterSpec, xid: int) -> bytes:
    """The METER_MOD that adds, modifies or deletes a meter."""
    if change is Change.DELETE:
        return message(METER_MOD, xid, pack("!HHI", change, 0, meter.number))
    band = _BAND.pack(_DROP, _BAND.size, meter.rate, meter.burst)
    return message(METER_MOD, xid, pack("!HHI", change, _FLAGS, meter.number) + band)


def config_request(xid: int) -> bytes:
    """Ask for all meters."""
    return message(MULTIPART_REQUEST, xid, pack("!HH4xI4x", _CONFIG, 0, ALL_METERS))


def stats_request(xid: int) -> bytes:
    """Ask for the statistics of all meters."""
    return message(MULTIPART_REQUEST, xid, pack("!HH4xI4x", _STATS, 0, ALL_METERS))


def features_request(xid: int) -> bytes:
    """Ask how many meters there may be."""
    return message(MULTIPART_REQUEST, xid, pack("!HH4x", _FEATURES, 0))


def configured(replies: Iterable[bytes]) -> Iterator[MeterSpec]:
    """The meters that a switch has. One that is not of our form has rate 0, and so equals none of ours."""
    for data in replies:
        offset = MULTIPART_HEAD
        while offset < len(data):
            size, flags, number = _CONFIG_HEAD.unpack_from(data, offset)
            if size < _CONFIG_HEAD.size:
                raise ValueError(f"meter configuration of {size} bytes")
            yield _meter(number, flags, data[offset + _CONFIG_HEAD.size : offset + size])
            offset += size


def _meter(number: int, flags: int, bands: bytes) -> MeterSpec:
    if flags & _FLAGS != _FLAGS or len(bands) != _BAND.size:
        return MeterSpec(number, 0, 0)
    kind, _, rate, burst = _BAND.unpack(bands)
    return MeterSpec(number, rate if kind == _DROP else 0, burst)


def dropped(replies: Iterable[bytes]) -> dict[int, int]:
    """How many packets each meter has dropped."""
    found = {}
    for data in replies:
        offset = MULTIPART_HEAD
        while offset < len(data):
            number, size = _STATS_HEAD.unpack_from(data, offset)
            if size < _STATS_SIZE:
                raise ValueError(f"meter statistics of {size} bytes")
            bands = range(offset + _STATS_SIZE, offset + size, 16)
            found[number] = sum(unpack_from("!Q", data, band)[0] for band in bands)
            offset += size
    return found


def capacity(reply: bytes) -> int:
    """How many meters a switch may have; 0 if it has none, or none that count packets."""
    most, kinds, capabilities = unpack_from("!III", reply, MULTIPART_HEAD)
    return most if kinds & 1 << _DROP and capabilities & _PACKETS_PER_SECOND else 0
