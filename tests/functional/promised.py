# SPDX-License-Identifier: Apache-2.0
"""What the tests of the README's promises share: a cloud, rules in few words, expectations, and the switches' truth."""

import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import ip_interface
from typing import Any

from scapy.layers.l2 import Ether

from devstack.lab import VM, Hypervisor, Lab, Manager, Network
from devstack.lab.agent import Stream
from devstack.lab.api import Account
from devstack.lab.cloud import Cloud, Machine, Order, Pod
from devstack.lab.namespace import PATIENCE, wait_for

WORLD = "0.0.0.0/0,::/0"
BOTH = (4, 6)
"""Every promise holds for IPv4 and IPv6."""
GLANCE = 0.3
"""Seconds without an answer after which a probe is made again."""
CHANGES = 15.0
"""Seconds that a change may be on its way to the switches, on a busy machine."""


def two_hypervisors(lab: Lab, *, pods: int = 2, zones: int = 1) -> Cloud:
    """A started and registered cloud of two hypervisors, each in a pod of its own or both in one."""
    cloud = Cloud(lab)
    made = [cloud.add_pod() for _ in range(pods)]
    for number in range(2):
        cloud.add_hypervisor(made[number % pods])
    cloud.start()
    cloud.register(zones=zones)
    return cloud


@contextmanager
def promised_cloud(lab: Lab, *, pods: int = 2, zones: int = 1) -> Iterator[Cloud]:
    """The same for a module of tests, after which a recompute from nothing must find nothing to change."""
    cloud = two_hypervisors(lab, pods=pods, zones=zones)
    yield cloud
    check_recompute(cloud)


def order(cloud: Cloud, account: Account, name: str, host: int, *groups: str) -> Order:
    """A VM on the hypervisor with this number, in that hypervisor's pod; no groups: the account's default."""
    pod = cloud.pod(min(host, len(cloud.pods)))
    return Order(account, name, cloud.hypervisors[host - 1], pod, groups)


def boot(cloud: Cloud, *orders: Order) -> list[VM]:
    """VMs that run, with the addresses that DHCP gave them."""
    machines = cloud.boot(orders)
    cloud.wait_running(machines)
    return [machine.vm for machine in machines]


def services(protocol: str) -> dict[str, str]:
    """The parameters of a rule for ``tcp/80``, ``udp/53``, ``icmp`` or ``all``."""
    name, _, ports = protocol.partition("/")
    first, _, last = ports.partition("-")
    if name == "icmp":
        return {"protocol": "icmp", "icmptype": "-1", "icmpcode": "-1"}
    return {"protocol": name, **({"startport": first, "endport": last or first} if ports else {})}


def allow(
    account: Account, group: str, *protocols: str, cidr: str = "", peers: Iterable[str] = (), egress: bool = False
) -> list[str]:
    """Add rules to a group of `account` for each protocol; `peers` are ``account/group``; the ids of the new rules."""
    peer = {"cidrlist": cidr} if cidr else {}
    for number, one in enumerate(peers):
        owner, _, name = one.partition("/")
        peer |= {f"usersecuritygrouplist[{number}].account": owner, f"usersecuritygrouplist[{number}].group": name}
    found: list[str] = []
    for protocol in protocols:
        way = "Egress" if egress else "Ingress"
        answer = account.call(
            f"authorizeSecurityGroup{way}", securitygroupname=group, **services(protocol), **peer
        )["securitygroup"]  # fmt: skip
        found += [str(rule["ruleid"]) for rule in answer[f"{way.lower()}rule"]]
    return found


def revoke(account: Account, rules: Iterable[str], *, egress: bool = False) -> None:
    """Remove rules."""
    for rule in rules:
        account.call(f"revokeSecurityGroup{'Egress' if egress else 'Ingress'}", id=rule)


def expect(net: Network, *, timeout: float = 0.5) -> None:
    """All cells agree, and do so again: none of them was right by chance while a change was on its way.

    The first time finds out when that is over, and does not wait as long for answers that are not to come. Where those
    come late too, on a busy machine, it was not over yet: then it is looked at again, for as long as changes may take.
    """
    cells = list(net.cells)
    net.check(timeout=min(timeout, GLANCE))
    deadline = time.monotonic() + CHANGES
    while True:
        net.cells = list(cells)
        try:
            net.check(within=0, timeout=timeout)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        else:
            return


def goes_on(*streams: Stream, answers: int = 20) -> None:
    """Wait until each of these streams has got that many further answers."""
    wanted = [stream.report().received + answers for stream in streams]
    for stream, number in zip(streams, wanted, strict=True):
        wait_for("the connection goes on", lambda one=stream, n=number: one.report().received >= n)


def admin(manager: Manager, path: str) -> Any:
    """An answer of an agent's admin endpoint."""
    status, answer = manager.get(path)
    assert status == 200, answer
    return answer


def metric(manager: Manager, name: str, label: str = "") -> int:
    """A metric of an agent; 0 if it has not been counted yet."""
    found = re.search(rf"^{name}{re.escape(label)} ([0-9.e+]+)$", admin(manager, "/metrics"), re.MULTILINE)
    return round(float(found[1])) if found else 0


def amiss(manager: Manager) -> str:
    """Why the switch does not hold every desired flow, and nothing but them and what it has learned itself; or "".

    One answer says both: what was desired a moment later need not be the same, where rules come and go all the while.
    """
    status, ready = manager.get("/readyz")
    if status != 200:
        return f"not ready: {ready}"
    answer = admin(manager, "/admin/flows")
    own = sum(flow["owner"] not in ("learned", "") for flow in answer["flows"])
    foreign = [flow for flow in answer["flows"] if flow["foreign"]]
    return "" if own == answer["desired"] and not foreign else f"{own} of {answer['desired']} flows, foreign: {foreign}"


def wait_in_force(*managers: Manager, timeout: float = PATIENCE) -> None:
    """Wait until nothing is amiss on any of these hypervisors."""
    for manager in managers:
        said = deque([""], maxlen=3)

        def well(one: Manager = manager, said: deque[str] = said) -> bool:
            said.append(amiss(one))
            return not said[-1]

        try:
            wait_for(f"{manager.name}: installed flows are the desired ones", well, timeout=timeout, step=0.05)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; last {list(said)}") from error


def check_recompute(cloud: Cloud) -> None:
    """Restarted agents compute everything anew, and find nothing to change in their switches.

    What NICs have brought along from other hypervisors ends by itself at any moment, also while no agent is there.
    """
    before = {name: lasting(manager) for name, manager in cloud.managers.items()}
    for manager in reversed(cloud.managers.values()):
        manager.stop()
    for manager in cloud.managers.values():
        manager.start()
    for name, manager in cloud.managers.items():
        manager.wait_ready()
        sent = {kind: metric(manager, "sgctl_flow_mods_total", f'{{kind="{kind}"}}') for kind in ("add", "delete")}
        stayed, brought = before[name]
        assert sorted(lasting(manager)[0] ^ stayed) == [], f"{name}: a recompute changes flows"
        assert brought or sent == {"add": 0, "delete": 0}, f"{name}: a recompute sends flows"


def lasting(manager: Manager) -> tuple[set[str], int]:
    """The installed flows in words, and the number of those that end by themselves, which are not among them."""
    texts, brought = set(), 0
    for flow in admin(manager, "/admin/flows")["flows"]:
        kind = flow["owner"].partition("/")[0]
        brought += kind in ("moved", "resumed")
        if kind not in ("learned", "moved", "resumed"):
            texts.add(f"{flow['owner']}: {flow['table']} {flow['priority']} {flow['match']} {flow['actions']}")
    return texts, brought


def ports(manager: Manager) -> dict[str, dict[str, Any]]:
    """An agent's ports by the name of their VM."""
    return {port["vm"]: port for port in admin(manager, "/admin/ports")["ports"] if port["vm"]}


def wait_port(cloud: Cloud, host: Hypervisor, vm: str, state: str) -> None:
    """Wait until the port of a VM on a hypervisor is in this state."""
    manager = cloud.managers[host.name]
    wait_for(f"{vm} {state} on {host.name}", lambda: ports(manager).get(vm, {}).get("state") == state, step=0.05)


def group_ids(account: Account, *names: str) -> str:
    """The ids of groups of an account, as lists are written in the API."""
    known = {group["name"]: str(group["id"]) for group in account.all("listSecurityGroups", "securitygroup")}
    return ",".join(known[name] for name in names)


def regroup(machine: Machine, *groups: str) -> None:
    """Change the groups of a VM while it runs."""
    owner = machine.order.account
    owner.call("updateVirtualMachine", id=machine.id, securitygroupids=group_ids(owner, *groups))


def server_of(pod: Pod, version: int) -> str:
    """The address of a pod's DHCP and DNS server."""
    return next(one for one in map(ip_interface, pod.server.addresses) if one.version == version).ip.compressed


def gateway_mac(cloud: Cloud, pod: Pod) -> str:
    """The MAC of the router in a pod."""
    return cloud.router.namespace.run("ip", "-br", "link", "show", "dev", pod.segment.name).split()[2]


def path(cloud: Cloud, source: VM, target: VM) -> Ether:
    """The Ethernet header with which a VM's packets to another leave it: to it, or to the router of its own pod."""
    mine, its = cloud.machines[source.name], cloud.machines[target.name]
    pod = mine.order.pod
    return Ether(src=mine.mac, dst=its.mac if pod is its.order.pod else gateway_mac(cloud, pod))
