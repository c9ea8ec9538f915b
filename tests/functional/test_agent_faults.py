# SPDX-License-Identifier: Apache-2.0
"""Whatever restarts or goes away, enforcement stays; afterwards the switch holds exactly the desired flows."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator

import pytest

from sgctl.model import Cloud, Host, Nic, Rule
from sgctl.store import Delete, Insert
from tests.functional.agent_rig import BRIDGE, Manager, Rig
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import cidr_rule, peer_rule, uid, world

CLOUD = world({"web1": ("web",), "web2": ("web",), "nag1": ("nagios",)}, rules=(peer_rule("r", "web", "nagios"),))
SETTLING = 1.5


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(CLOUD) as rig:
        yield rig


@pytest.fixture
def agent(rig: Rig) -> Manager:
    agent = rig.manager()
    for number, nic in enumerate(("web1", "web2"), 5):
        agent.wait_state(rig.plug(nic, number), "active")
        rig.wait_nic(nic, "hv1", "up")
    return agent


def assert_untouched(rig: Rig, before: dict[int, float], started: float) -> None:
    """Every flow is the one that was there before: none was added, replaced or deleted since `started`."""
    passed, after = time.monotonic() - started, rig.ages()
    assert set(after) == set(before)
    assert min(after.values()) >= passed


def held(rig: Rig) -> dict[str, list[str]]:
    """All that ovs-vswitchd is told by the agent and forgets when it ends, in its own words."""
    limits = rig.sandbox.appctl("dpctl/ct-get-limits", "dummy@ovs-dummy", "zone=1")
    return {
        "flows": sorted(rig.sandbox.ofctl("dump-flows", BRIDGE, "--no-stats").splitlines()[1:]),
        "meters": sorted(map(str.strip, rig.sandbox.ofctl("dump-meters", BRIDGE).split("meter=")[1:])),
        "fragments": [rig.sandbox.ofctl("get-frags", BRIDGE)],
        "connections": re.findall(r"zone=1,limit=\d+", limits),
    }


def assert_nothing_sent(agent: Manager) -> None:
    lines = agent.get("/metrics")[1].splitlines()
    assert not [line for line in lines if line.startswith("sgctl_flow_mods_total{")]


@pytest.mark.parametrize("kill", [True, False])
def test_a_restarted_agent_sends_nothing(rig: Rig, agent: Manager, kill: bool) -> None:
    before, started = rig.ages(), time.monotonic()
    if kill:
        agent.kill()
    else:
        assert agent.stop() == 0
    assert_untouched(rig, before, started)
    agent.start()
    agent.wait_ready()
    time.sleep(SETTLING)
    assert_untouched(rig, before, started)
    assert_nothing_sent(agent)
    assert rig.sandbox.vsctl("get-fail-mode", BRIDGE) == "secure"


def test_what_happened_meanwhile_is_caught_up_with(rig: Rig, agent: Manager) -> None:
    agent.kill()
    rig.unplug("tap6")
    rig.plug("nag1", 7)
    rig.database.write([Delete(Rule, row.id) for row in CLOUD.rules])
    before = rig.ages()
    agent.start()
    agent.wait_ready()
    ports = agent.ports()
    assert ports["tap7"]["state"] == "active" and "tap6" not in ports
    assert "in_port=6" not in rig.sandbox.ofctl("dump-flows", BRIDGE, "table=0")
    assert len(set(before) & set(rig.ages())) > 50
    rig.wait_nic("web2", "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restarted_switch_is_filled_again(rig: Rig, agent: Manager, number: int) -> None:
    """With all that it had, word for word."""
    before = held(rig)
    assert all(before.values())
    rig.restart_switch(number)
    eventually(lambda: len(rig.cookies()) > 1)
    eventually(lambda: held(rig) == before)
    agent.wait_ready()
    assert held(rig) == before


def test_a_killed_sg_database_changes_nothing(rig: Rig, agent: Manager) -> None:
    before, started = rig.ages(), time.monotonic()
    assert rig.server.pid
    os.kill(rig.server.pid, signal.SIGKILL)
    eventually(lambda: rig.database.wait_insync(0.1) and agent.get("/readyz")[0] == 200)
    time.sleep(SETTLING)
    assert_untouched(rig, before, started)
    rule = cidr_rule("new", "web", "192.0.2.0/24")
    rig.database.write([Insert(rule)])
    eventually(lambda: len(rig.cookies()) > len(before))


def test_without_the_sg_database_ports_are_still_followed(rig: Rig, agent: Manager) -> None:
    before, started = rig.ages(), time.monotonic()
    rig.stop_database()
    eventually(lambda: agent.get("/readyz")[0] == 503)
    time.sleep(SETTLING)
    assert_untouched(rig, before, started)
    rig.unplug("tap6")
    eventually(lambda: "in_port=6" not in rig.sandbox.ofctl("dump-flows", BRIDGE, "table=0"))
    assert "in_port=5" in rig.sandbox.ofctl("dump-flows", BRIDGE, "table=0")
    rig.plug("nag1", 7)
    eventually(lambda: "tap7" in agent.log.read_text())
    assert "in_port=7" not in rig.sandbox.ofctl("dump-flows", BRIDGE, "table=0")
    rig.start_database()
    agent.wait_state("tap7", "active")


def test_an_agent_that_starts_without_the_sg_database_empties_nothing(rig: Rig, agent: Manager) -> None:
    before, started = rig.ages(), time.monotonic()
    agent.kill()
    rig.stop_database()
    agent.start()
    eventually(lambda: agent.get("/readyz")[1] == {"ready": False, "switch": True, "database": False, "insync": False})
    time.sleep(SETTLING)
    assert_untouched(rig, before, started)
    rig.start_database()
    agent.wait_ready()
    assert_untouched(rig, before, started)


@pytest.mark.parametrize("other", [False, True])
def test_a_database_that_is_not_this_clouds_empties_nothing(rig: Rig, agent: Manager, other: bool) -> None:
    """Somebody has started it without its disk: it is empty, or even set up anew."""
    rig.database.write([Insert(Cloud(id=uid("cloud"), created=1, asked=1))])
    eventually(lambda: [host.applied for host in rig.database.replica.all(Host)] == [1])
    before, started = rig.ages(), time.monotonic()
    rig.stop_database()
    file = rig.directory / "sg.db"
    file.rename(rig.directory / "kept.db")
    rig.start_database()
    eventually(lambda: not rig.database.replica.all(Nic) and rig.database.wait_insync(0.1))
    if other:
        rig.database.write([Insert(Cloud(id=uid("cloud"), created=2))])
    said = "the database is another cloud's" if other else "the database is empty, nobody has set it up"
    eventually(lambda: f"{said}: what is in force stays" in agent.log.read_text())
    assert agent.get("/readyz")[1] == {"ready": False, "switch": True, "database": False, "insync": False}
    time.sleep(SETTLING)
    assert_untouched(rig, before, started)
    rig.unplug("tap6")
    eventually(lambda: "in_port=6" not in rig.sandbox.ofctl("dump-flows", BRIDGE, "table=0"))
    rig.stop_database()
    (rig.directory / "kept.db").replace(file)
    rig.start_database()
    agent.wait_ready()
    eventually(lambda: rig.database.replica.get(Nic, uid("web2")))
    rig.wait_nic("web2", "", "")
    assert agent.ports()["tap5"]["state"] == "active"


def test_a_restarted_local_database_changes_nothing(rig: Rig, agent: Manager) -> None:
    before = rig.ages()
    rig.sandbox.stop("ovsdb-server", signal.SIGKILL)
    eventually(lambda: "the switch's database unix:" in agent.log.read_text().partition(" is lost: ")[0])
    time.sleep(SETTLING)
    rig.sandbox.socket.unlink(missing_ok=True)
    rig.sandbox.start_database()
    rig.plug("nag1", 7)
    agent.wait_state("tap7", "active")
    assert set(before) - set(rig.ages()) == set()
    assert agent.log.read_text().count(" is lost: ") == 1
    assert agent.log.read_text().count(" is followed, after ") == 2


def test_a_refused_port_is_closed_and_the_others_go_on(rig: Rig, agent: Manager) -> None:
    before = rig.cookies()
    in_use = sum(flow["table"] == "SOURCE_GUARD" for flow in agent.get("/admin/flows")[1]["flows"])
    limit = ("flow_limit=1000", f"flow_limit={in_use}")
    table = rig.sandbox.vsctl("--bare", "--columns=_uuid", "find", "Flow_Table", "name=SOURCE_GUARD")
    rig.sandbox.vsctl("set", "Flow_Table", table, limit[1], "overflow_policy=refuse")
    port = rig.plug("nag1", 7)
    agent.wait_state(port, "closed", "refused by the switch")
    rig.wait_nic("nag1", "hv1", "closed")
    assert agent.ports()["tap5"]["state"] == "active"
    assert before <= rig.cookies()
    assert "in_port=7" not in rig.sandbox.ofctl("dump-flows", BRIDGE, "table=0")
    rig.sandbox.vsctl("set", "Flow_Table", table, limit[0])
    rig.sandbox.vsctl("set", "Interface", port, "ofport_request=8")
    agent.wait_state(port, "active")


def test_foreign_flows_stay_and_are_reported(rig: Rig, agent: Manager) -> None:
    flow = "cookie=0x1234,table=0,priority=5,in_port=77,actions=drop"
    rig.sandbox.ofctl("add-flow", BRIDGE, flow)
    agent.kill()
    agent.start()
    agent.wait_ready()
    rig.unplug("tap6")
    rig.wait_nic("web2", "", "")
    assert 0x1234 in rig.cookies()
    foreign = [one for one in agent.get("/admin/flows?table=classifier")[1]["flows"] if one["foreign"]]
    assert [one["match"] for one in foreign] == ["in_port=77"]


def test_a_bridge_that_somebody_has_opened_is_closed_again_and_that_is_told(rig: Rig, agent: Manager) -> None:
    before = held(rig)
    assert "somebody else" not in agent.log.read_text()
    rig.sandbox.vsctl("emer-reset")
    eventually(lambda: rig.sandbox.vsctl("get-fail-mode", BRIDGE) == "secure")
    eventually(lambda: held(rig) == before)
    said = f"somebody else has changed bridge {BRIDGE}, which may have let everything pass until now: "
    assert f"{said}controller, fail_mode, other_config:disable-in-band" in agent.log.read_text()
    agent.wait_ready()
    assert "sgctl_bridge_repairs_total 1.0" in agent.get("/metrics")[1]


def test_fragments_are_matched_again_after_somebody_has_changed_that(rig: Rig, agent: Manager) -> None:
    """All fragments would seem to have the ports 0: what a rule for these lets in, and others do not."""
    before = rig.ages()
    rig.sandbox.ofctl("set-frags", BRIDGE, "normal")
    eventually(lambda: "nx-match" in rig.sandbox.ofctl("get-frags", BRIDGE))
    said = "somebody else has changed flows: fragments are not matched by ports"
    eventually(lambda: said in agent.log.read_text())
    assert set(rig.ages()) == set(before)


def test_an_agent_that_hangs_catches_up(rig: Rig, agent: Manager) -> None:
    before, started = rig.ages(), time.monotonic()
    agent.process.send_signal(signal.SIGSTOP)
    rig.plug("nag1", 7)
    time.sleep(SETTLING)
    assert_untouched(rig, before, started)
    agent.process.send_signal(signal.SIGCONT)
    agent.wait_state("tap7", "active")
