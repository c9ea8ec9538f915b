# SPDX-License-Identifier: Apache-2.0
"""Which local ports are open: everything about an open one is right, the others say why they are closed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.inputs import Port, Standby
from sgctl.model import Vm
from sgctl.policy import decide
from sgctl.world import PortState, Refusal, State, World
from tests.unit.worlds import mac_of, port, uid, with_nic, world

WEB = world({"web1": ("web",), "web2": ("web",)})
GOOD = port("web2", 2)


def states(of: World) -> dict[str, PortState]:
    return {state.name: state for state in decide(of).ports}


def test_a_good_port_is_open_and_described() -> None:
    state = states(replace(WEB, ports=(port("web1", 1),)))["tap1"]
    assert state == PortState(
        name="tap1", ofport=1, state=State.ACTIVE, nic=uid("web1"), vm="web1", vmid=uid("vm web1"), account="acme",
        mac=mac_of(1), addresses=("10.1.0.11",), groups=("acme/web",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (port("web1", None), "no OpenFlow number yet"),
        (port("web1", None, error="could not open network device tap1"), "could not open"),
        (port("web1", -1), "OpenFlow number -1"),
        (port("web1", 0), "OpenFlow number 0"),
        (port("web1", 65534), "65534"),
        (port("web1", 1, iface_id=None), "no external_ids:iface-id"),
        (port("web1", 1, iface_id=""), "no external_ids:iface-id"),
        (port("web1", 1, iface_id="\x00" * 70000), "is not a UUID"),
        (port("web1", 1, iface_id=uid("nobody")), "no NIC has the id"),
        (port("web1", 1, attached_mac=mac_of(9)), "is not the NIC's"),
        (port("web1", 1, attached_mac="nonsense"), "is not the NIC's"),
    ],
)  # fmt: skip
def test_a_bad_port_is_closed_with_a_short_reason_and_alone(bad: object, reason: str) -> None:
    of = states(replace(WEB, ports=(bad, GOOD)))
    closed = next(state for name, state in of.items() if name != "tap2")
    assert closed.state is State.CLOSED
    assert reason in closed.reason
    assert len(closed.reason) < 200 and closed.reason.isprintable()
    assert of["tap2"].state is State.ACTIVE


@pytest.mark.parametrize("wanted", ["Stopped", "Destroyed", "nonsense"])
def test_the_port_of_a_vm_that_is_not_to_run_is_closed(wanted: str) -> None:
    stopped = {key: replace(vm, wanted=wanted) for key, vm in WEB.vms.items()}
    assert wanted in states(replace(WEB, vms=stopped, ports=(GOOD,)))["tap2"].reason


@pytest.mark.parametrize("missing", ["vms", "pods", "groups"])
def test_what_the_database_does_not_have_closes(missing: str) -> None:
    broken = replace(WEB, ports=(GOOD,), **{missing: {}})  # type: ignore[arg-type]
    assert states(broken)["tap2"].state is State.CLOSED


def test_a_malformed_address_is_left_out_and_shown() -> None:
    rows = tuple(replace(row, address="10.1.0.x") if row.nic == uid("web2") else row for row in WEB.addresses)
    state = states(replace(WEB, ports=(GOOD,), addresses=rows))["tap2"]
    assert (state.state, state.addresses) == (State.ACTIVE, ())
    assert "10.1.0.x" in state.reason


def test_of_two_ports_with_one_iface_id_the_deterministic_one_is_open() -> None:
    first, second = port("web1", 1), port("web1", 2)
    of = states(replace(WEB, ports=(second, first)))
    assert (of["tap1"].state, of["tap2"].state) == (State.ACTIVE, State.CLOSED)
    assert "belongs to port tap1" in of["tap2"].reason
    confirmed = replace(second, attached_mac=mac_of(1))
    of = states(replace(WEB, ports=(first, confirmed)))
    assert (of["tap1"].state, of["tap2"].state) == (State.CLOSED, State.ACTIVE)


def test_a_dead_port_does_not_keep_the_iface_id() -> None:
    of = states(replace(WEB, ports=(port("web1", -1, name="old"), port("web1", 7))))
    assert of["tap7"].state is State.ACTIVE


def test_a_mac_or_address_of_two_nics_is_open_on_one_port_only() -> None:
    twins = with_nic(WEB, "web2", mac=mac_of(1))
    of = states(replace(twins, ports=(port("web1", 1), port("web2", 2))))
    assert (of["tap1"].state, of["tap2"].state) == (State.ACTIVE, State.CLOSED)
    shared = tuple(replace(row, address="10.1.0.50") for row in WEB.addresses)
    of = states(replace(WEB, addresses=shared, ports=(port("web1", 1), port("web2", 2))))
    assert (of["tap1"].state, of["tap2"].state) == (State.ACTIVE, State.CLOSED)


def test_every_nic_of_a_vm_is_protected_by_its_own_groups() -> None:
    """Not only its first one."""
    two = replace(world({"web1": ("web",), "web2": ("db",)}), ports=(port("web1", 1), port("web2", 2)))
    both = with_nic(two, "web2", vm=uid("vm web1"), device=1)
    assert [one.vm for one in states(both).values()] == ["web1", "web1"]
    units = decide(both).units
    first, second = units[f"port/{uid('web1')}"], units[f"port/{uid('web2')}"]
    assert isinstance(first, Port) and isinstance(second, Port)
    assert (first.mac, first.addresses) != (second.mac, second.addresses) and first.policy != second.policy
    assert units == decide(two).units


def test_uplinks_by_option_come_first_and_need_a_number() -> None:
    uplinks = tuple(
        port("web1", number, name=name, iface_id=None, role="uplink")
        for name, number in (("eth2", 2), ("eth1", 1), ("eth0", None))
    )
    of = replace(WEB, ports=uplinks, uplinks=("eth2", "eth9"))
    decision = decide(of)
    assert decision.units["bridge"].uplinks == (2, 1)  # type: ignore[union-attr]
    assert decision.problems == ("uplink eth9: not on the bridge",)
    assert [state.state for state in decision.ports] == [State.UPLINK] * 3
    assert states(of)["eth0"].reason


@pytest.mark.parametrize("role", ["", "Uplink", "uplink ", "uplinks", "up", "nonsense", "\n"])
def test_only_one_word_makes_an_uplink(role: str) -> None:
    """A port that says anything else of itself is filtered as all are."""
    state = states(replace(WEB, ports=(replace(GOOD, role=role),)))["tap2"]
    assert state.state is State.ACTIVE
    assert decide(replace(WEB, ports=(replace(GOOD, role=role),))).units["bridge"].uplinks == ()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("host", "state", "claimed", "expected"),
    [
        ("", "", False, State.ACTIVE),
        ("hv1", "up", False, State.ACTIVE),
        ("hv2", "up", False, State.STANDBY),
        ("hv2", "closed", False, State.ACTIVE),
        ("hv2", "up", True, State.ACTIVE),
    ],
)
def test_a_nic_that_another_host_has_up_is_on_standby(host: str, state: str, claimed: bool, expected: State) -> None:
    of = with_nic(replace(WEB, ports=(GOOD,)), "web2", host=host, state=state)
    decision = decide(replace(of, claimed=frozenset({uid("web2")}) if claimed else frozenset()))
    assert decision.ports[0].state is expected
    kinds = {type(unit) for unit in decision.units.values()} & {Port, Standby}
    assert kinds == {Port if expected is State.ACTIVE else Standby}


def test_a_refused_port_is_closed_until_it_changes() -> None:
    open_ = replace(WEB, ports=(port("web1", 1), GOOD))
    unit = decide(open_).units[f"port/{uid('web2')}"]
    refused = replace(open_, refused={unit.owner: Refusal(unit, "the switch refused")})
    decision = decide(refused)
    assert [state.state for state in decision.ports] == [State.ACTIVE, State.CLOSED]
    assert unit.owner not in decision.units
    assert all(2 not in getattr(one, "ports", ()) for one in decision.units.values())
    moved = replace(refused, ports=(port("web1", 1), replace(GOOD, ofport=3)))
    assert [state.state for state in decide(moved).ports] == [State.ACTIVE, State.ACTIVE]


def test_a_vm_row_without_zone_or_pod_servers_is_still_open() -> None:
    of = replace(WEB, zones={}, ports=(GOOD,))
    assert isinstance(next(iter(of.vms.values())), Vm)
    assert states(of)["tap2"].state is State.ACTIVE
