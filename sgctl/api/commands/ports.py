# SPDX-License-Identifier: Apache-2.0
"""Extensions for operators: the ports of the whole cloud, and waiting until all hypervisors are up to date."""

from sgctl.api import fixed, machines, views
from sgctl.api.barrier import hosts_of_groups
from sgctl.api.command import Answer, Barrier, Call, Mode, Object, command
from sgctl.api.errors import absent, invalid
from sgctl.api.listing import mentions, page, selected
from sgctl.api.owners import LISTING
from sgctl.api.params import ident, integer, text, texts
from sgctl.model import Account, Group, Host, Nic, Vm

UNBOUND = "unbound"
LONGEST = 3600


@command(
    "listPorts",
    "Lists the ports of all VMs, as the hypervisors have reported them.",
    *LISTING,
    ident("nicid", "only the one of this NIC"),
    ident("virtualmachineid", "only those of this VM"),
    text("account", "only those of this account"),
    text("hostname", "only those on this hypervisor"),
    text("state", "up, closed, or unbound: no hypervisor has it"),
    answer="port",
    admin=True,
)
def list_ports(call: Call) -> Answer:
    """A NIC that no hypervisor has reported is there too: its port is missing."""

    def fits(nic: Nic) -> bool:
        return selected(
            call, nicid=nic.id, virtualmachineid=nic.vm, hostname=nic.host, state=nic.state or UNBOUND
        ) and _of(call, nic)

    return page(call, filter(fits, call.draft.all(Nic)), lambda nic: _view(call, nic))


def _of(call: Call, nic: Nic) -> bool:
    if "account" not in call.args and "keyword" not in call.args:
        return True
    account, vm = call.draft.get(Account, nic.account), call.draft.get(Vm, nic.vm)
    name = account.name if account else ""
    return selected(call, account=name) and mentions(call, vm.name if vm else "", nic.mac, nic.host)


def _view(call: Call, nic: Nic) -> Object:
    vm = call.draft.get(Vm, nic.vm)
    hosts = call.draft.find(Host, name=nic.host) if nic.host else []
    down = any(machines.is_down(call, host) for host in hosts)
    return {
        "nicid": nic.id,
        "virtualmachineid": nic.vm,
        "virtualmachinename": vm.name if vm else "",
        **views.owner(call.draft, nic.account),
        "macaddress": nic.mac,
        "ipaddresses": [row.address for row in machines.addresses_of(call.draft, nic)],
        "state": nic.state or UNBOUND,
        **views.given(
            hostname=nic.host,
            hoststate=("Down" if down else "Up") if nic.host else "",
            reason=nic.reason,
            since=fixed.timestamp(nic.since) if nic.since else "",
        ),
    }


@command(
    "createBarrier",
    "Waits until hypervisors have in force all that was changed before.",
    texts("hosts", "names of hypervisors; default: all, or those that the following concerns"),
    ident("securitygroupid", "the hypervisors of its members, and of members of groups whose rules name it"),
    ident("virtualmachineid", "its hypervisor, and those of members of groups whose rules name its groups"),
    integer("timeout", "seconds after which the job fails and names those that are behind; default: 60"),
    answer="",
    mode=Mode.ASYNC,
    admin=True,
)
def create_barrier(call: Call) -> Answer:
    """Nothing is changed but the number that they have to reach; Down ones are waited for as well."""
    known = frozenset(host.name for host in call.draft.all(Host))
    names = frozenset(call.args.texts("hosts"))
    for name in sorted(names - known):
        raise absent("hosts", name)
    concerned = _concerned(call)
    names = names or known if concerned is None else names | concerned & known
    seconds = call.args.integer("timeout")
    if seconds is not None and not 0 <= seconds <= LONGEST:
        raise invalid(f"Invalid parameter timeout: it must be between 0 and {LONGEST}")
    return Barrier({}, names, None if seconds is None else seconds * 1000)


def _concerned(call: Call) -> frozenset[str] | None:
    """The hypervisors that the group and the VM that are named concern; None if neither is."""
    group, vm = call.args.text("securitygroupid"), call.args.text("virtualmachineid")
    if not group and not vm:
        return None
    if group and call.draft.get(Group, group) is None:
        raise absent("securitygroupid", group)
    if vm and call.draft.get(Vm, vm) is None:
        raise absent("virtualmachineid", vm)
    nics = call.draft.find(Nic, vm=vm) if vm else []
    groups = frozenset({group} if group else ()).union(*(nic.groups for nic in nics))
    return hosts_of_groups(call.draft, groups) | {nic.host for nic in nics if nic.host}
