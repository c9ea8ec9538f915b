# SPDX-License-Identifier: Apache-2.0
"""The cloud of `make demo` and `make lab`: two tenants, an operator, and what each of them promises to whom."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from devstack.lab.cloud import Cloud, Machine, Order
from devstack.lab.namespace import Lab
from devstack.lab.network import Cell
from devstack.lab.vm import VM

AGENT_PORT = "tcp/12489"
SERVICES = (AGENT_PORT, "tcp/80", "tcp/5432", "icmp")
MISSION_RULE = (
    "sgctl authorize securitygroupingress securitygroupname=web account=operator "
    "usersecuritygrouplist=nagios,cacti protocol=tcp startport=12489"
)
ACCOUNTS = {"shop": ("web", "db"), "blog": ("web",), "operator": ("nagios", "cacti")}
VMS = (
    # name, account, groups, hypervisor (and pod) number
    ("web1", "shop", ("web",), 1),
    ("web2", "shop", ("web",), 2),
    ("db1", "shop", ("db",), 1),
    ("blog1", "blog", ("web",), 2),
    ("cacti1", "operator", ("cacti",), 1),
    ("nagios1", "operator", ("nagios",), 2),
    ("jump1", "operator", (), 1),
)
WORLD = "0.0.0.0/0,::/0"
RULES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("shop", "web", {"protocol": "tcp", "startport": "80", "endport": "80", "cidrlist": WORLD}),
    ("shop", "web", {"protocol": "icmp", "icmptype": "-1", "icmpcode": "-1", "cidrlist": WORLD}),
    ("shop", "db", {
        "protocol": "tcp", "startport": "5432", "endport": "5432",
        "usersecuritygrouplist[0].account": "shop", "usersecuritygrouplist[0].group": "web",
    }),
    ("blog", "web", {"protocol": "tcp", "startport": "80", "endport": "80", "cidrlist": WORLD}),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Example:
    """The built cloud and its machines by name; `outside` stands for the rest of the world."""

    cloud: Cloud
    machines: dict[str, Machine]
    outside: VM

    def vm(self, name: str) -> VM:
        """A machine by name."""
        return self.outside if name == self.outside.name else self.machines[name].vm

    def cells(self, *, services: tuple[str, ...] = SERVICES, monitored: bool) -> Iterator[Cell]:
        """Everybody to every VM on every service, over IPv4 and IPv6; `monitored`: the mission's rule is there."""
        for source in (*self.machines, self.outside.name):
            for target in self.machines:
                for service in services if source != target else ():
                    reachable = promised(source, target, service, monitored=monitored)
                    for version in (4, 6):
                        yield Cell(self.vm(source), self.vm(target), service, reachable, version)


def promised(source: str, target: str, service: str, *, monitored: bool) -> bool:
    """Whether the rules let `source` in: written down by hand, not computed from RULES."""
    if target in ("web1", "web2"):
        return service in ("tcp/80", "icmp") or (
            service == AGENT_PORT and monitored and source in ("nagios1", "cacti1")
        )
    if target == "db1":
        return service == "tcp/5432" and source in ("web1", "web2")
    return target == "blog1" and service == "tcp/80"


def build(lab: Lab, say: Callable[[str], None]) -> Example:
    """The cloud with its VMs up and all rules but the mission's in place; `say` hears of each step before it."""
    say("two pods behind a router, a dnsmasq in each")
    cloud = Cloud(lab)
    pods = [cloud.add_pod(), cloud.add_pod()]
    outside = cloud.add_outside()
    say("two hypervisors: ovsdb-server and ovs-vswitchd in each")
    for pod in pods:
        cloud.add_hypervisor(pod)
    say("sgctl-manager on each, the first with database and API")
    cloud.start()
    say("through the API: a zone, its pods and address ranges")
    cloud.register()
    say(f"accounts {', '.join(ACCOUNTS)} with their groups and rules")
    for name, groups in ACCOUNTS.items():
        cloud.create_account(name, groups)
    for account, group, rule in RULES:
        cloud.accounts[account].call("authorizeSecurityGroupIngress", securitygroupname=group, **rule)
    say(f"{len(VMS)} VMs: deployed, plugged in, addresses by DHCPv4 and DHCPv6")
    machines = cloud.boot([
        Order(cloud.accounts[account], name, cloud.hypervisors[number - 1], cloud.pod(number), groups)
        for name, account, groups, number in VMS
    ])  # fmt: skip
    say("the API reports all of them Running, each on its host")
    cloud.wait_running(machines)
    for machine in machines:
        for service in SERVICES[:-1]:
            machine.vm.serve("tcp", int(service.partition("/")[2]))
    return Example(cloud, {machine.vm.name: machine for machine in machines}, outside)
