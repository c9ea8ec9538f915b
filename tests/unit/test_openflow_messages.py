# SPDX-License-Identifier: Apache-2.0
"""Messages as bytes, compared with os-ken's, and replies taken apart."""

from __future__ import annotations

from struct import pack
from typing import Any

import pytest
from os_ken.ofproto import ofproto_v1_4 as ofp
from os_ken.ofproto import ofproto_v1_4_parser as parser
from os_ken.ofproto.ofproto_protocol import ProtocolDesc

from flows.flow import Output
from sgctl.openflow import encode, messages, replies
from sgctl.openflow.messages import Tuple
from sgctl.openflow.replies import Installed

OSKEN = ProtocolDesc(ofp.OFP_VERSION)
BUNDLE = ofp.OFPBF_ATOMIC | ofp.OFPBF_ORDERED
NO_MATCH = parser.OFPMatch()


def serialized(message: Any) -> bytes:
    message.set_xid(7)
    message.serialize()
    return bytes(message.buf)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (messages.barrier(7), parser.OFPBarrierRequest(OSKEN)),
        (messages.get_config(7), parser.OFPGetConfigRequest(OSKEN)),
        (messages.set_fragments(7), parser.OFPSetConfig(OSKEN, 3, 128)),
        (
            messages.bundle_control(messages.OPEN, 9, 7),
            parser.OFPBundleCtrlMsg(OSKEN, 9, ofp.OFPBCT_OPEN_REQUEST, BUNDLE, []),
        ),
        (
            messages.bundle_control(messages.COMMIT, 9, 7),
            parser.OFPBundleCtrlMsg(OSKEN, 9, ofp.OFPBCT_COMMIT_REQUEST, BUNDLE, []),
        ),
        (
            messages.bundle_control(messages.DISCARD, 9, 7),
            parser.OFPBundleCtrlMsg(OSKEN, 9, ofp.OFPBCT_DISCARD_REQUEST, BUNDLE, []),
        ),
        (
            messages.bundle_add(9, messages.barrier(7)),
            parser.OFPBundleAddMsg(OSKEN, 9, BUNDLE, parser.OFPBarrierRequest(OSKEN), []),
        ),
        (
            messages.flow_stats(7, cookie=0x5C, mask=0xFF),
            parser.OFPFlowStatsRequest(
                OSKEN, 0, ofp.OFPTT_ALL, ofp.OFPP_ANY, ofp.OFPG_ANY, 0x5C, 0xFF, NO_MATCH
            ),
        ),
        (
            messages.packet_out(b"frame", [Output(3)], 7),
            parser.OFPPacketOut(
                OSKEN, ofp.OFP_NO_BUFFER, ofp.OFPP_CONTROLLER, [parser.OFPActionOutput(3, 0)], b"frame"
            ),
        ),
    ],
    ids=["barrier", "get config", "set config", "open", "commit", "discard", "add", "flow stats", "packet out"],
)  # fmt: skip
def test_a_message_is_osken_s(ours: bytes, theirs: Any) -> None:
    assert ours == serialized(theirs)


#: What ``ovs-ofctl ct-flush`` of Open vSwitch 3.1.0 sends, seen on the wire; os-ken does not know this message.
CT_FLUSHES = {
    Tuple(): "05040020 00000007 00002320 00000020 00000000 00000000 00020008 00050000",
    Tuple(src="10.0.0.1"): (
        "05040040 00000007 00002320 00000020 00000000 00000000 00000020 00000000 00000014 00000000 00000000 0000ffff"
        "0a000001 00000000 00020008 00050000"
    ),
    Tuple(dst="10.0.0.1", proto=6, sport=7, dport=80): (
        "05040050 00000007 00002320 00000020 06000000 00000000 00000030 00000000 00010014 00000000 00000000 0000ffff"
        "0a000001 00000000 00020008 00070000 00030008 00500000 00020008 00050000"
    ),
    Tuple(src="2001:db8::1"): (
        "05040040 00000007 00002320 00000020 00000000 00000000 00000020 00000000 00000014 20010db8 00000000 00000000"
        "00000001 00000000 00020008 00050000"
    ),
}


@pytest.mark.parametrize("original", CT_FLUSHES, ids=str)
def test_a_flush_is_ovs_ofctl_s(original: Tuple) -> None:
    assert messages.ct_flush(5, original, 7) == bytes.fromhex(CT_FLUSHES[original])


def test_chunks_are_whole_messages() -> None:
    many = [messages.barrier(number) for number in range(20_000)]
    chunks = list(messages.chunks(many))
    assert b"".join(chunks) == b"".join(many)
    assert all(len(chunk) % 8 == 0 and len(chunk) <= messages.CHUNK + 8 for chunk in chunks)
    assert len(chunks) == 3
    assert list(messages.chunks([])) == []


def entry(cookie: int, rest: bytes) -> bytes:
    fixed = pack("!HBxIIHHHHH2xQQQ", 48 + len(rest), 10, 1, 2, 100, 3, 4, 5, 6, cookie, 8, 9)
    return fixed + rest


def multipart(flags: int, body: bytes) -> bytes:
    return messages.message(messages.MULTIPART_REPLY, 7, pack("!HH4x", messages.FLOW_STATS, flags) + body)


def test_flow_statistics_are_read_over_matches_and_instructions() -> None:
    first = multipart(1, entry(1, encode.match(encode.Match())) + entry(2, bytes(120)))
    last = multipart(0, entry(2**64 - 1, bytes(8)))
    assert [replies.more_follows(part) for part in (first, last)] == [True, False]
    assert list(replies.flow_entries([first, last])) == [
        Installed(cookie, 10, 100, 8, 9) for cookie in (1, 2, 2**64 - 1)
    ]


def test_flow_statistics_without_a_length_do_not_hang() -> None:
    with pytest.raises(ValueError, match="0 bytes"):
        list(replies.flow_entries([multipart(0, bytes(64))]))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (pack("!HH", 4, 9), "OFPET_BAD_MATCH(4) OFPBMC_BAD_PREREQ(9)"),
        (pack("!HHI", 0xFFFF, 12, 0x2320), "experimenter 0x2320 error 12"),
        (pack("!HH", 99, 98), "Unknown"),
    ],
)
def test_errors_have_names(body: bytes, text: str) -> None:
    assert text in replies.error_text(messages.message(messages.ERROR, 7, body))
