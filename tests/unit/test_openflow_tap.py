# SPDX-License-Identifier: Apache-2.0
"""Messages that are ours never reach os-ken's parser, and an error in taking them reaches who decides about it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from os_ken.ofproto import ofproto_v1_4, ofproto_v1_4_parser

from sgctl.openflow import tap

VERSION, BARRIER_REPLY, XID = ofproto_v1_4.OFP_VERSION, ofproto_v1_4.OFPT_BARRIER_REPLY, 7
MESSAGE = bytearray(bytes((VERSION, BARRIER_REPLY, 0, 8, 0, 0, 0, XID)))


def connection() -> Any:
    return SimpleNamespace(ofproto=ofproto_v1_4, ofproto_parser=ofproto_v1_4_parser)


def parsed(datapath: Any) -> Any:
    return tap._parse(datapath, VERSION, BARRIER_REPLY, len(MESSAGE), XID, MESSAGE)


def test_what_nobody_waits_for_is_parsed_by_os_ken() -> None:
    datapath, seen = connection(), []
    tap.attach(datapath, lambda kind, xid, data: bool(seen.append((kind, xid, data))), seen.append)
    assert isinstance(parsed(datapath), ofproto_v1_4_parser.OFPBarrierReply)
    assert seen == [(BARRIER_REPLY, XID, bytes(MESSAGE))]
    assert isinstance(parsed(connection()), ofproto_v1_4_parser.OFPBarrierReply)


def test_what_somebody_waits_for_is_not() -> None:
    datapath = connection()
    tap.attach(datapath, lambda kind, xid, data: True, lambda error: None)
    assert parsed(datapath) is None


def test_an_error_of_the_receiver_is_told() -> None:
    datapath, errors = connection(), list[Exception]()
    tap.attach(datapath, lambda kind, xid, data: bool(1 / 0), errors.append)
    parsed(datapath)
    assert [type(error) for error in errors] == [ZeroDivisionError]
