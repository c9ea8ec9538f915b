# SPDX-License-Identifier: Apache-2.0
"""Connections on their way between hypervisors: what is taken along, for how long, and in which form."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.extract import read
from flows.fields import ICMP_TYPE, ICMPV6_TYPE
from sgctl.handover import Carried, Entry, carried, echo, echoes, known, pack, spans, steady, unpack, without_local
from sgctl.openflow.conntrack import ConntrackReader, parse
from sgctl.openflow.errors import SwitchGone

DUMP = """\
tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1000,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,dport=1000),\
zone=1,timeout=86399,mark=3,labels=0x700000009,protoinfo=(state=ESTABLISHED)
tcp,orig=(src=10.0.0.9,dst=10.0.0.2,sport=1001,dport=80),reply=(src=10.0.0.2,dst=10.0.0.9,sport=80,dport=1001),\
zone=1,timeout=29,mark=2,protoinfo=(state=TIME_WAIT)
icmpv6,orig=(src=fd00::1,dst=fd00::2,id=78,type=128,code=0),reply=(src=fd00::2,dst=fd00::1,id=78,type=129,code=0),\
zone=1,timeout=59,mark=1
47,orig=(src=10.0.0.1,dst=10.0.0.2,sport=0,dport=0),reply=(src=10.0.0.2,dst=10.0.0.1,sport=0,dport=0),zone=1,\
timeout=59,mark=1
sctp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=0,dport=0),reply=(src=10.0.0.2,dst=10.0.0.1,sport=0,dport=0),zone=1,\
timeout=59,mark=3
udp,orig=(src=10.0.0.1,dst=10.0.0.20,sport=5,dport=6),reply=(src=10.0.0.20,dst=10.0.0.1,sport=6,dport=5),zone=1,timeout=9
"""
NOW = 1000.0


def entries(*addresses: str, finished: bool = True) -> list[Entry]:
    return list(parse(DUMP, addresses, finished=finished))


def test_a_dump_is_read() -> None:
    tcp, over = entries("10.0.0.2")[:2]
    assert tcp == Entry(
        proto=6, src="10.0.0.1", dst="10.0.0.2", sport=1000, dport=80, mark=3, label=0x700000009, left=86399
    )
    assert over.over
    assert over not in entries("10.0.0.2", finished=False)
    assert [one.proto for one in entries("10.0.0.1")] == [6, 47, 132, 17]
    assert [one.ident for one in entries("fd00::2")] == [78]


def test_only_what_the_nic_has_accepted_is_its_own() -> None:
    client = list(carried(entries("10.0.0.1"), {"10.0.0.1"}, NOW))
    assert client == [
        Carried(6, "10.0.0.1", "10.0.0.2", 1000, 80, True, 9, 87399),
        Carried(47, "10.0.0.1", "10.0.0.2", 0, 0, True, 0, 1059),
    ]
    server = list(carried(entries("10.0.0.2", finished=False), {"10.0.0.2"}, NOW))
    assert server == [Carried(6, "10.0.0.2", "10.0.0.1", 80, 1000, False, 7, 87399)]


def test_both_ends_of_a_pair_may_move() -> None:
    both = carried(entries("10.0.0.1"), {"10.0.0.1", "10.0.0.2"}, NOW)
    assert [(one.own, one.opened) for one in both if one.proto == 6] == [("10.0.0.1", True), ("10.0.0.2", False)]


def test_conntrack_knows_better_than_what_was_brought() -> None:
    old = Carried(6, "10.0.0.2", "10.0.0.1", 80, 1000, False, 7, 99999)
    over = Carried(6, "10.0.0.2", "10.0.0.9", 80, 1001, False, 7, 99999)
    unused = Carried(6, "10.0.0.2", "10.0.0.8", 80, 1002, False, 7, 99999)
    found = known(entries("10.0.0.2"), {"10.0.0.2"}, [old, over, unused], NOW)
    assert [(one.peer, one.expires) for one in found] == [("10.0.0.1", 87399), ("10.0.0.8", 99999)]


def test_the_form_in_the_database() -> None:
    found = list(carried(entries("10.0.0.1", "fd00::1"), {"10.0.0.1", "fd00::1"}, NOW))
    assert unpack(pack(found)) == found
    assert pack([]) == ""
    assert unpack("") == []
    for text in ("x", "eJw=", "4pya"):
        with pytest.raises(ValueError, match=r".+"):
            unpack(text)


def test_what_has_hardly_changed_stays_as_it_was() -> None:
    before = Carried(6, "10.0.0.1", "10.0.0.2", 1, 2, True, 9, 50000)
    soon, late = (Carried(6, "10.0.0.1", "10.0.0.2", 1, 2, True, 9, end) for end in (50010, 90000))
    assert steady([soon], [before], NOW) == [before]
    assert steady([late], [before], NOW) == [late]
    assert steady([before], [soon], NOW) == [before]


def test_nothing_outlives_its_entry() -> None:
    found = [Carried(17, "10.0.0.1", "10.0.0.2", 1, port, True, 0, 1000 + port) for port in range(20)]
    parts = spans(found, 1010)
    assert all(one.expires <= until for until, some in parts.items() for one in some)
    assert sorted(one.expires for some in parts.values() for one in some) == list(range(1011, 1020))


def test_icmp_entries_are_made_anew() -> None:
    four = Carried(1, "10.0.0.1", "10.0.0.2", 77, 8 << 8, True, 5, 2000)
    six = Carried(58, "fd00::2", "fd00::1", 78, 128 << 8, False, 5, 2000)
    assert echoes([four, six], 1999) == [four, six]
    assert echoes([four, six], 2000) == []
    assert spans([four, six], 0) == {}
    commit, frame = echo(four, 1)
    assert read(frame).fields[ICMP_TYPE] == 8
    assert "exec(load:0x1->NXM_NX_CT_MARK[0],load:0x5->NXM_NX_CT_LABEL[0..31])" in str(commit)
    commit, frame = echo(six, 1)
    assert read(frame).fields[ICMPV6_TYPE] == 128
    assert "NXM_NX_CT_MARK[1]" in str(commit)


def test_what_is_left_behind() -> None:
    """Not what a VM that stays is the other end of, and not what the NIC has never accepted."""
    left = without_local(entries("10.0.0.1"), {"10.0.0.1"}, set())
    assert [one.proto for one in left] == [6, 47, 132]
    assert without_local(entries("10.0.0.1"), {"10.0.0.1"}, {"10.0.0.2"}) == []


def test_a_control_socket_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "ovs-vswitchd.pid").write_text("1\n")
    with pytest.raises(SwitchGone, match=f"no control socket of ovs-vswitchd answers in {tmp_path} "):
        ConntrackReader(tmp_path, "br-int").entries(1, ["10.0.0.1"])
