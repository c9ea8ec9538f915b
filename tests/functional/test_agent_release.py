# SPDX-License-Identifier: Apache-2.0
"""Uninstalling gives the bridge back as it was, with what is not ours."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.functional.agent_rig import BRIDGE, Manager, Rig
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import mac_of, peer_rule, world

CLOUD = world({"web1": ("web",), "nag1": ("nagios",)}, rules=(peer_rule("r", "web", "nagios"),))
COLUMNS = ("fail_mode", "other_config", "external_ids", "protocols", "flow_tables", "controller")
FOREIGN = "cookie=0xbeef, table=77, priority=7,icmp actions=meter:2,NORMAL"


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(CLOUD) as rig:
        rig.plug("web1", 5, mac_of(1))
        yield rig


def release(rig: Rig, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sgctl.release", f"--ovsdb-connection={rig.sandbox.connection}"]
    return subprocess.run([*command, *options, "release"], capture_output=True, text=True, timeout=60)


def settings(rig: Rig) -> list[str]:
    return [rig.sandbox.vsctl("get", "Bridge", BRIDGE, column) for column in COLUMNS]


def flows(rig: Rig) -> list[str]:
    lines = rig.sandbox.ofctl("dump-flows", BRIDGE, "--no-stats").splitlines()
    return sorted(line.strip() for line in lines if "actions=" in line)


def enforced(rig: Rig) -> Manager:
    """An agent that has the bridge in its hands, beside somebody else's flow and meter."""
    agent = rig.manager()
    agent.wait_state("tap5", "active")
    rig.sandbox.ofctl("add-meter", BRIDGE, "meter=2,kbps,burst,stats,bands=type=drop,rate=10,burst_size=20")
    rig.sandbox.ofctl("add-flow", BRIDGE, FOREIGN.replace(" actions", ",actions"))
    assert len(flows(rig)) > 50
    trees = rig.sandbox.vsctl("--bare", "--columns=prefixes", "find", "Flow_Table", "name=DESTINATION")
    assert trees == "ip_dst ipv6_dst ipv6_src"
    return agent


@pytest.mark.parametrize("controller", ["", "tcp:127.0.0.1:1"])
@pytest.mark.parametrize("mode", ["[]", "secure"])
def test_the_bridge_is_as_it_was(rig: Rig, mode: str, controller: str) -> None:
    rig.sandbox.run("ovs-vsctl", f"--db={rig.sandbox.connection}", "set", "Bridge", BRIDGE, f"fail_mode={mode}")
    if controller:
        rig.sandbox.vsctl("set-controller", BRIDGE, controller)
    before = settings(rig)[:-1]
    agent = enforced(rig)
    assert agent.stop() == 0
    done = release(rig)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{BRIDGE}: sgctl's flows and meters removed, 1 flows of others kept, settings as before" in done.stdout
    assert settings(rig)[:-1] == before
    assert rig.sandbox.vsctl("get-controller", BRIDGE) == controller
    alone = mode == "[]" and not controller
    assert flows(rig) == sorted([FOREIGN, *(["priority=0 actions=NORMAL"] if alone else [])])
    meters = rig.sandbox.ofctl("dump-meters", BRIDGE)
    left = "meter=2 kbps burst stats bands=\ntype=drop rate=10 burst_size=20"
    assert re.findall(r"meter=\d+ .*\n.*", meters) == [left]
    assert "NORMAL" in rig.sandbox.ofctl("get-frags", BRIDGE).upper()


def test_not_while_an_agent_runs(rig: Rig) -> None:
    agent = enforced(rig)
    before = flows(rig), settings(rig)
    done = release(rig)
    assert done.returncode == 1
    assert f"another sgctl agent works on bridge {BRIDGE}" in done.stderr
    assert (flows(rig), settings(rig)) == before
    agent.stop()


def test_a_second_time_or_without_a_bridge(rig: Rig) -> None:
    enforced(rig).kill()
    assert release(rig).returncode == 0
    before = flows(rig), settings(rig)
    again = release(rig)
    assert again.returncode == 0 and "no note of what was before" in again.stdout
    assert (flows(rig), settings(rig)) == before
    missing = release(rig, "--bridge=br9")
    assert missing.returncode == 1 and "there is no bridge br9" in missing.stderr


def test_and_taken_again(rig: Rig) -> None:
    agent = enforced(rig)
    before = rig.cookies()
    agent.stop()
    assert release(rig).returncode == 0
    agent.start()
    agent.wait_state("tap5", "active")
    eventually(lambda: rig.cookies() >= before - {0xBEEF})
