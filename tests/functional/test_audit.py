# SPDX-License-Identifier: Apache-2.0
"""Somebody changes flows by hand: audits find it, repair it, log it and count it."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flows.tables import CLASSIFIER, STATE
from tests.functional.agent_rig import BRIDGE, Manager, Rig
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import mac_of, world

pytestmark = pytest.mark.functional
INTERVAL = 1
FOREIGN = "table=0,priority=7,in_port=77 actions=drop"


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(world({"web1": ("web",)})) as rig:
        rig.plug("web1", 1, mac_of(1))
        yield rig


@pytest.fixture(scope="module")
def manager(rig: Rig) -> Manager:
    manager = rig.manager(f"--audit-interval={INTERVAL}")
    manager.wait_state("tap1", "active")
    return manager


def flows(rig: Rig, match: str = "") -> list[str]:
    """What the switch holds, without counters, as ovs-ofctl reads it back."""
    text = rig.sandbox.ofctl("dump-flows", BRIDGE, *filter(None, [match]), "--no-stats", "--sort")
    return sorted(line.strip() for line in text.splitlines()[1:] if "actions=" in line)


def count(manager: Manager, kind: str) -> float:
    found = re.search(rf'sgctl_audit_repairs_total{{kind="{kind}"}} ([\d.]+)', manager.get("/metrics")[1])
    assert found
    return float(found[1])


def classifier(rig: Rig) -> str:
    """A flow of the port that lets IPv4 in, in ovs-ofctl's words."""
    found = flows(rig, f"table={CLASSIFIER.id}")
    return next(one for one in found if "in_port=1,dl_src" in one and ",ip," in one + ",")


def parts(flow: str) -> tuple[str, str]:
    """The cookie and the match with its priority."""
    found = re.match(r"cookie=(\w+), (?:table=\d+, )?(\S+) actions=", flow)
    assert found, flow
    return found[1], found[2]


def meters_of(rig: Rig) -> list[str]:
    return sorted(rig.sandbox.ofctl("dump-meters", BRIDGE).split("meter=")[1:])


@contextmanager
def unseen(manager: Manager) -> Iterator[None]:
    """The agent looks at nothing meanwhile."""
    manager.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        manager.process.send_signal(signal.SIGCONT)


def audited(manager: Manager, times: int = 1) -> None:
    """Wait until so many audits have passed."""

    def audits() -> float:
        found = re.search(r"sgctl_audits_total ([\d.]+)", manager.get("/metrics")[1])
        return float(found[1]) if found else 0.0

    target = audits() + times
    eventually(lambda: audits() >= target)


def test_nothing_to_repair(rig: Rig, manager: Manager) -> None:
    """Every flow is read back as it was meant; an audit of a healthy switch touches nothing."""
    before = rig.ages()
    audited(manager, 2)
    assert set(rig.ages()) == set(before)
    assert all(rig.ages()[cookie] >= age for cookie, age in before.items())
    assert [count(manager, kind) for kind in ("missing", "changed", "intruder", "foreign")] == [0, 0, 0, 0]
    assert "in other words" not in manager.log.read_text()


def test_changed_actions(rig: Rig, manager: Manager) -> None:
    before, done = flows(rig), count(manager, "changed")
    cookie, _ = parts(classifier(rig))
    with unseen(manager):
        rig.sandbox.ofctl("mod-flows", BRIDGE, f"cookie={cookie}/-1,table=0,actions=drop")
        assert flows(rig) != before
    eventually(lambda: flows(rig) == before)
    eventually(lambda: count(manager, "changed") == done + 1)
    assert "changed, should be: table=0,priority=2000,in_port=1" in manager.log.read_text()


def test_a_deleted_flow(rig: Rig, manager: Manager) -> None:
    before = flows(rig)
    with unseen(manager):
        rig.sandbox.ofctl("del-flows", BRIDGE, f"table={STATE.id}")
        assert flows(rig) != before
    eventually(lambda: flows(rig) == before)


def test_all_flows_deleted(rig: Rig, manager: Manager) -> None:
    before = flows(rig)
    rig.sandbox.ofctl("del-flows", BRIDGE)
    eventually(lambda: flows(rig) == before)


def test_an_intruder_under_a_cookie_of_ours(rig: Rig, manager: Manager) -> None:
    """A copy of a cookie with another match, which reading cookies back cannot tell, and one with a made-up cookie."""
    before = flows(rig)
    cookie, _ = parts(classifier(rig))
    with unseen(manager):
        rig.sandbox.ofctl("add-flow", BRIDGE, f"cookie={cookie},table=0,priority=40000,in_port=9,actions=8")
        rig.sandbox.ofctl("add-flow", BRIDGE, "cookie=0x5c00000000000bad,table=0,priority=40001,in_port=9,actions=8")
        assert len(flows(rig)) == len(before) + 2
    eventually(lambda: flows(rig) == before)


def test_an_intruder_in_the_place_of_a_flow(rig: Rig, manager: Manager) -> None:
    """Adding a flow with our match replaces ours: it is put back, and the other is not deleted with it."""
    before = flows(rig)
    _, match = parts(classifier(rig))
    rig.sandbox.ofctl("add-flow", BRIDGE, f"cookie=0x77,table=0,{match},actions=NORMAL")
    eventually(lambda: flows(rig) == before)


def test_a_deleted_meter_takes_its_flows_along(rig: Rig, manager: Manager) -> None:
    before, meters = flows(rig), meters_of(rig)
    assert [one.split()[0] for one in meters] == ["4", "5", "6", "7"]
    rig.sandbox.ofctl("del-meters", BRIDGE)
    eventually(lambda: flows(rig) == before)
    assert meters_of(rig) == meters


def test_foreign_flows_are_reported_and_stay(rig: Rig, manager: Manager) -> None:
    rig.sandbox.ofctl("add-flow", BRIDGE, f"cookie=0x99,{FOREIGN}")
    eventually(lambda: "there is a flow that is not sgctl's" in manager.log.read_text())
    audited(manager, 2)
    assert any("cookie=0x99" in one for one in flows(rig))
    assert "sgctl_foreign_cookies 1.0" in manager.get("/metrics")[1]


def test_foreign_flows_are_removed_by_option(rig: Rig, manager: Manager) -> None:
    """A restart with the option; a foreign flow beside ours in the same table goes, and nothing else."""
    rig.sandbox.ofctl("add-flow", BRIDGE, f"cookie=0x99,{FOREIGN}")
    ours = [one for one in flows(rig) if "cookie=0x99" not in one]
    manager.stop()
    other = rig.manager(f"--audit-interval={INTERVAL}", "--remove-foreign-flows")
    eventually(lambda: flows(rig) == ours)
    eventually(lambda: count(other, "foreign") == 1)
    assert other.stop() == 0
