# SPDX-License-Identifier: Apache-2.0
"""What virtual machines are wanted to do. The hypervisors do it; the state shown follows what their switches report."""

from __future__ import annotations

from typing import Any

from sgctl.api import machines
from sgctl.api.command import Answer, Call, Mode, command
from sgctl.api.errors import absent, invalid
from sgctl.api.membership import remove_nic
from sgctl.api.owners import existing, optional, own
from sgctl.api.params import Param, boolean, ident
from sgctl.model import Host, Vm

_ID = ident("id", "the VM", required=True)
_HOST: Param = ident("hostid", "the host it shall run on", admin=True)


def _living(call: Call, param: str = "id") -> Vm:
    vm = own(call, Vm, param)
    if vm.wanted == "Destroyed":
        raise absent(param, vm.id)
    return vm


def _want(call: Call, vm: Vm, **columns: Any) -> Answer:
    changed = call.draft.update(vm, **columns)
    return machines.vm(call.draft, changed, admin=call.caller.admin)


@command(
    "startVirtualMachine",
    "Wants a virtual machine to run.",
    _ID,
    _HOST,
    answer="virtualmachine",
    mode=Mode.ASYNC,
)
def start(call: Call) -> Answer:
    """It is Starting until an agent reports its port."""
    host = optional(call, Host, "hostid")
    return _want(call, _living(call), wanted="Running", wanted_host=host.name if host else "")


@command(
    "stopVirtualMachine",
    "Wants a virtual machine not to run.",
    _ID,
    boolean("forced", "accepted and ignored"),
    answer="virtualmachine",
    mode=Mode.ASYNC,
)
def stop(call: Call) -> Answer:
    """It is Stopping as long as an agent reports its port."""
    return _want(call, _living(call), wanted="Stopped", wanted_host="")


@command(
    "rebootVirtualMachine",
    "Does nothing to a running virtual machine: whoever runs it reboots it.",
    _ID,
    answer="virtualmachine",
    mode=Mode.ASYNC,
)
def reboot(call: Call) -> Answer:
    """Only what runs can be rebooted."""
    vm = _living(call)
    if vm.wanted != "Running":
        raise invalid(f"VM {vm.name} is not running")
    return machines.vm(call.draft, vm, admin=call.caller.admin)


@command(
    "destroyVirtualMachine",
    "Destroys a virtual machine: its NIC, addresses and memberships are free at once.",
    _ID,
    boolean("expunge", "whether it is forgotten at once, too"),
    answer="virtualmachine",
    mode=Mode.ASYNC,
)
def destroy(call: Call) -> Answer:
    """What remains of it is shown as Destroyed, until it is forgotten."""
    vm = own(call, Vm, "id")
    for nic in machines.nics_of(call.draft, vm):
        remove_nic(call.draft, nic)
    destroyed = call.draft.update(vm, wanted="Destroyed", wanted_host="")
    answer = machines.vm(call.draft, destroyed, admin=call.caller.admin)
    if call.args.flag("expunge"):
        call.draft.delete(destroyed)
    return answer


@command(
    "migrateVirtualMachine",
    "Wants a virtual machine to run on another host.",
    ident("virtualmachineid", "the VM", required=True),
    ident("hostid", "the host", required=True),
    answer="virtualmachine",
    mode=Mode.ASYNC,
    admin=True,
)
def migrate(call: Call) -> Answer:
    """It is Migrating until that host's agent reports its port."""
    vm = _living(call, "virtualmachineid")
    if vm.wanted != "Running":
        raise invalid(f"VM {vm.name} is not running")
    return _want(call, vm, wanted_host=existing(call, Host, "hostid").name)
