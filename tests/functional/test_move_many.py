# SPDX-License-Identifier: Apache-2.0
"""A VM with ten thousand connections moves; and what it brings along ends when its entries would have."""

from __future__ import annotations

import re
import time

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from devstack.lab import Lab
from devstack.lab.hypervisor import Hypervisor
from devstack.lab.mobile import Mobile
from devstack.lab.namespace import wait_for
from flows.tables import RESUMED_SENDER
from tests.bench.watch import FlowWatch
from tests.functional.moving import GAP, conversations, mobile, moving_cloud, settle, staying
from tests.functional.promised import WORLD, allow, revoke

MANY = 10_000
ENOUGH = 0.9 * MANY
"""The switch drops some of a flood."""
SECONDS = 60.0
"""Much more than it takes (under one), since other tests run on the same two cores."""


def handed(hypervisor: Hypervisor) -> list[int]:
    """The hard timeouts of the flows for what a VM has brought along to a hypervisor, or will bring."""
    text = hypervisor.ofctl("--no-stats", "dump-flows", "br-int", "table=112")
    return [int(seconds) for seconds in re.findall(r"hard_timeout=(\d+)", text)]


def flood(client: Mobile, server: Mobile) -> None:
    """Open many connections, slowly enough for the switch and the limits of a VM."""
    head = Ether(src=client.mac, dst=server.mac) / IP(src=client.vm.address(), dst=server.vm.address())
    frames = [bytes(head / UDP(sport=10_000 + number, dport=20_000 + number)) for number in range(MANY)]
    for start in range(0, MANY, 250):
        client.vm.send(frames[start : start + 250])
        time.sleep(0.1)


def known(hypervisor: Hypervisor) -> int:
    """How many of these connections a hypervisor remembers."""
    control = str(hypervisor.directory / "ovs-vswitchd.ctl")
    dump = hypervisor.appctl("-t", control, "dpctl/dump-conntrack")
    return len(re.findall(r"^udp,orig=\([^)]*,dport=[23]\d{4}\)", dump, re.MULTILINE))


def test_ten_thousand_connections(lab: Lab) -> None:
    with moving_cloud(lab) as cloud:
        tenant = cloud.create_account("tenant", ("server", "client", "stays"))
        server = mobile(cloud, "tenant", "server", 1, "server")
        client = mobile(cloud, "tenant", "client", 2, "client")
        target = cloud.hypervisors[1]
        rules = allow(tenant, "server", "tcp/80", "udp/1-65535", "icmp", cidr=WORLD)
        server.vm.serve("tcp", 80)
        server.vm.serve("udp", 53)
        wait_for("allowed", lambda: client.vm.probe("udp", server.vm.address(), 53) == "open")
        streams = conversations(client.vm, server.vm)
        settle(streams)

        def enough() -> bool:
            """Where the switch had no time for all of them, the others come again."""
            flood(client, server)
            return all(known(one) > ENOUGH for one in cloud.hypervisors)

        wait_for("the connections", enough, timeout=SECONDS)
        revoke(tenant, rules)
        watch = FlowWatch(target.directory / "br-int.mgmt", table=RESUMED_SENDER.id)
        watch.reset()
        started = time.perf_counter()
        server.plug(target)
        plugged = time.perf_counter()
        wait_for("they are known there", lambda: watch.counts["added"] > ENOUGH, timeout=SECONDS)
        watch.settle(0.2, timeout=SECONDS)
        since = f"{watch.last - started:.2f} s after its port was asked for, {watch.last - plugged:.2f} s after it was"
        print(f"{watch.counts['added']} connections handed over {since}")
        watch.close()
        settle(streams)
        with staying(cloud, "tenant", "stays") as still:
            for stream in streams.values():
                stream.report(clear=True)
            still.begin()
            server.run_on(target)
            settle(streams, answers=50)
            still.judge({name: stream.stop().gap for name, stream in streams.items()}, gap=3 * GAP)
        assert max(handed(target)) <= 86400
