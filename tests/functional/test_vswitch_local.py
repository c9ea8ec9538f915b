# SPDX-License-Identifier: Apache-2.0
"""`LocalSwitch` over a real database and switch: ports as values, the bridge prepared and given back, reconnects."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sgctl.localport import LocalPort, VSwitch
from sgctl.vswitch import BridgeSettings, LocalSwitch, VSwitchError
from sgctl.vswitch.bridge import IN_BAND
from tests.functional.vswitch_sandbox import Sandbox, eventually

pytestmark = pytest.mark.functional

NIC = "7d1b3c52-0c33-4d51-9c0a-5d0a3b1f1f01"
SETTINGS = BridgeSettings(controller="tcp:127.0.0.1:7", tables={0: "CLASSIFIER", 10: "SOURCE_GUARD"})


class Watch:
    """A started LocalSwitch, and every state that it has told."""

    def __init__(self, sandbox: Sandbox, bridge: str = "br0") -> None:
        self.local = LocalSwitch(sandbox.connection, bridge, deadline=30)
        self.told: list[tuple[bool, VSwitch]] = []
        self.local.on_change(lambda: self.told.append((self.local.insync, self.local.snapshot())))
        self.local.start()

    def ports(self) -> dict[str, LocalPort]:
        return {port.name: port for port in self.local.snapshot().ports}

    def numbers(self) -> dict[str, int | None]:
        return {name: port.ofport for name, port in self.ports().items()}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        sandbox.add_bridge("br0", "p1")
        yield sandbox


@pytest.fixture
def watch(sandbox: Sandbox) -> Iterator[Watch]:
    watch = Watch(sandbox)
    eventually(lambda: watch.local.insync)
    yield watch
    watch.local.stop()


def test_ports_come_change_and_go(sandbox: Sandbox, watch: Watch) -> None:
    eventually(lambda: watch.numbers() == {"p1": 1})
    sandbox.add_port("br0", "p2", f"external_ids:iface-id={NIC}", "external_ids:attached-mac=02:00:00:00:00:01")
    eventually(lambda: watch.numbers() == {"p1": 1, "p2": 2})
    port = watch.ports()["p2"]
    assert (port.iface_id, port.attached_mac, port.role) == (NIC, "02:00:00:00:00:01", "")
    sandbox.vsctl("set", "Interface", "p2", "ofport_request=9", "external_ids:sgctl-role=uplink")
    eventually(lambda: watch.numbers()["p2"] == 9)
    assert watch.ports()["p2"].role == "uplink"
    sandbox.vsctl("remove", "Interface", "p2", "external_ids", "iface-id")
    eventually(lambda: watch.ports()["p2"].iface_id is None)
    sandbox.vsctl("del-port", "br0", "p2")
    eventually(lambda: watch.numbers() == {"p1": 1})
    assert watch.told[-1] == (True, watch.local.snapshot())


def test_each_change_is_told_once(sandbox: Sandbox, watch: Watch) -> None:
    eventually(lambda: watch.numbers() == {"p1": 1})
    before = len(watch.told)
    sandbox.vsctl("set", "Interface", "p1", "external_ids:iface-id=a")
    eventually(lambda: watch.ports()["p1"].iface_id == "a")
    sandbox.vsctl("set", "Interface", "p1", "external_ids:something-else=b")
    sandbox.vsctl("set", "Interface", "p1", "external_ids:iface-id=c")
    eventually(lambda: watch.ports()["p1"].iface_id == "c")
    assert [snapshot.ports[0].iface_id for _insync, snapshot in watch.told[before:]] == ["a", "c"]


def test_ports_do_not_count_as_configuration(sandbox: Sandbox, watch: Watch) -> None:
    watch.local.prepare(SETTINGS)
    eventually(lambda: watch.numbers() == {"p1": 1})
    before = watch.local.configuration
    sandbox.add_port("br0", "p2")
    eventually(lambda: watch.numbers() == {"p1": 1, "p2": 2})
    sandbox.vsctl("del-port", "br0", "p2")
    eventually(lambda: watch.numbers() == {"p1": 1})
    assert watch.local.configuration == before
    sandbox.vsctl("set-fail-mode", "br0", "standalone")
    eventually(lambda: watch.local.configuration != before)
    assert watch.local.prepare(SETTINGS)


def test_a_port_without_a_number_is_a_value(sandbox: Sandbox, watch: Watch) -> None:
    sandbox.vsctl("add-port", "br0", "nobody", "--", "set", "Interface", "nobody", "type=no-such-type")
    eventually(lambda: watch.ports().get("nobody") and watch.ports()["nobody"].error)
    assert watch.numbers()["nobody"] is None
    sandbox.stop("ovs-vswitchd")
    sandbox.vsctl("add-port", "br0", "early")
    eventually(lambda: "early" in watch.ports())
    assert watch.numbers()["early"] is None
    for number in ("-1", "65535"):
        sandbox.vsctl("set", "Interface", "early", f"ofport={number}", f"external_ids:iface-id=x{number}")
        eventually(lambda number=number: watch.ports()["early"].iface_id == f"x{number}")
        assert watch.numbers()["early"] is None


@pytest.mark.parametrize("odd", ["", "not-a-uuid", "x" * 65536, "\u00e4 \U0001f40b \n", NIC.upper()])
def test_odd_external_ids_are_values(sandbox: Sandbox, watch: Watch, odd: str) -> None:
    quoted = '"' + odd.replace("\n", "\\n") + '"'
    sandbox.vsctl("set", "Interface", "p1", f"external_ids:iface-id={quoted}", f"external_ids:attached-mac={quoted}")
    eventually(lambda: watch.ports()["p1"].iface_id is not None)
    assert watch.ports()["p1"].iface_id == watch.ports()["p1"].attached_mac == odd[:255]


def test_two_ports_with_one_id_are_two_values(sandbox: Sandbox, watch: Watch) -> None:
    sandbox.add_port("br0", "p2", f"external_ids:iface-id={NIC}")
    sandbox.vsctl("set", "Interface", "p1", f"external_ids:iface-id={NIC}")
    eventually(lambda: [port.iface_id for port in watch.local.snapshot().ports] == [NIC, NIC])


def test_other_bridges_are_not_ours(sandbox: Sandbox, watch: Watch) -> None:
    sandbox.add_bridge("br1", "q1")
    before = sandbox.vsctl("list", "Bridge", "br1")
    watch.local.prepare(SETTINGS)
    watch.local.release()
    assert sandbox.vsctl("list", "Bridge", "br1") == before
    assert set(watch.ports()) == {"p1"}


def get(sandbox: Sandbox, table: str, row: str, column: str) -> str:
    return sandbox.vsctl("get", table, row, column)


def test_prepare_sets_what_differs_once(sandbox: Sandbox, watch: Watch) -> None:
    mac = "02:00:00:00:00:99"
    sandbox.vsctl("set", "Bridge", "br0", "protocols=OpenFlow10", f"other_config:hwaddr={mac}", "fail_mode=[]")
    sandbox.vsctl("remove", "Bridge", "br0", "other_config", "disable-in-band")
    datapath = eventually(lambda: watch.local.snapshot().datapath_id)
    assert watch.local.prepare(SETTINGS)
    eventually(lambda: not watch.local.prepare(SETTINGS))
    assert get(sandbox, "Bridge", "br0", "fail_mode") == "secure"
    assert get(sandbox, "Bridge", "br0", "protocols") == "[OpenFlow10, OpenFlow14]"
    assert get(sandbox, "Bridge", "br0", "other_config:disable-in-band") == '"true"'
    assert get(sandbox, "Bridge", "br0", "other_config:hwaddr") == f'"{mac}"'
    assert int(get(sandbox, "Bridge", "br0", "other_config:datapath-id").strip('"'), 16) in (datapath, 0x020000000099)
    assert sandbox.vsctl("get-controller", "br0") == SETTINGS.controller
    assert get(sandbox, "Controller", "br0", "max_backoff") == "1000"
    assert "(CLASSIFIER)" in eventually(lambda: named_tables(sandbox))
    changed = BridgeSettings(controller="tcp:127.0.0.1:9", tables={0: "FIRST"})
    assert watch.local.prepare(changed)
    assert sandbox.vsctl("get-controller", "br0") == changed.controller


def test_a_switch_in_its_pause_connects_when_it_is_called(sandbox: Sandbox, watch: Watch) -> None:
    """At once, as to a new controller, and keeps its flows; to whom it may be connected stays as it is otherwise."""
    flow = "table=10,priority=7,ip,nw_src=192.0.2.1,actions=drop"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        settings = replace(SETTINGS, controller=f"tcp:127.0.0.1:{server.getsockname()[1]}")
        watch.local.prepare(settings)
        server.accept()[0].close()
        sandbox.ofctl("add-flow", "br0", flow)

        def six_calls() -> float:
            """The seconds that they take."""
            begun = time.monotonic()
            for _ in range(6):
                eventually(lambda: watch.local.prepare(settings, call=True))
                server.accept()[0].close()
            return time.monotonic() - begun

        assert any(six_calls() < 3 for _ in range(4)), "pauses of a second"
    eventually(lambda: not watch.local.prepare(settings))
    assert sandbox.vsctl("get-controller", "br0") == settings.controller
    assert "nw_src=192.0.2.1" in sandbox.ofctl("dump-flows", "br0", "table=10")
    assert sandbox.vsctl("--bare", "--columns=connection_mode", "list", "Controller") == "out-of-band"


def test_it_is_never_controlled_before_it_is_secure(sandbox: Sandbox, watch: Watch) -> None:
    """Nor with hidden flows that let the controller's traffic pass: all of that is one transaction."""
    sandbox.vsctl("set", "Bridge", "br0", "fail_mode=[]", "--", "remove", "Bridge", "br0", "other_config", IN_BAND)
    columns = ("controller", "fail_mode", "other_config")
    command = ["ovsdb-client", "--format=json", "monitor", sandbox.connection, "Bridge", ",".join(columns)]
    with subprocess.Popen(command, env=sandbox.env, stdout=subprocess.PIPE, text=True) as monitor:
        assert monitor.stdout
        first = json.loads(monitor.stdout.readline())
        watch.local.prepare(SETTINGS)
        seen = [first]
        while not dict(zip(seen[-1]["headings"], seen[-1]["data"][-1], strict=True))["controller"][1]:
            seen.append(json.loads(monitor.stdout.readline()))
        monitor.terminate()
    assert len(seen) > 1
    now = dict(zip(seen[-1]["headings"], seen[-1]["data"][-1], strict=True))
    assert now["fail_mode"] == "secure"
    assert [IN_BAND, "true"] in now["other_config"][1]


def named_tables(sandbox: Sandbox) -> str:
    tables = sandbox.ofctl("dump-table-features", "br0")
    return tables.replace('"', "(", 1).replace('"', ")", 1) if "CLASSIFIER" in tables else ""


def trees_of(sandbox: Sandbox, table: str) -> str:
    return sandbox.vsctl("--bare", "--columns=prefixes", "find", "Flow_Table", f"name={table}")


def test_release_puts_back_what_was_there(sandbox: Sandbox, watch: Watch) -> None:
    table = ("--id=@t", "create", "Flow_Table", "name=theirs", "flow_limit=1000", "prefixes=tun_id")
    sandbox.vsctl("set-controller", "br0", "tcp:127.0.0.1:1", "--", "set", "Bridge", "br0", "fail_mode=standalone")
    sandbox.vsctl("--", *table, "--", "set", "Bridge", "br0", "flow_tables:10=@t")
    columns = ("fail_mode", "other_config", "external_ids", "protocols", "flow_tables")
    before = [get(sandbox, "Bridge", "br0", column) for column in columns]
    eventually(lambda: watch.local.prepare(SETTINGS))
    trees = {10: ("ipv6_src", "ip_src"), 20: ("ipv6_dst",)}
    settings = BridgeSettings(controller="tcp:127.0.0.1:2", tables={0: "A", 10: "B", 20: "C"}, prefixes=trees)
    assert watch.local.prepare(settings)
    eventually(lambda: not watch.local.prepare(settings))
    assert trees_of(sandbox, "A") == "" and trees_of(sandbox, "B") == "ip_src ipv6_src"
    assert trees_of(sandbox, "C") == "ipv6_dst"
    assert watch.local.release()
    assert [get(sandbox, "Bridge", "br0", column) for column in columns] == before
    assert sandbox.vsctl("get-controller", "br0") == "tcp:127.0.0.1:1"
    assert sandbox.vsctl("--bare", "--columns=name", "list", "Flow_Table") == "theirs"
    assert trees_of(sandbox, "theirs") == "tun_id"
    assert not watch.local.release()


def test_a_bridge_that_is_not_there_yet(sandbox: Sandbox) -> None:
    watch = Watch(sandbox, "br9")
    try:
        eventually(lambda: watch.local.insync)
        assert watch.local.snapshot() == VSwitch()
        with pytest.raises(VSwitchError, match="no bridge br9"):
            watch.local.prepare(SETTINGS)
        sandbox.add_bridge("br9", "q1")
        eventually(lambda: watch.numbers() == {"q1": 1} and watch.local.snapshot().datapath_id)
    finally:
        watch.local.stop()


def test_the_database_may_come_later_and_restart(sandbox: Sandbox) -> None:
    sandbox.stop("ovsdb-server")
    sandbox.socket.unlink(missing_ok=True)
    watch = Watch(sandbox)
    with pytest.raises(VSwitchError, match="not been read"):
        watch.local.snapshot()
    with pytest.raises(VSwitchError, match="not connected"):
        watch.local.prepare(SETTINGS)
    sandbox.start_database()
    eventually(lambda: watch.local.insync)
    assert set(watch.ports()) == {"p1"}
    watch.local.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_changed_while_the_database_was_away(sandbox: Sandbox, watch: Watch, number: int) -> None:
    sandbox.add_port("br0", "p2")
    eventually(lambda: watch.numbers() == {"p1": 1, "p2": 2})
    sandbox.stop("ovsdb-server", number)
    eventually(lambda: watch.told[-1][0] is False)
    assert set(watch.ports()) == {"p1", "p2"}
    offline_change(sandbox, "p1", NIC)
    sandbox.start_database()
    eventually(lambda: watch.told[-1][0] is True)
    assert watch.ports()["p1"].iface_id == NIC
    assert set(watch.ports()) == {"p1"}
    watch.local.prepare(SETTINGS)


def offline_change(sandbox: Sandbox, port: str, nic: str) -> None:
    """Give `port` an iface-id and delete p2, in the file of a database that does not run."""
    ids = {"external_ids": ["map", [["iface-id", nic]]]}
    offline(sandbox, {"op": "update", "table": "Interface", "where": [["name", "==", port]], "row": ids})
    wanted = {"op": "select", "table": "Port", "where": [["name", "==", "p2"]], "columns": ["_uuid"]}
    uuid = offline(sandbox, wanted)[0]["rows"][0]["_uuid"]
    offline(sandbox, {"op": "mutate", "table": "Bridge", "where": [], "mutations": [["ports", "delete", uuid]]})


def offline(sandbox: Sandbox, operation: dict[str, Any]) -> Any:
    transaction = json.dumps(["Open_vSwitch", operation])
    return json.loads(sandbox.run("ovsdb-tool", "transact", str(sandbox.database), transaction))


def test_it_works_where_everything_is_monkey_patched(sandbox: Sandbox) -> None:
    script = Path(__file__).with_name("vswitch_patched.py")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(script), sandbox.connection],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["p1", "True", "False"]


def test_timeouts_of_our_zone_and_of_no_other(sandbox: Sandbox, watch: Watch) -> None:
    """They are set where they differ, put back if somebody changes them, and go with us; other zones stay."""
    datapath = ("--id=@new", "create", "Datapath", "datapath_version=1")
    sandbox.vsctl("--", *datapath, "--", "set", "Open_vSwitch", ".", "datapaths:dummy=@new")
    sandbox.vsctl("add-zone-tp", "dummy", "zone=5", "udp_first=9")
    settings = replace(SETTINGS, timeouts={"udp_first": 7, "icmp_reply": 8})
    eventually(lambda: watch.local.prepare(settings))
    eventually(lambda: not watch.local.prepare(settings))

    def zones() -> str:
        return sandbox.vsctl("list-zone-tp", "dummy")

    assert "Zone:1, Timeout Policies: icmp_reply=8 udp_first=7" in zones()
    sandbox.vsctl("del-zone-tp", "dummy", "zone=1")
    eventually(lambda: watch.local.prepare(settings))
    assert "Zone:1, Timeout Policies: icmp_reply=8 udp_first=7" in zones()
    assert watch.local.release()
    eventually(lambda: "Zone:1," not in zones())
    assert "Zone:5, Timeout Policies: udp_first=9" in zones()
