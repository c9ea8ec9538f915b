# SPDX-License-Identifier: Apache-2.0
"""How fast flows become bytes, reach a switch, and are read back: ``python -m tests.bench.wire``.

One process with os-ken and eventlet as the agent has them, and a real switch. `ovs-ofctl --bundle` adds the same flows
to the same switch in the same run. Each figure is the best of several: other work on the machine only adds to it.
"""

from __future__ import annotations

import os

import eventlet

eventlet.monkey_patch()
os.environ["OSKEN_HUB_TYPE"] = "eventlet"

import time  # noqa: E402
import tracemalloc  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from ipaddress import IPv4Address, IPv6Address, ip_network  # noqa: E402
from threading import Event  # noqa: E402
from typing import Any  # noqa: E402

from os_ken import cfg  # noqa: E402
from os_ken.base.app_manager import AppManager  # noqa: E402
from os_ken.controller import controller, ofp_event  # noqa: E402, F401 - the first registers os-ken's options

from flows.flow import Flow  # noqa: E402
from flows.inputs import Bridge, Peer, Policy, Port, Rule, Segment, Service, Unit  # noqa: E402
from flows.pipeline import build  # noqa: E402
from sgctl.openflow import encode  # noqa: E402
from sgctl.openflow.app import BridgeApp  # noqa: E402
from sgctl.openflow.switch import Switch  # noqa: E402
from sgctl.reconcile import scope  # noqa: E402
from tests.functional.ports import free_port  # noqa: E402
from tests.functional.vswitch_sandbox import Sandbox  # noqa: E402

REPEAT = 7
PORTS, MEMBERS, MANY = 500, 2000, 100_000
BRIDGE = Bridge((60000,))


class Host(BridgeApp):
    """Waits for the bridge."""

    bridge = "br0"
    connected = Event()

    def on_connect(self, switch: Switch) -> None:
        """It is there."""
        self.connected.set()


def units() -> Iterator[Unit]:
    """A hypervisor full of VMs with both families, whose groups have rules about networks and a large group."""
    segment = Segment((ip_network("10.1.0.0/16"), ip_network("fd00:1::/64")), (IPv4Address("10.1.0.2"),))
    yield BRIDGE
    yield segment
    for number in range(1, PORTS + 1):
        addresses = (IPv4Address("10.1.1.0") + number, IPv6Address("fd00:1::100") + number)
        yield Port(f"nic{number}", number, 0x020000000000 + number, addresses, 0xA11, segment)
    rules = [Rule(n, Service(6, 1000 + n, 1000 + n), ip_network(f"192.{n}.0.0/16")) for n in range(1, 21)]
    yield Policy(0xA11, True, (), (*rules, Rule(99, Service(6, 80, 80), None, (7,))))
    yield from peers(MEMBERS)


def peers(count: int) -> Iterator[Peer]:
    """Addresses of a group."""
    return (Peer(IPv4Address("11.0.0.0") + number, 0, 7) for number in range(count))


def flows_of(wanted: Iterator[Unit]) -> list[Flow]:
    """Their flows, with cookies."""
    return [flow for unit in wanted for flow in build(unit, BRIDGE, scope(unit.owner))]


def best(action: Callable[[], Any], before: Callable[[], Any] = lambda: None) -> tuple[float, float]:
    """The least wall and processor time (of this process) of an action, seconds."""
    found = []
    for _ in range(REPEAT):
        before()
        wall, cpu = time.perf_counter(), time.process_time()
        action()
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(wall for wall, _ in found), min(cpu for _, cpu in found)


def encoding(flows: list[Flow]) -> None:
    """Flows to bytes, without a switch."""
    _, cpu = best(lambda: [encode.flow_mod(flow, number) for number, flow in enumerate(flows)])
    terms = sum(len(flow.match.terms) for flow in flows) / len(flows)
    print(f"{len(flows)} flows, {terms:.1f} conditions each, encoded: {len(flows) / cpu / 1000:.0f} k/s")


def bundles(flows: list[Flow], switch: Switch, sandbox: Sandbox) -> None:
    """One bundle with all of them, here and with Open vSwitch's own tool."""

    def empty() -> None:
        sandbox.ofctl("del-flows", "br0")

    wall, cpu = best(lambda: switch.apply(flows), empty)
    file = sandbox.directory / "flows.txt"
    file.write_text("".join(f"{flow}\n" for flow in flows))
    theirs, _ = best(lambda: sandbox.ofctl("add-flows", "br0", "--bundle", str(file)), empty)
    print(f"in one bundle: {len(flows) / wall / 1000:.0f} k/s ({1000 * wall:.0f} ms, {1000 * cpu:.0f} of them ours); "
          f"ovs-ofctl --bundle: {len(flows) / theirs / 1000:.0f} k/s; ratio {theirs / wall:.2f}")  # fmt: skip
    empty()


def reading_back(switch: Switch, sandbox: Sandbox) -> None:
    """What a restarted agent does first."""
    file = sandbox.directory / "many.txt"
    file.write_text("".join(f"cookie={flow.cookie:#x},{flow}\n" for flow in flows_of(peers(MANY))))
    sandbox.ofctl("add-flows", "br0", "--bundle", str(file))
    wall, cpu = best(switch.installed)
    tracemalloc.start()
    count = len(switch.installed())
    peak = tracemalloc.get_traced_memory()[1] / (1 << 20)
    tracemalloc.stop()
    print(f"{count} flows read back: {wall:.2f} s, {cpu:.2f} s of a processor, {peak:.0f} MiB at the peak")


def main() -> None:
    """Measure and print."""
    flows = flows_of(units())
    encoding(flows)
    port = free_port()
    cfg.CONF(["--ofp-listen-host=127.0.0.1", f"--ofp-tcp-listen-port={port}"], project="wire", default_config_files=[])
    manager = AppManager.get_instance()
    manager.load_apps(["tests.bench.wire"])
    manager.create_contexts()
    manager.instantiate_apps()
    with Sandbox() as sandbox:
        sandbox.add_bridge("br0", controller=f"tcp:127.0.0.1:{port}")
        (host,) = (app for app in manager.applications.values() if isinstance(app, BridgeApp))
        host.connected.wait(30)
        assert host.switch is not None, "the switch has not connected"
        bundles(flows, host.switch, sandbox)
        reading_back(host.switch, sandbox)
    os._exit(0)


if __name__ == "__main__":
    from tests.bench import wire

    wire.main()
