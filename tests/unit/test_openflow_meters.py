# SPDX-License-Identifier: Apache-2.0
"""Messages about meters, compared with os-ken's, and what the switch says about its meters."""

from __future__ import annotations

from struct import pack
from typing import Any

import pytest
from os_ken.ofproto import ofproto_v1_4 as ofp
from os_ken.ofproto import ofproto_v1_4_parser as parser

from flows.meters import MeterSpec
from sgctl.openflow import meters
from sgctl.openflow.messages import MULTIPART_REPLY, message
from sgctl.openflow.meters import Change
from tests.unit.test_openflow_messages import OSKEN, serialized

FLAGS = ofp.OFPMF_PKTPS | ofp.OFPMF_BURST | ofp.OFPMF_STATS
SPEC = MeterSpec(261119, 5000, 10000)


def osken_mod(command: int, flags: int, bands: list[Any]) -> Any:
    return parser.OFPMeterMod(OSKEN, command, flags, SPEC.number, bands)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            meters.meter_mod(Change.ADD, SPEC, 7),
            osken_mod(ofp.OFPMC_ADD, FLAGS, [parser.OFPMeterBandDrop(5000, 10000)]),
        ),
        (
            meters.meter_mod(Change.MODIFY, SPEC, 7),
            osken_mod(ofp.OFPMC_MODIFY, FLAGS, [parser.OFPMeterBandDrop(5000, 10000)]),
        ),
        (meters.meter_mod(Change.DELETE, SPEC, 7), osken_mod(ofp.OFPMC_DELETE, 0, [])),
        (meters.config_request(7), parser.OFPMeterConfigStatsRequest(OSKEN, 0, ofp.OFPM_ALL)),
        (meters.stats_request(7), parser.OFPMeterStatsRequest(OSKEN, 0, ofp.OFPM_ALL)),
        (meters.features_request(7), parser.OFPMeterFeaturesStatsRequest(OSKEN, 0)),
    ],
)
def test_messages_are_osken_s(ours: bytes, theirs: Any) -> None:
    assert ours == serialized(theirs)


def reply(kind: int, *entries: bytes) -> bytes:
    body = pack("!HH4x", kind, 0) + b"".join(entries)
    return message(MULTIPART_REPLY, 7, body)


def band(kind: int, rate: int, burst: int) -> bytes:
    return pack("!HHII4x", kind, 16, rate, burst)


def test_meters_that_are_not_of_our_form_equal_none_of_ours() -> None:
    ours = pack("!HHI", 24, FLAGS, 4) + band(1, 10, 20)
    kilobits = pack("!HHI", 24, ofp.OFPMF_KBPS | ofp.OFPMF_BURST | ofp.OFPMF_STATS, 5) + band(1, 10, 20)
    remarks = pack("!HHI", 24, FLAGS, 6) + band(2, 10, 20)
    two = pack("!HHI", 40, FLAGS, 7) + band(1, 10, 20) * 2
    found = list(meters.configured([reply(10, ours, kilobits), reply(10, remarks, two)]))
    assert [one.number for one in found] == [4, 5, 6, 7]
    assert found[0] == MeterSpec(4, 10, 20)
    assert [one.rate for one in found[1:]] == [0, 0, 0]


def test_drops_are_those_of_all_bands() -> None:
    one = pack("!IH6xIQQII", 4, 56, 1, 1000, 64000, 5, 0) + pack("!QQ", 9, 576)
    other = pack("!IH6xIQQII", 8, 72, 1, 1000, 64000, 5, 0) + pack("!QQQQ", 1, 64, 2, 128)
    assert meters.dropped([reply(9, one), reply(9, other)]) == {4: 9, 8: 3}


@pytest.mark.parametrize(
    ("bands", "capabilities", "expected"),
    [(1 << 1, FLAGS, 262144), (0, FLAGS, 0), (1 << 1, ofp.OFPMF_KBPS, 0)],
)
def test_capacity(bands: int, capabilities: int, expected: int) -> None:
    assert meters.capacity(reply(11, pack("!IIIBB2x", 262144, bands, capabilities, 8, 0))) == expected


def test_entries_without_a_size_are_refused() -> None:
    with pytest.raises(ValueError, match="of 0 bytes"):
        list(meters.configured([reply(10, bytes(8))]))
    with pytest.raises(ValueError, match="of 0 bytes"):
        meters.dropped([reply(9, bytes(40))])
