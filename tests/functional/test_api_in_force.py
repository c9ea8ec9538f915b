# SPDX-License-Identifier: Apache-2.0
"""From an API call to packets: what has been answered as in force is in force, on whatever hypervisor."""

import re
from typing import Any

import pytest

from devstack.lab import Network
from devstack.lab.api import Account
from devstack.lab.example import Example
from devstack.lab.namespace import wait_for
from devstack.lab.network import Cell, probe
from sgctl.cli.errors import ApiError


@pytest.fixture
def shop(example: Example) -> Account:
    return example.cloud.accounts["shop"]


@pytest.fixture
def operator(example: Example) -> Account:
    return example.cloud.accounts["operator"]


def reaches(example: Example, source: str, target: str, service: str) -> bool:
    """What one probe sees, without a second try."""
    (seen,) = probe([Cell(example.vm(source), example.vm(target), service, True)])
    return seen.agrees


def port(number: int, **more: str) -> dict[str, str]:
    return {"protocol": "tcp", "startport": str(number), "endport": str(number), **more}


@pytest.mark.parametrize("number", range(7001, 7003))
def test_a_job_that_waited_tells_the_truth(example: Example, shop: Account, net: Network, number: int) -> None:
    nagios = {"usersecuritygrouplist": "nagios", "account": "operator"}
    rule = port(number, securitygroupname="web", wait="true", **nagios)
    assert not reaches(example, "nagios1", "web1", f"tcp/{number}")
    answer = shop.call("authorizeSecurityGroupIngress", **rule)
    assert (answer["hosts"], answer["milliseconds"] < 20_000) == (2, True)
    net.some(example.vm("nagios1"), example.vm("web1"), f"tcp/{number}")
    net.some(example.vm("nagios1"), example.vm("web2"), f"tcp/{number}")
    net.none(example.vm("cacti1"), example.vm("web1"), f"tcp/{number}")
    net.check(within=0)
    id = answer["securitygroup"]["ingressrule"][0]["ruleid"]
    shop.call("revokeSecurityGroupIngress", id=id, wait="true")
    net.none(example.vm("nagios1"), example.vm("web1"), f"tcp/{number}")
    net.none(example.vm("nagios1"), example.vm("web2"), f"tcp/{number}")
    net.check(within=0)


def change_groups(example: Example, account: Account, vm: str, groups: str) -> Any:
    id = example.machines[vm].id
    return account.call("updateVirtualMachine", id=id, securitygroupnames=groups)["virtualmachine"]


def test_groups_of_a_running_vm_change_at_once(example: Example, shop: Account, operator: Account) -> None:
    rule = port(7010, securitygroupname="web", usersecuritygrouplist="cacti", account="operator", wait="true")
    shop.call("authorizeSecurityGroupIngress", **rule)
    assert not reaches(example, "jump1", "web2", "tcp/7010")
    changed = change_groups(example, operator, "jump1", "default,cacti")
    assert (changed["state"], len(changed["securitygroup"])) == ("Running", 2)
    settle(example)
    assert reaches(example, "jump1", "web2", "tcp/7010")
    change_groups(example, operator, "jump1", "default")
    settle(example)
    assert not reaches(example, "jump1", "web2", "tcp/7010")


def settle(example: Example) -> None:
    """Milliseconds are promised; the machine that runs this test may be busy."""
    example.cloud.admin.call("createBarrier")


def test_a_secondary_address_of_a_running_vm(example: Example, operator: Account) -> None:
    machine = example.machines["nagios1"]
    added = operator.call("addIpToNic", nicid=machine.nic)["nicsecondaryip"]
    other = added["ipaddress"]
    settle(example)
    operator.call("authorizeSecurityGroupIngress", **port(7020, securitygroupname="nagios", cidrlist="0.0.0.0/0"))
    settle(example)
    machine.vm.add_address(f"{other}/24")
    machine.vm.serve("tcp", 7020)
    source = example.vm("outside")
    assert source.probe("tcp", other, 7020) == "open"
    operator.call("removeIpFromNic", id=added["id"])
    settle(example)
    assert source.probe("tcp", other, 7020) in ("timeout", "unreachable")
    machine.vm.remove_address(f"{other}/24")


def test_nothing_is_in_force_while_a_switch_may_decide_by_older_flows(example: Example, shop: Account) -> None:
    hypervisor = example.cloud.hypervisors[0]
    control = hypervisor.directory / "ovs-vswitchd.ctl"
    away = control.rename(control.with_name("away"))
    try:
        shop.call("authorizeSecurityGroupIngress", **port(7030, securitygroupname="web", cidrlist="192.0.2.0/24"))

        def behind() -> set[str]:
            """Who has not answered in a second."""
            with pytest.raises(ApiError) as failed:
                example.cloud.admin.call("createBarrier", timeout="1")
            return set(re.findall(r"\bhv\d+\b", str(failed.value)))

        wait_for("one alone to be behind", lambda: behind() == {hypervisor.name})
    finally:
        away.rename(control)
    settle(example)
    log = example.cloud.managers[hypervisor.name].log.read_text()
    assert "cached decisions may outlive their flows for as long as packets come: no control socket" in log
    assert "the switch forgets cached decisions again" in log
