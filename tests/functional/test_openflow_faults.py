# SPDX-License-Identifier: Apache-2.0
"""The switch, its connection and the controller fail: nothing is left half applied, and nobody waits for ever."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from flows.fields import IPV4_SRC
from flows.flow import Flow, Goto, Match
from tests.functional.openflow_remote import Failed, Remote
from tests.functional.vswitch_sandbox import Sandbox, eventually
from tests.openflow_flows import IPV4

pytestmark = pytest.mark.functional

FLOWS = [
    Flow(10, 100, Match.of(IPV4, IPV4_SRC.eq(number)), (Goto(20),), cookie=0x5C << 56 | number)
    for number in range(20_000)
]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def switch(sandbox: Sandbox) -> Iterator[Remote]:
    with Remote(sandbox, "br0") as remote:
        sandbox.add_bridge("br0", "p1", controller=remote.target)
        remote.connected(1)
        yield remote


def held(sandbox: Sandbox, bridge: str = "br0") -> int:
    """How many flows the switch has, seen past the driver."""
    return sandbox.ofctl("dump-flows", bridge).count("cookie=")


@contextmanager
def stopped(sandbox: Sandbox) -> Iterator[None]:
    """vswitchd does not run meanwhile."""
    sandbox.signal("ovs-vswitchd", signal.SIGSTOP)
    try:
        yield
    finally:
        if "ovs-vswitchd" in sandbox.daemons:
            sandbox.signal("ovs-vswitchd", signal.SIGCONT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restarted_switch_connects_again_and_is_empty(sandbox: Sandbox, switch: Remote, number: int) -> None:
    switch.apply(FLOWS[:10])
    switch.set_fragment_mode()
    sandbox.stop("ovs-vswitchd", number)
    eventually(lambda: not switch.is_connected())
    sandbox.start_switch()
    switch.connected(2)
    assert switch.installed() == {}
    assert sandbox.ofctl("get-frags", "br0").strip() == "normal"
    switch.apply(FLOWS[:10])
    assert len(switch.installed()) == 10


def test_a_switch_that_dies_in_a_bundle_ends_the_wait(sandbox: Sandbox, switch: Remote) -> None:
    with stopped(sandbox):
        switch.send("apply", FLOWS)
        sandbox.stop("ovs-vswitchd", signal.SIGKILL)
    with pytest.raises(Failed, match="SwitchGone"):
        switch.receive()
    sandbox.start_switch()
    switch.connected(2)
    assert switch.installed() == {}


def test_a_controller_that_dies_in_a_bundle_leaves_nothing(sandbox: Sandbox, switch: Remote) -> None:
    switch.apply(FLOWS[:10])
    with stopped(sandbox):
        switch.send("apply", FLOWS, [(flow.cookie, flow.table) for flow in FLOWS[:10]])
        eventually(lambda: socket_is_full(switch.port))
        switch.process.kill()
        switch.process.wait(30)
    eventually(lambda: sandbox.vsctl("get", "Controller", "br0", "is_connected") == "false")
    assert held(sandbox) == 10


def socket_is_full(port: int) -> bool:
    """Whether the driver's end of the connection holds bytes that nobody reads (field tx_queue of /proc/net/tcp)."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    return any(row[1].endswith(f":{port:04X}") and int(row[4].split(":")[0], 16) > 100_000 for row in rows)


def test_a_switch_that_does_not_answer_is_given_up(sandbox: Sandbox, switch: Remote) -> None:
    with stopped(sandbox), pytest.raises(Failed, match=r"SwitchGone.*not answered"):
        switch.drain(0.3)
    switch.connected(2)
    switch.drain()


def test_a_frozen_switch_is_noticed_by_echoes(sandbox: Sandbox) -> None:
    with Remote(sandbox, "br0", echo=0.2) as switch:
        sandbox.add_bridge("br0", controller=switch.target)
        switch.connected(1)
        with stopped(sandbox):
            eventually(lambda: not switch.is_connected())
        switch.connected(2)


def test_without_a_switch_there_is_an_error_at_once(sandbox: Sandbox, switch: Remote) -> None:
    sandbox.stop("ovs-vswitchd")
    eventually(lambda: not switch.is_connected())
    with pytest.raises(Failed, match="SwitchGone"):
        switch.apply(FLOWS)


@pytest.mark.parametrize("twin", [False, True], ids=["with its own id", "with the same id"])
def test_another_bridge_is_refused(sandbox: Sandbox, switch: Remote, twin: bool) -> None:
    sandbox.add_bridge("br1")
    if twin:
        number = sandbox.vsctl("get", "Bridge", "br0", "datapath_id")
        sandbox.vsctl("set", "Bridge", "br1", f"other_config:datapath-id={number}")
        eventually(lambda: sandbox.vsctl("get", "Bridge", "br1", "datapath_id") == number)
    sandbox.vsctl("set-controller", "br1", switch.target)
    eventually(lambda: "refused bridge br1" in switch.output())
    switch.apply(FLOWS[:1])
    assert held(sandbox) == 1
    assert held(sandbox, "br1") == 0


@contextmanager
def second_way(port: int) -> Iterator[tuple[str, threading.Event]]:
    """A target whose first caller is connected to `port`, and what has to be set for bytes to pass."""
    flowing = threading.Event()
    flowing.set()

    def forward(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # either end may close first
            while data := source.recv(65536):
                flowing.wait()
                sink.sendall(data)
            flowing.wait()
            sink.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            here, _address = server.accept()
            with here, socket.create_connection(("127.0.0.1", port)) as there:
                back = threading.Thread(target=forward, args=(there, here), daemon=True)
                back.start()
                forward(here, there)
                back.join()

        threading.Thread(target=serve, daemon=True).start()
        yield f"tcp:127.0.0.1:{server.getsockname()[1]}", flowing
        flowing.set()


def test_a_second_connection_of_the_bridge_is_refused(sandbox: Sandbox, switch: Remote) -> None:
    with second_way(switch.port) as (target, _flowing):
        sandbox.vsctl("set-controller", "br0", switch.target, target)
        eventually(lambda: "refused a second connection" in switch.output())
    switch.apply(FLOWS[:1])
    assert held(sandbox) == 1
    assert "is not connected any more" not in switch.output()


def test_a_second_connection_replaces_one_that_is_dead(sandbox: Sandbox, switch: Remote) -> None:
    with second_way(switch.port) as (target, flowing):
        sandbox.vsctl("set-controller", "br0", target)
        switch.connected(2)
        flowing.clear()
        sandbox.vsctl("set-controller", "br0", switch.target)
        switch.connected(3)
        switch.apply(FLOWS[:1])
        assert held(sandbox) == 1
