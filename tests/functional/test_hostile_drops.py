# SPDX-License-Identifier: Apache-2.0
"""What a port's bounds drop is counted: by reason among the drops, by port among the metrics."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flows.meters import Bound
from tests.functional.agent_rig import BRIDGE, Manager, Rig
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import mac_of, world

pytestmark = pytest.mark.functional
FLOOD = 20
CONNECTION = (
    "in_port(1),eth(src={mac},dst=02:ff:00:00:00:01),eth_type(0x0800),"
    "ipv4(src=10.1.0.11,dst=203.0.113.9,proto=17,tos=0,ttl=64,frag=no),udp(src={port},dst=53)"
)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(world({"web1": ("web",)})) as rig:
        rig.plug("web1", 1, mac_of(1))
        yield rig


def metered(manager: Manager) -> int:
    """Packets that the port's bound on connections it opens has dropped."""
    drops = manager.get("/admin/drops")[1]["drops"]
    return sum(one["packets"] for one in drops if (one["reason"], one["table"]) == (Bound.OPENED.value, "STATE"))


def flood(rig: Rig) -> None:
    packets = (CONNECTION.format(mac=mac_of(1), port=2000 + number) for number in range(FLOOD))
    rig.sandbox.appctl("netdev-dummy/receive", "tap1", *packets)


def test_drops_of_bounds_are_counted(rig: Rig) -> None:
    manager = rig.manager("--limit-connections=1:2")
    manager.wait_state("tap1", "active")
    assert metered(manager) == 0
    flood(rig)
    eventually(lambda: metered(manager) > FLOOD // 2)
    assert 'sgctl_metered_packets{bound="opened",port="tap1"}' in manager.get("/metrics")[1]


def test_limits_may_be_switched_off(rig: Rig) -> None:
    manager = rig.manager("--limit-connections=0", "--limit-fragments=0", "--limit-frames=0")
    manager.wait_state("tap1", "active")
    flood(rig)
    assert metered(manager) == 0
    assert "meter=" not in rig.sandbox.ofctl("dump-meters", BRIDGE)
    assert "meter:" not in rig.sandbox.ofctl("dump-flows", BRIDGE)
    assert not any("bound" in one["reason"] for one in manager.get("/admin/drops")[1]["drops"])


def test_a_new_limit_changes_meters_only(rig: Rig) -> None:
    """A restart with another rate sends no flow."""
    manager = rig.manager("--limit-connections=7:8")
    manager.wait_state("tap1", "active")
    before = rig.ages()
    assert "rate=7 burst_size=8" in rig.sandbox.ofctl("dump-meters", BRIDGE)
    assert manager.stop() == 0
    rig.manager("--limit-connections=9:10").wait_state("tap1", "active")
    eventually(lambda: "rate=9 burst_size=10" in rig.sandbox.ofctl("dump-meters", BRIDGE))
    after = rig.ages()
    assert after.keys() == before.keys() and all(after[cookie] >= age for cookie, age in before.items())
