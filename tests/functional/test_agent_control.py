# SPDX-License-Identifier: Apache-2.0
"""ovs-vswitchd's control socket has the name that somebody gave it; without it, flows are there all the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.agent_rig import Rig
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import world

CLOUD = world({"web1": ("web",)})
COMPLAINT = "no control socket of ovs-vswitchd answers"


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(CLOUD) as rig:
        yield rig


def name_control(rig: Rig, path: Path) -> None:
    """As if ovs-vswitchd had been started with --unixctl=`path`."""
    (rig.sandbox.directory / "ovs-vswitchd.ctl").rename(path)


def test_a_socket_of_any_name_is_found(rig: Rig) -> None:
    name_control(rig, rig.sandbox.directory / "zz-switch.ctl")
    agent = rig.manager()
    agent.wait_state(rig.plug("web1", 5), "active")
    assert COMPLAINT not in agent.log.read_text()


def test_a_switch_without_a_socket_still_gets_its_flows(rig: Rig, tmp_path: Path) -> None:
    name_control(rig, tmp_path / "elsewhere.ctl")
    agent = rig.manager()
    port = rig.plug("web1", 5)
    agent.wait_state(port, "active")
    assert "in_port=5" in rig.sandbox.ofctl("dump-flows", "br-int", "table=0")
    rig.sandbox.vsctl("del-port", port)
    eventually(lambda: "in_port=5" not in rig.sandbox.ofctl("dump-flows", "br-int", "table=0"))
    assert agent.log.read_text().count(f"does not bound connections: {COMPLAINT}") == 1
