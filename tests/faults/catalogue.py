# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on hypervisors: agents, switches and their databases, ports, and people at the console.

Floors are what Open vSwitch alone costs in user space: a restarted ovs-vswitchd 0.3 s; an ovsdb-server that is away for
0, 0.5, 1, 2, 5 s stops it for 1, 1, 3, 3, 7 s, for it tries again after 1, 2, 4 s.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from random import Random
from time import sleep, time

from devstack.lab import Manager
from devstack.lab.hypervisor import BRIDGE
from devstack.lab.namespace import CommandFailed, wait_for
from devstack.lab.network import BLOCKED
from devstack.lab.segment import add_addresses, wire
from tests.faults.harness import Fault
from tests.faults.scene import Scene
from tests.functional.promised import WORLD, admin, allow, ports, revoke, wait_in_force

TARGET = 1.0
"""Seconds beyond the switch's own floor in which traffic must flow again."""
SWITCH_FLOOR = 0.3
RESETS = 2.0
"""Seconds that resets add to the floor of a switch that is empty: it pauses for one before each time that it connects,
and the last of three resets within a second may meet it just then."""
CALM = 9.0
"""Seconds from the start of a switch's database until its connection is older than the pause before it: 4 s at most
of each, and some to spare."""
CATCHING_UP = 30.0
"""Seconds in which an agent must have caught up with what happened while it, or the database, was away."""
OTHER = 91
"""A port of the other tenant's."""
AUDIT = 6.0
"""Seconds in which flows that somebody has deleted must be there again."""


def restart_agent(scene: Scene, chance: Random, *, kill: bool, number: int, away: float = 0.0) -> None:
    """The first hypervisor's takes the database and the API with it."""
    manager = scene.manager(number)
    if kill:
        manager.kill()
    else:
        assert manager.stop() == 0
    sleep(away)
    manager.start()
    manager.wait_ready()


def freeze_agent(scene: Scene, chance: Random, *, number: int, seconds: float) -> None:
    """It hangs, and then goes on."""
    process = scene.manager(number).process
    process.send_signal(signal.SIGSTOP)
    try:
        sleep(seconds)
    finally:
        process.send_signal(signal.SIGCONT)


def second_agent(scene: Scene, chance: Random) -> None:
    """It must refuse to start and touch nothing."""
    hypervisor = scene.hypervisors[1]
    second = Manager(
        scene.cloud.lab, hypervisor.namespace, "second",
        [f"--ovsdb-connection={hypervisor.ovsdb}", "--host=second", "--db=tcp:10.255.0.1:6641",
         "--ofp-tcp-listen-port=6699", "sgctl.agent"],
        admin_port=8099, environment=hypervisor.environment,
    )  # fmt: skip
    assert second.process.wait(60) == 1
    assert "another sgctl agent works on bridge" in second.tail()


@contextmanager
def passing_rule(scene: Scene, *, within: float) -> Iterator[list[str]]:
    """A rule of a VM on the second hypervisor, to be revoked meanwhile; then new connections end in so many seconds."""
    evil, morgan, near = scene.cloud.accounts["evil"], scene.vm("morgan"), scene.vm("near")
    morgan.serve("tcp", OTHER)

    def seen() -> str:
        return near.probe("tcp", morgan.address(), OTHER, timeout=0.3)

    rules = allow(evil, "open", f"tcp/{OTHER}", cidr=WORLD)
    wait_for("the rule", lambda: seen() == "open")
    yield rules
    wait_for("the rule to be gone", lambda: seen() in BLOCKED, timeout=within)


def revoke_without_agent(scene: Scene, chance: Random) -> None:
    """What was revoked while the agent was away is in force soon after its start."""
    manager, evil = scene.manager(2), scene.cloud.accounts["evil"]
    with passing_rule(scene, within=CATCHING_UP) as rules:
        manager.kill()
        revoke(evil, rules)
        manager.start()
        manager.wait_ready()


def partition(scene: Scene, chance: Random, *, seconds: float) -> None:
    """The second hypervisor is cut off from database and API, which revokes a rule; its VMs go on."""
    device = scene.hypervisors[1].namespace
    with passing_rule(scene, within=CATCHING_UP) as rules:
        device.ip("link set mgmt0 down")
        try:
            revoke(scene.cloud.accounts["evil"], rules)
            sleep(seconds)
        finally:
            device.ip("link set mgmt0 up")


def flapping_link(scene: Scene, chance: Random, *, times: int = 8) -> None:
    """The second hypervisor's way to the database comes and goes, and what is revoked meanwhile ends soon after."""
    device = scene.hypervisors[1].namespace
    with passing_rule(scene, within=CATCHING_UP) as rules:
        for number in range(times):
            device.ip("link set mgmt0 down")
            sleep(chance.uniform(0, 0.3))
            device.ip("link set mgmt0 up")
            sleep(chance.uniform(0, 0.3))
            if number == times // 2:
                revoke(scene.cloud.accounts["evil"], rules)


def restart_switch(scene: Scene, chance: Random, *, kill: bool, number: int) -> None:
    """Flows, connections and meters are gone."""
    scene.hypervisors[number - 1].restart_vswitchd(kill=kill)


def restart_switch_alone(scene: Scene, chance: Random, *, seconds: float) -> None:
    """The agent hangs while the switch starts anew: everything is closed until it goes on."""
    process = scene.manager(1).process
    process.send_signal(signal.SIGSTOP)
    try:
        scene.hypervisors[0].restart_vswitchd(kill=True)
        sleep(seconds)
    finally:
        process.send_signal(signal.SIGCONT)


def restart_ovsdb(scene: Scene, chance: Random, *, number: int, away: float) -> None:
    """The local switch's database.

    ovs-vswitchd begins with a pause of 1 s only if it has heard something of a connection older than its last pause.
    """
    hypervisor = scene.hypervisors[number - 1]
    age = time() - (hypervisor.directory / "ovsdb-server.pid").stat().st_mtime
    sleep(max(0.0, CALM - age))
    hypervisor.vsctl("set", "Open_vSwitch", ".", "external_ids:heard=now")
    hypervisor.vsctl("remove", "Open_vSwitch", ".", "external_ids", "heard")
    hypervisor.stop_ovsdb(kill=True)
    sleep(away)
    hypervisor.start_ovsdb()


def reset_openflow(scene: Scene, chance: Random) -> None:
    """The switch ends its connection to the agent, several times."""
    for hypervisor in scene.hypervisors:
        control = str(hypervisor.directory / "ovs-vswitchd.ctl")
        for _ in range(3):
            hypervisor.appctl("-t", control, "bridge/reconnect", BRIDGE)
            sleep(chance.uniform(0, 0.5))


def delete_flows(scene: Scene, chance: Random, *, match: str, command: str = "del-flows") -> None:
    """Somebody deletes flows by hand; the agent must put them back."""
    hypervisor, agent = scene.hypervisors[0], scene.manager(1)
    hypervisor.ofctl(command, BRIDGE, *([match] if match else []))
    wait_in_force(agent, timeout=5 * AUDIT)


def delete_meters(scene: Scene, chance: Random) -> None:
    """Somebody deletes the meters, and with them the switch deletes the flows that use them."""
    hypervisor = scene.hypervisors[0]

    def meters() -> int:
        return hypervisor.ofctl("dump-meters", BRIDGE).count("meter=")

    before = meters()
    assert before
    delete_flows(scene, chance, match="", command="del-meters")
    wait_for("the meters to be back", lambda: meters() >= before)


def hide_ports(scene: Scene, chance: Random) -> None:
    """Somebody lets the switch show no ports of fragments."""
    hypervisor = scene.hypervisors[0]
    hypervisor.ofctl("set-frags", BRIDGE, "normal")
    wait_for("ports of fragments", lambda: "nx-match" in hypervisor.ofctl("get-frags", BRIDGE), timeout=AUDIT)


def delete_controller(scene: Scene, chance: Random) -> None:
    """Somebody deletes the controller, and with it the switch deletes all flows."""
    hypervisor = scene.hypervisors[0]
    hypervisor.vsctl("del-controller", BRIDGE)
    wait_for("a controller", lambda: hypervisor.vsctl("get-controller", BRIDGE).strip())


def add_flows(scene: Scene, chance: Random) -> None:
    """Somebody adds flows: a foreign one is shown and left alone, one that pretends to be ours is removed."""
    hypervisor, agent = scene.hypervisors[0], scene.manager(1)
    foreign = "table=250,priority=7,ip,nw_src=203.0.113.7"
    hypervisor.ofctl("add-flow", BRIDGE, f"cookie=0x99,{foreign},actions=drop")
    false = f"cookie={0x5C << 56 | 0x1234:#x},table=250,priority=8,ip,nw_src=203.0.113.8,actions=drop"
    hypervisor.ofctl("add-flow", BRIDGE, false)

    def told() -> bool:
        shown = [flow for flow in admin(agent, "/admin/flows?table=250")["flows"] if flow["foreign"]]
        return [flow["cookie"] for flow in shown] == ["0x0000000000000099"]

    try:
        wait_for("the false flow to go, the foreign one to be shown", told, timeout=5 * AUDIT)
    finally:
        hypervisor.ofctl("--strict", "del-flows", BRIDGE, foreign)


def flap(scene: Scene, chance: Random, *, at_once: bool, times: int = 20) -> None:
    """A port that has connections goes and comes back, in one transaction or in two."""
    machine, hypervisor = scene.machine("flapper"), scene.hypervisors[0]
    for version in (4, 6):
        assert scene.vm("near").ping(machine.vm.address(version))
    ids = {"iface-id": machine.nic, "attached-mac": machine.mac}
    settings = [f'external_ids:{name}="{value}"' for name, value in ids.items()]
    add = ["add-port", BRIDGE, machine.port, "--", "set", "Interface", machine.port, *settings]
    for _ in range(times):
        if at_once:
            hypervisor.vsctl("--no-wait", "del-port", machine.port, "--", *add)
        else:
            hypervisor.vsctl("--no-wait", "del-port", machine.port)
            sleep(chance.uniform(0, 0.1))
            hypervisor.vsctl("--no-wait", *add)
        sleep(chance.uniform(0, 0.1))
    wait_port(scene, "active")
    for version in (4, 6):
        wait_for("pings", partial(scene.vm("near").ping, machine.vm.address(version)), step=0.1)


def wait_port(scene: Scene, state: str, of: str = "flapper") -> str:
    """Wait until somebody's port on the first hypervisor has this state; the reason that is given."""
    found: dict[str, str] = {}

    def reached() -> bool:
        status, answer = scene.manager(1).get("/admin/ports")
        name = scene.machine(of).port
        found.update(next((one for one in answer["ports"] if one["name"] == name), {}) if status == 200 else {})
        return found.get("state") == state

    wait_for(f"port of {of} {state}", reached, timeout=30, step=0.05)
    return found["reason"]


def lose_device(scene: Scene, chance: Random) -> None:
    """A port's network device is gone while its row stays, as when QEMU has crashed; then the VM is plugged anew."""
    machine, hypervisor = scene.machine("ghost"), scene.hypervisors[0]
    hypervisor.namespace.ip(f"link del {machine.port}")
    assert "device is gone" in wait_port(scene, "closed", "ghost")
    hypervisor.vsctl("del-port", machine.port)
    wire(machine.vm.namespace, "eth0", hypervisor.namespace, machine.port, mac=machine.mac, far_quiet=True)
    add_addresses(machine.vm.namespace, "eth0", machine.vm.addresses)
    hypervisor._add_port(machine.port, {"iface-id": machine.nic, "attached-mac": machine.mac})
    wait_port(scene, "active", "ghost")
    for version in (4, 6):
        wait_for("pings", partial(scene.vm("near").ping, machine.vm.address(version)), step=0.1)


def spoil_ids(scene: Scene, chance: Random) -> None:
    """Malformed external_ids close this port with a reason, and only as long as they are wrong."""
    machine, hypervisor = scene.machine("flapper"), scene.hypervisors[0]
    good = {"iface-id": machine.nic, "attached-mac": machine.mac}
    for key, value in (
        ("iface-id", "nonsense"), ("attached-mac", "02:00:00:00:00:99"), ("iface-id", "x" * 65000),
        ("attached-mac", "\x07; drop"),
    ):  # fmt: skip
        hypervisor.vsctl("set", "Interface", machine.port, f'external_ids:{key}="{value}"')
        assert wait_port(scene, "closed")
        hypervisor.vsctl("set", "Interface", machine.port, f'external_ids:{key}="{good[key]}"')
        wait_port(scene, "active")


def double_id(scene: Scene, chance: Random) -> None:
    """A second port with the server's iface-id stays closed, and the first goes on."""
    server, hypervisor = scene.machine("server"), scene.hypervisors[0]
    hypervisor.namespace.ip("link add double0 type veth peer name double1", "link set double0 up")
    try:
        hypervisor._add_port("double0", {"iface-id": server.nic, "attached-mac": server.mac})

        def shown() -> bool:
            known = {one["name"]: one for one in admin(scene.manager(1), "/admin/ports")["ports"]}
            return bool(known.get("double0", {}).get("state") == "closed" and server.port in known["double0"]["reason"])

        wait_for("the second port to be closed", shown)
        assert ports(scene.manager(1))["server"]["state"] == "active"
    finally:
        with suppress(CommandFailed):
            hypervisor.unplug("double0")


def agent_restarts(*cases: tuple[int, bool, float]) -> tuple[Fault, ...]:
    """Of these hypervisors, by SIGKILL or not, away for so many seconds."""
    return tuple(
        Fault(
            name=f"agent {number} {'SIGKILL' if kill else 'SIGTERM'}, away {away:g} s",
            inject=partial(restart_agent, kill=kill, number=number, away=away),
        )
        for number, kill, away in cases
    )


def agent_freezes(*cases: tuple[int, float]) -> tuple[Fault, ...]:
    """Of these hypervisors, for so many seconds."""
    return tuple(
        Fault(
            name=f"agent {number} SIGSTOP {seconds:g} s", inject=partial(freeze_agent, number=number, seconds=seconds)
        )
        for number, seconds in cases
    )  # fmt: skip


def switch_restarts(*cases: tuple[int, bool]) -> tuple[Fault, ...]:
    """Of these hypervisors, by SIGKILL or not."""
    return tuple(
        Fault(
            name=f"vswitchd {number} {'SIGKILL' if kill else 'SIGTERM'}",
            inject=partial(restart_switch, kill=kill, number=number), gap=SWITCH_FLOOR + TARGET, forgets=True,
        )
        for number, kill in cases
    )  # fmt: skip


def ovsdb_restarts(*cases: tuple[float, float]) -> tuple[Fault, ...]:
    """Of the first hypervisor's: seconds away, and the floor of that."""
    return tuple(
        Fault(
            name=f"local ovsdb-server away {away:g} s",
            inject=partial(restart_ovsdb, number=1, away=away), gap=floor + TARGET,
        )
        for away, floor in cases
    )  # fmt: skip


AGENT = (
    *agent_restarts((1, True, 0.0), (2, False, 2.0)),
    *agent_freezes((1, 4.0)),
    Fault(name="a second agent", inject=second_agent),
    Fault(name="a rule revoked while agent 2 is away", inject=revoke_without_agent),
    Fault(name="hypervisor 2 cut off for 3 s", inject=partial(partition, seconds=3.0)),
    Fault(name="hypervisor 2's way to the database flaps", inject=flapping_link),
)
SWITCH = (
    *switch_restarts((1, True), (2, False)),
    *ovsdb_restarts((0.0, 1.0)),
    Fault(
        name="vswitchd 1 SIGKILL, its agent hangs 2 s", inject=partial(restart_switch_alone, seconds=2.0),
        gap=2.0 + SWITCH_FLOOR + TARGET, forgets=True,
    ),
    Fault(name="OpenFlow connections reset", inject=reset_openflow, hinders=RESETS),
)  # fmt: skip
PORTS = (
    Fault(name="port flaps in one transaction", inject=partial(flap, at_once=True)),
    Fault(name="port flaps in two transactions", inject=partial(flap, at_once=False)),
    Fault(name="a port's device vanishes", inject=lose_device),
    Fault(name="malformed external_ids", inject=spoil_ids),
    Fault(name="iface-id on two ports", inject=double_id),
)
PEOPLE = (
    Fault(name="rules deleted by hand", inject=partial(delete_flows, match="table=170")),
    Fault(name="all flows deleted by hand", inject=partial(delete_flows, match=""), gap=AUDIT),
    Fault(name="meters deleted by hand", inject=delete_meters, gap=AUDIT),
    Fault(name="flows added by hand", inject=add_flows),
    Fault(name="fragment mode changed by hand", inject=hide_ports),
    Fault(name="controller deleted by hand", inject=delete_controller, gap=TARGET),
)
MORE = (
    *agent_restarts((1, False, 2.0), (2, True, 2.0), (2, False, 0.0), (1, True, 15.0)),
    *agent_freezes((2, 4.0), (1, 25.0), (2, 25.0)),
    *switch_restarts((2, True), (1, False)),
    Fault(name="hypervisor 2 cut off for 40 s", inject=partial(partition, seconds=40.0)),
    *ovsdb_restarts((1.0, 3.0), (5.0, 7.0)),
)
"""Only in long runs."""
