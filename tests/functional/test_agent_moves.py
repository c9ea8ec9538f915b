# SPDX-License-Identifier: Apache-2.0
"""NICs that move between hypervisors: standby, the first frame, the claim, the announcement, and the other side."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from sgctl.model import Host, Nic
from sgctl.store import Insert, Update
from tests.functional.agent_rig import BRIDGE, Manager, Rig
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import mac_of, uid, world

CLOUD = world({"web1": ("web",), "web2": ("web",)})
RARP = f"ffffffffffff{mac_of(1).replace(':', '')}80350001080006040003".replace(":", "")


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(CLOUD) as rig:
        yield rig


@pytest.fixture
def agent(rig: Rig) -> Manager:
    rig.sandbox.vsctl("set", "Interface", "eth1", f"options:tx_pcap={rig.directory}/uplink.pcap")
    return rig.manager()


def put_on(rig: Rig, host: str, *, seen_ago: float = 0.0) -> None:
    """Let another hypervisor have the NIC."""
    seen = round((time.time() - seen_ago) * 1000)
    rig.database.write(
        [
            Insert(Host(id=uid(f"host {host}"), name=host, seen=seen)),
            Update(Nic, uid("web1"), {"host": host, "state": "up"}),
        ]
    )


def speak(rig: Rig, port: str) -> None:
    """The guest sends the RARP with which QEMU announces that it runs here now."""
    mac = mac_of(1).replace(":", "")
    rig.sandbox.appctl("netdev-dummy/receive", port, RARP + mac + "0" * 8 + mac + "0" * 44)


def announced(rig: Rig) -> str:
    return (rig.directory / "uplink.pcap").read_bytes().hex()


def test_a_nic_that_is_up_elsewhere_waits_for_its_first_frame(rig: Rig, agent: Manager) -> None:
    put_on(rig, "hv2")
    port = rig.plug("web1", 5, mac_of(1))
    agent.wait_state(port, "standby", "hv2")
    assert rig.nic("web1").host == "hv2"
    assert "dl_dst" not in "".join(
        line for line in rig.sandbox.ofctl("dump-flows", BRIDGE).splitlines() if mac_of(1) in line
    )
    speak(rig, port)
    agent.wait_state(port, "active")
    rig.wait_nic("web1", "hv1", "up")
    eventually(lambda: RARP in announced(rig))


def test_the_old_host_closes_its_port_when_another_claims(rig: Rig, agent: Manager) -> None:
    port = rig.plug("web1", 5, mac_of(1))
    agent.wait_state(port, "active")
    rig.wait_nic("web1", "hv1", "up")
    put_on(rig, "hv2")
    agent.wait_state(port, "standby")
    rig.unplug(port)
    time.sleep(1)
    assert rig.nic("web1").host == "hv2"


@pytest.mark.parametrize("ago", [60.0, 3600.0])
def test_a_dead_host_does_not_keep_a_nic(rig: Rig, agent: Manager, ago: float) -> None:
    put_on(rig, "hv2", seen_ago=ago)
    port = rig.plug("web1", 5, mac_of(1))
    agent.wait_state(port, "standby", "hv2")
    speak(rig, port)
    agent.wait_state(port, "active")
    rig.wait_nic("web1", "hv1", "up")


def test_a_stale_binding_is_released(rig: Rig, agent: Manager) -> None:
    put_on(rig, "hv1-before")
    rig.database.write([Update(Nic, uid("web1"), {"host": "hv1"})])
    rig.wait_nic("web1", "", "")
    eventually(lambda: any(row.name == "hv1" and row.seen for row in rig.database.replica.all(Host)))
