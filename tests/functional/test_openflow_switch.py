# SPDX-License-Identifier: Apache-2.0
"""`Switch` over os-ken against a real switch: what we send is what it holds, and what it holds is what we read."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from flows.fields import ETH_SRC, IN_PORT, IPV4_SRC, SRC_PORT
from flows.flow import Controller, Ct, Flow, Goto, Match, Meter, Output
from flows.meters import meters
from sgctl.openflow.messages import Tuple
from sgctl.openflow.meters import Change
from tests import openflow_flows
from tests.functional.openflow_remote import Failed, Remote
from tests.functional.vswitch_sandbox import Sandbox, eventually
from tests.openflow_flows import IPV4
from tests.unit import flow_world

pytestmark = pytest.mark.functional

ZONE = 7
UDP = "eth_type(0x0800),ipv4(src={src},dst={dst},proto=17,tos=0,ttl=64,frag=no),udp(src=1000,dst=53)"
FRAME = f"in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),{UDP}"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def connected(sandbox: Sandbox) -> Iterator[Remote]:
    with Remote(sandbox, "br0") as remote:
        sandbox.add_bridge("br0", "p1", "p2", controller=remote.target)
        assert remote.connected(1) == int(sandbox.vsctl("get", "Bridge", "br0", "datapath_id").strip('"'), 16)
        yield remote


@pytest.fixture
def switch(sandbox: Sandbox, connected: Remote) -> Remote:
    """The bridge without any flow."""
    sandbox.ofctl("del-flows", "br0")
    return connected


def drop(number: int, *, cookie: int, table: int = 10) -> Flow:
    return Flow(table, 100, Match.of(SRC_PORT.eq(number)), (), cookie=cookie)


def receive(sandbox: Sandbox, *pairs: str) -> None:
    """Let port p1 receive a UDP packet for each pair of addresses, to be decided by the flows as they are now.

    ``revalidator/wait`` would not do: it ends with a walk that may have begun before the flows changed last.
    """
    sandbox.appctl("revalidator/purge")
    for src, dst in map(str.split, pairs):
        sandbox.appctl("netdev-dummy/receive", "p1", FRAME.format(src=src, dst=dst))


def test_what_a_port_has_received_is_counted(sandbox: Sandbox, switch: Remote) -> None:
    before = switch.received(1)
    receive(sandbox, "10.0.0.1 10.0.0.2", "10.0.0.1 10.0.0.3")
    eventually(lambda: switch.received(1) == before + 2)
    assert switch.received(77) == 0


def cookies(switch: Remote) -> set[int]:
    return set(switch.installed())


@pytest.mark.parametrize("flows", [openflow_flows.every(), flow_world.flows_of()], ids=["every action", "pipeline"])
def test_the_switch_holds_what_the_flows_say(sandbox: Sandbox, switch: Remote, flows: tuple[Flow, ...]) -> None:
    flows = tuple(replace(flow, cookie=0x5C << 56 | number, expires=0) for number, flow in enumerate(flows))
    wanted = [spec for unit in flow_world.UNITS for spec in meters(unit, flow_world.BRIDGE)]
    assert switch.change_meters([(Change.ADD, spec) for spec in wanted if spec.number not in switch.meters()]) == {}
    switch.apply(flows)
    said = sandbox.directory / "said.flows"
    said.write_text("".join(f"cookie={flow.cookie:#x},{flow}\n" for flow in flows))
    assert sandbox.differences("br0", said) == []
    assert {(one.cookie, one.table, one.priority) for one in switch.flows()} == {
        (flow.cookie, flow.table, flow.priority) for flow in flows
    }


def test_a_bundle_adds_replaces_and_deletes(switch: Remote) -> None:
    switch.apply([drop(1, cookie=0x11), drop(2, cookie=0x12), drop(3, cookie=0x13)])
    switch.apply([drop(2, cookie=0x22), drop(4, cookie=0x24)], [(0x12, 10), (0x13, 10)])
    assert cookies(switch) == {0x11, 0x22, 0x24}


def test_a_delete_concerns_one_cookie_in_one_table(sandbox: Sandbox, switch: Remote) -> None:
    sandbox.ofctl("add-flow", "br0", "table=10,priority=7,actions=drop")
    switch.apply([drop(1, cookie=0x11), drop(1, cookie=0x11, table=20), drop(2, cookie=0x1100000011)])
    switch.apply([], [(0x11, 10), (0x99, 10)])
    assert {(one.cookie, one.table) for one in switch.flows()} == {(0, 10), (0x11, 20), (0x1100000011, 10)}
    assert [one.cookie for one in switch.flows(cookie=0x11 << 32, mask=0xFF << 32)] == [0x1100000011]


def test_nothing_to_do_sends_nothing(switch: Remote) -> None:
    switch.apply([], [])
    assert cookies(switch) == set()


NO_PREREQUISITE = Flow(10, 1, Match.of(IPV4_SRC.eq(1)), (), cookie=0x99)
BACKWARDS = Flow(10, 2, Match(), (Goto(5),), cookie=0x98)
INEXPRESSIBLE = Flow(10, 3, Match(), (Output(-1),), cookie=0x97)


@pytest.mark.parametrize("bad", [NO_PREREQUISITE, BACKWARDS, INEXPRESSIBLE], ids=["match", "goto", "port"])
def test_a_refused_flow_is_named_and_nothing_is_changed(switch: Remote, bad: Flow) -> None:
    switch.apply([drop(1, cookie=0x11)])
    with pytest.raises(Failed) as raised:
        switch.apply([drop(1, cookie=0x21), bad, drop(2, cookie=0x22)], [(0x11, 10)])
    assert raised.value.name == "Refused"
    assert [flow.cookie for flow in raised.value.reasons] == [bad.cookie]
    assert cookies(switch) == {0x11}
    switch.apply([drop(2, cookie=0x22)], [(0x11, 10)])
    assert cookies(switch) == {0x22}


def test_a_full_table_refuses_all_of_what_it_has_taken_the_like_of(sandbox: Sandbox, switch: Remote) -> None:
    switch.apply([drop(1, cookie=0x11), drop(2, cookie=0x12)])
    full = sandbox.vsctl(
        "--id=@full", "create", "Flow_Table", "flow_limit=3", "overflow_policy=refuse", "--",
        "set", "Bridge", "br0", "flow_tables:10=@full",
    ).strip()  # fmt: skip
    try:
        with pytest.raises(Failed) as raised:
            switch.apply([drop(number, cookie=number) for number in (3, 4, 5)], [(0x11, 10)])
        assert raised.value.name == "Refused"
        assert cookies(switch) == {0x11, 0x12}
    finally:
        sandbox.vsctl("clear", "Bridge", "br0", "flow_tables", "--", "destroy", "Flow_Table", full)


def test_a_meter_that_is_gone_makes_the_switch_refuse_what_it_took_before(sandbox: Sandbox, switch: Remote) -> None:
    spec = next(spec for unit in flow_world.UNITS for spec in meters(unit, flow_world.BRIDGE))
    if spec.number not in switch.meters():
        assert switch.change_meters([(Change.ADD, spec)]) == {}
    metered = [replace(drop(number, cookie=number), actions=(Meter(spec.number), Goto(11))) for number in (1, 2, 3)]
    switch.apply(metered[:2])
    assert switch.change_meters([(Change.DELETE, spec)]) == {}
    with pytest.raises(Failed) as raised:
        switch.apply([*metered, drop(4, cookie=4)][1:])
    assert raised.value.name in ("Refused", "SwitchGone")
    assert "METER" in str(raised.value)
    eventually(lambda: cookies(switch) <= {4})


@pytest.mark.parametrize("bad", [NO_PREREQUISITE, BACKWARDS, INEXPRESSIBLE], ids=["match", "goto", "port"])
def test_a_flow_that_is_refused_alone(switch: Remote, bad: Flow) -> None:
    switch.apply([drop(1, cookie=0x11)])
    with pytest.raises(Failed) as raised:
        switch.apply([bad])
    assert [flow.cookie for flow in raised.value.reasons] == [bad.cookie]
    switch.apply([drop(1, cookie=0x21)])
    assert cookies(switch) == {0x21}
    switch.apply([], [(0x21, 10)])
    assert cookies(switch) == set()


def test_a_flow_refused_at_commit_rolls_back(sandbox: Sandbox, switch: Remote) -> None:
    limit = ("--id=@full", "create", "Flow_Table", "flow_limit=1", "overflow_policy=refuse")
    sandbox.run(
        "ovs-vsctl", f"--db={sandbox.connection}", "--", *limit, "--", "set", "Bridge", "br0", "flow_tables:30=@full"
    )
    switch.apply([drop(1, cookie=0x11)])
    with pytest.raises(Failed, match="TABLE_FULL") as raised:
        switch.apply([drop(2, cookie=0x22), *(drop(n, cookie=0x30 + n, table=30) for n in (1, 2))], [(0x11, 10)])
    assert [flow.cookie for flow in raised.value.reasons] == [0x32]
    assert cookies(switch) == {0x11}


def test_twenty_thousand_flows(switch: Remote) -> None:
    flows = [
        Flow(10, 100, Match.of(IPV4, IPV4_SRC.eq(number)), (Goto(20),), cookie=0x5C << 56 | number)
        for number in range(20_000)
    ]
    begun = time.monotonic()
    switch.apply(flows)
    installed = switch.installed()
    switch.apply([], [(flow.cookie, flow.table) for flow in flows])
    assert time.monotonic() - begun < 60
    assert set(installed) == {flow.cookie for flow in flows}
    assert cookies(switch) == set()


def test_counters_are_read(sandbox: Sandbox, switch: Remote) -> None:
    switch.apply([Flow(0, 5, Match.of(IN_PORT.eq(1)), (), cookie=0x11)])
    receive(sandbox, "10.0.0.1 10.0.0.2")
    sandbox.appctl("revalidator/wait")
    installed = eventually(lambda: switch.installed()[0x11].packets and switch.installed()[0x11])
    assert (installed.packets, installed.table, installed.priority) == (1, 0, 5)
    assert installed.bytes >= 42


def test_fragment_mode_is_set(sandbox: Sandbox, switch: Remote) -> None:
    sandbox.ofctl("set-frags", "br0", "normal")
    switch.set_fragment_mode()
    assert sandbox.ofctl("get-frags", "br0").strip() == "nx-match"


@pytest.fixture
def connections(sandbox: Sandbox, switch: Remote) -> Iterator[None]:
    """Three connections of ZONE: 10.0.0.1 -> .9, 10.0.0.2 -> .9, 10.0.0.9 -> .1."""
    switch.apply([Flow(0, 5, Match.of(IPV4), (Ct(zone=ZONE, table=10, commit=True),), cookie=0x11)])
    receive(sandbox, "10.0.0.1 10.0.0.9", "10.0.0.2 10.0.0.9", "10.0.0.9 10.0.0.1")
    eventually(lambda: len(tracked(sandbox)) == 3)
    yield
    sandbox.appctl("dpctl/flush-conntrack")


def tracked(sandbox: Sandbox) -> list[str]:
    dump = sandbox.appctl("dpctl/dump-conntrack", f"zone={ZONE}")
    return sorted(" ".join(pair) for pair in re.findall(r"orig=\(src=([\d.]+),dst=([\d.]+)", dump))


@pytest.mark.usefixtures("connections")
@pytest.mark.parametrize(
    ("which", "left"),
    [
        ({"src": "10.0.0.1"}, ["10.0.0.2 10.0.0.9", "10.0.0.9 10.0.0.1"]),
        ({"dst": "10.0.0.9"}, ["10.0.0.9 10.0.0.1"]),
        ({"src": "10.0.0.1", "dst": "10.0.0.9"}, ["10.0.0.2 10.0.0.9", "10.0.0.9 10.0.0.1"]),
        ({"src": "10.0.0.2", "dst": "10.0.0.1"}, ["10.0.0.1 10.0.0.9", "10.0.0.2 10.0.0.9", "10.0.0.9 10.0.0.1"]),
        ({}, []),
    ],
    ids=["src", "dst", "both", "neither", "all"],
)
def test_connections_are_forgotten(sandbox: Sandbox, switch: Remote, which: dict[str, str], left: list[str]) -> None:
    switch.flush_connections(ZONE + 1, [Tuple(**which)])
    switch.flush_connections(ZONE, [Tuple(**which)])
    assert tracked(sandbox) == left


def test_frames_come_and_go(sandbox: Sandbox, switch: Remote) -> None:
    shown = Match.of(IN_PORT.eq(1), ETH_SRC.eq(0x020000000001))
    switch.apply([Flow(0, 5, shown, (Controller(max_len=20),), cookie=0x11)])
    receive(sandbox, "10.0.0.1 10.0.0.2")
    ((port, data),) = switch.frames(1)
    assert (port, data[:14].hex()) == (1, "0200000000020200000000010800")
    before = sent(sandbox)
    switch.packet_out(2, bytes.fromhex("0200000000020200000000010800") + bytes(46))
    switch.drain()
    assert sent(sandbox) == before + 1


def sent(sandbox: Sandbox) -> int:
    found = re.search(r"tx pkts=(\d+)", sandbox.ofctl("dump-ports", "br0", "p2"))
    assert found
    return int(found[1])


def test_other_applications_get_their_own_answers(switch: Remote) -> None:
    switch.apply([drop(1, cookie=0x11), drop(2, cookie=0x12)])
    assert sorted(switch.decoded()) == ["{'reg0': (1, 65535)}", "{'reg0': (2, 65535)}"]
    assert cookies(switch) == {0x11, 0x12}


def test_flows_in_words(sandbox: Sandbox, switch: Remote) -> None:
    sandbox.ofctl("add-flow", "br0", "cookie=0x77,table=3,idle_timeout=60,tcp,tp_dst=80,actions=normal")
    switch.apply([drop(1, cookie=0x11)])
    (foreign,) = switch.dump_text(3)
    assert (foreign.cookie, foreign.table, foreign.priority) == (0x77, 3, 32768)
    assert (foreign.match, foreign.actions) == ("tcp,tp_dst=80", "NORMAL")
    assert {one.cookie: (one.priority, one.match, one.actions) for one in switch.dump_text()}[0x11] == (
        100, "reg0=0x1/0xffff", "drop",
    )  # fmt: skip
