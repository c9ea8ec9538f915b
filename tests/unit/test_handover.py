# SPDX-License-Identifier: Apache-2.0
"""Connections on their way between hypervisors: what is taken along, for how long, and in which form."""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from pathlib import Path

import pytest

from flows import fields as f
from flows.extract import read
from flows.fields import ICMP_TYPE, ICMPV6_TYPE
from sgctl import handover
from sgctl.handover import (
    BOOT,
    SCTP,
    Carried,
    Entry,
    carried,
    endings,
    known,
    pack,
    remade,
    steady,
    unpack,
    unsettled,
    without_local,
)
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


def test_a_dump_of_another_datapath_is_read() -> None:
    """Linux may count packets; and the order of what comes last, and what else there is, is Open vSwitch's own."""
    text = (
        "tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1000,dport=80,packets=3,bytes=180),"
        "reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,dport=1000,packets=2,bytes=120),"
        "zone=1,status=SEEN_REPLY|CONFIRMED,labels=0x700000009,mark=0x3,timeout=86399,protoinfo=(state=ESTABLISHED)\n"
        "nonsense\n"
    )
    assert list(parse(text, None)) == entries("10.0.0.2")[:1]


def test_only_what_the_nic_has_accepted_is_its_own() -> None:
    client = list(carried(entries("10.0.0.1"), {"10.0.0.1"}, NOW))
    assert client == [
        Carried(6, "10.0.0.1", "10.0.0.2", 1000, 80, True, 9, 87399),
        Carried(47, "10.0.0.1", "10.0.0.2", 0, 0, True, 0, 1059),
        Carried(SCTP, "10.0.0.1", "10.0.0.2", 0, 0, True, 0, 1059),
    ]
    server = list(carried(entries("10.0.0.2", finished=False), {"10.0.0.2"}, NOW))
    assert server == [
        Carried(6, "10.0.0.2", "10.0.0.1", 80, 1000, False, 7, 87399),
        Carried(SCTP, "10.0.0.2", "10.0.0.1", 0, 0, False, 0, 1059),
    ]


def test_both_ends_of_a_pair_may_move() -> None:
    both = carried(entries("10.0.0.1"), {"10.0.0.1", "10.0.0.2"}, NOW)
    assert [(one.own, one.opened) for one in both if one.proto == 6] == [("10.0.0.1", True), ("10.0.0.2", False)]


TCP_DUMP = """\
tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1000,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,dport=1000),\
zone=1,timeout={left},mark=2,protoinfo=(state={state})
"""


@pytest.mark.parametrize(
    ("state", "left", "expires"), [("ESTABLISHED", 86399, 87399), ("ESTABLISHED", 29, 50000), ("TIME_WAIT", 29, None)]
)
def test_conntrack_knows_better_what_it_remembers_as_long_or_what_is_over(
    state: str, left: int, expires: int | None
) -> None:
    """One packet and its answer are, in the middle of a TCP connection, not enough to remember it for longer than 30 s:
    so what was brought along still counts, here and wherever the NIC goes next."""
    brought = Carried(6, "10.0.0.2", "10.0.0.1", 80, 1000, False, 7, 50000)
    other = brought._replace(peer="10.0.0.8")
    tracked = list(parse(TCP_DUMP.format(state=state, left=left), {"10.0.0.2"}, finished=True))
    stands = expires == brought.expires
    assert unsettled([brought, other], tracked, {"10.0.0.2"}, NOW) == ([brought, other] if stands else [other])
    found = known(tracked, {"10.0.0.2"}, [brought, other], NOW)
    assert [(one.peer, one.expires) for one in found] == [
        *([("10.0.0.1", expires)] if expires else []), ("10.0.0.8", 50000),
    ]  # fmt: skip


def test_the_form_in_the_database() -> None:
    found = list(carried(entries("10.0.0.1", "fd00::1"), {"10.0.0.1", "fd00::1"}, NOW))
    assert unpack(pack(found, NOW)).connections == found
    assert pack([], NOW) == ""
    assert unpack("").connections == []
    for text in ("x", "eJw=", "4pya"):
        with pytest.raises(ValueError, match=r".+"):
            unpack(text)


@pytest.mark.parametrize("yes", [1, True])
def test_the_form_is_also_that_of_the_release_before(yes: object) -> None:
    """It wrote 1 for a connection that the VM had opened, and takes whatever is true for it."""
    rows = [[6, "10.0.0.1", "10.0.0.2", 1, 2, yes, 9, 2000], [132, "10.0.0.1", "10.0.0.2", 0, 0, not yes, 9, 2000]]
    text = b64encode(zlib.compress(json.dumps([BOOT, NOW, rows]).encode())).decode()
    found = unpack(text).connections
    assert [repr(one.opened) for one in found] == ["True", "False"]
    assert found[1].ticket == Carried(132, "10.0.0.1", "10.0.0.2", 0, 0, False, 9, 2000).ticket
    assert json.loads(zlib.decompress(b64decode(pack(found, NOW)))) == [BOOT, NOW, rows]


def test_what_a_release_before_that_wrote_cannot_be_read() -> None:
    text = b64encode(zlib.compress(json.dumps([[6, "10.0.0.1", "10.0.0.2", 1, 2, 1, 9, 2000]] * 3).encode())).decode()
    with pytest.raises(ValueError, match=r".+"):
        unpack(text)


@pytest.mark.parametrize("here", [0.7, 1000.2, 1e6])
def test_clocks_need_not_agree(here: float) -> None:
    """What had 60 s left when it was written has 60 s left when it is read, or 59, and less if it is old."""
    said = unpack(pack([Carried(17, "10.0.0.1", "10.0.0.2", 1, 2, True, 0, 1060)], NOW))
    (fresh,), (old,) = said.arrived(here, 0), said.arrived(here, 45)
    assert 59 < fresh.expires - here <= 60
    assert 14 < old.expires - here <= 15


def test_what_this_machine_has_written_counts_until_it_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Carried(17, "10.0.0.1", "10.0.0.2", 1, 2, True, 0, 1060)]
    said = unpack(pack(found, NOW))
    assert said.boot == BOOT
    assert said.resumed() == found
    monkeypatch.setattr(handover, "BOOT", "another")
    assert said.resumed() == []


def test_what_has_hardly_changed_stays_as_it_was() -> None:
    before = Carried(6, "10.0.0.1", "10.0.0.2", 1, 2, True, 9, 50000)
    soon, late = (before._replace(expires=end) for end in (50010, 90000))
    assert steady([soon], [before], NOW) == [before]
    assert steady([late], [before], NOW) == [late]
    assert steady([before], [soon], NOW) == [before]
    less = before._replace(expires=49999)
    assert steady([less], [before], NOW) == [less]
    assert steady([less], [before], NOW, slack=1) == [before]


def test_nothing_outlives_its_entry() -> None:
    found = [Carried(17, "10.0.0.1", "10.0.0.2", 1, port, True, 0, 1000 + port) for port in range(20)]
    parts = endings(found, 1010)
    assert all(one.expires <= until for until, some in parts.items() for one in some.connections)
    assert sorted(one.expires for some in parts.values() for one in some.connections) == list(range(1011, 1020))
    assert [(one.expires, one.expires <= until) for until, some in parts.items() for one in some.pieces] == [
        (1019, True)
    ]


def test_later_fragments_are_expected_of_each_peer_until_its_last_connection_ends() -> None:
    one = Carried(17, "10.0.0.1", "10.0.0.2", 1, 2, True, 9, 1060)
    found = [one, one._replace(own_port=3, rule=4, expires=1030), one._replace(peer="10.0.0.3", expires=1020)]
    pieces = [piece for some in endings(found, NOW).values() for piece in some.pieces]
    assert sorted((str(piece.peer), piece.rule, piece.expires) for piece in pieces) == [
        ("10.0.0.2", 4, 1060), ("10.0.0.3", 9, 1020),
    ]  # fmt: skip


def test_of_many_peers_later_fragments_are_expected_at_once() -> None:
    one = Carried(17, "10.0.0.1", "10.0.0.2", 1, 2, True, 9, 1060)
    crowd = [one._replace(peer=f"10.0.1.{number}", rule=number + 3, expires=1001 + number) for number in range(200)]
    other = one._replace(own="10.0.0.3")
    pieces = [piece for some in endings([*crowd, other], NOW).values() for piece in some.pieces]
    assert sorted((str(piece.own), str(piece.peer), piece.rule, piece.expires) for piece in pieces) == [
        ("10.0.0.1", "None", 3, 1200), ("10.0.0.3", "10.0.0.2", 9, 1060),
    ]  # fmt: skip


FOUR = Carried(1, "10.0.0.1", "10.0.0.2", 77, 8 << 8, True, 5, 2000)
SIX = Carried(58, "fd00::2", "fd00::1", 78, 128 << 8, False, 5, 2000)
STREAM = Carried(SCTP, "10.0.0.1", "10.0.0.2", 0, 0, True, 5, 2000)


def test_what_no_flow_can_name_gets_an_entry_that_means_nothing_without_its_ticket() -> None:
    for one, kind, label in ((FOUR, (ICMP_TYPE, 8), "0..31"), (SIX, (ICMPV6_TYPE, 128), "32..63"), (STREAM, None, "")):
        commit, frame = remade(one, 1)
        assert kind is None or read(frame).fields[kind[0]] == kind[1]
        assert {load.to for load in commit.execute} <= {f.LABEL_EGRESS, f.LABEL_INGRESS, *TICKETS}
        assert f"load:0x5->NXM_NX_CT_LABEL[{label}" in str(commit)
    (ending,) = endings([FOUR, STREAM], 1999).values()
    assert [(one.ticket, one.opened) for one in ending.connections] == [(FOUR.ticket, True), (STREAM.ticket, True)]
    assert ending.pieces == ()
    assert endings([FOUR, SIX, STREAM], 2000) == {}


TICKETS = (f.ORIGIN_TICKET, f.RESPONDER_TICKET)


def test_a_ticket_is_for_one_conversation() -> None:
    others = [FOUR._replace(own_port=78), FOUR._replace(peer="10.0.0.3"), FOUR._replace(opened=False), SIX, STREAM]
    assert len({one.ticket for one in (FOUR, *others)}) == 6
    assert FOUR._replace(expires=9, rule=1).ticket == FOUR.ticket
    assert FOUR._replace(proto=17).ticket == 0


def test_what_is_left_behind() -> None:
    """Not what a VM that stays is the other end of, and not what the NIC has never accepted."""
    left = without_local(entries("10.0.0.1"), {"10.0.0.1"}, set())
    assert [one.proto for one in left] == [6, 47, 132]
    assert without_local(entries("10.0.0.1"), {"10.0.0.1"}, {"10.0.0.2"}) == []


def test_a_control_socket_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "ovs-vswitchd.pid").write_text("1\n")
    with pytest.raises(SwitchGone, match=f"no control socket of ovs-vswitchd answers in {tmp_path} "):
        ConntrackReader(tmp_path, "br-int").entries(1, ["10.0.0.1"])
