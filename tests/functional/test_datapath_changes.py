# SPDX-License-Identifier: Apache-2.0
"""What an event costs in flow mods, and that this does not depend on how much else there is.

The switch itself is asked: flows that came and went by their cookies, and by their ages that no other was sent again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from devstack.lab import Lab
from devstack.lab.cloud import Machine, Order
from devstack.lab.namespace import wait_for
from tests.functional.promised import allow, metric, revoke, two_hypervisors, wait_port

PORT_FLOWS = 46
"""A port with an IPv4, an IPv6 and a link-local address may cost this much, its part of the fan-out included."""
ADDRESS_FLOWS = 15
PRESENT = 2
"""How many ports there are at first."""
CROWD = 8
"""How many more ports, rules and members the second measurement has."""
QUIET, LOOKS = 0.4, 4
"""Seconds and looks without a change after which an event is over; the agent's own reaction to it takes 50 ms."""
_AGE = re.compile(r"cookie=(0x[0-9a-f]+), duration=([\d.]+)s")


@dataclass(slots=True)
class Cost:
    """How many flows came and went."""

    came: int = 0
    went: int = 0


class Shop:
    """One hypervisor and tenant; members of `web` are on it, members of `clients` need no port to count."""

    def __init__(self, lab: Lab) -> None:
        self.cloud = two_hypervisors(lab, pods=1)
        self.tenant = self.cloud.create_account("shop", ["web", "clients"])
        self.manager = self.cloud.managers["hv1"]
        self.host = self.cloud.hypervisors[0]
        self.rules = allow(self.tenant, "web", "tcp/12489", peers=["shop/clients"])
        self._names = iter(range(1000))

    def ages(self) -> dict[int, float]:
        """For how many seconds each flow has been in the switch, by cookie."""
        return {int(cookie, 16): float(age) for cookie, age in _AGE.findall(self.host.ofctl("dump-flows", "br-int"))}

    def deploy(self, group: str) -> tuple[Order, dict[str, Any]]:
        """A VM whose card is not plugged in, and what the API says of it."""
        order = Order(self.tenant, f"vm{next(self._names)}", self.host, self.cloud.pod(1), (group,))
        return order, self.cloud.deploy(order)

    def open(self) -> Machine:
        """A VM of `web` on this hypervisor, whose port is open."""
        machine = self.cloud._plug(*self.deploy("web"))
        wait_port(self.cloud, self.host, machine.order.name, "active")
        return machine

    def destroy(self, vm: str) -> None:
        """The VM is no more."""
        self.tenant.call("destroyVirtualMachine", id=vm)

    @contextmanager
    def cost(self) -> Iterator[Cost]:
        """What happens within; ends when nothing has changed for a while."""
        before, sent, started = self.ages(), self._sent(), time.monotonic()
        cost = Cost()
        yield cost
        now, after = self._settled(before)
        cost.came, cost.went = len(after.keys() - before.keys()), len(before.keys() - after.keys())
        again = [hex(cookie) for cookie in after.keys() & before.keys() if after[cookie] < now - started - QUIET]
        assert not again, f"flows that were there already were sent again: {again}"
        assert (cost.came, cost.went) == tuple(now - then for now, then in zip(self._sent(), sent, strict=True))

    def _sent(self) -> tuple[int, int]:
        return (
            metric(self.manager, "sgctl_flow_mods_total", '{kind="add"}'),
            metric(self.manager, "sgctl_flow_mods_total", '{kind="delete"}'),
        )

    def _settled(self, before: dict[int, float]) -> tuple[float, dict[int, float]]:
        """The flows after something has changed and then nothing any more, and when they were asked for."""
        seen, since, looks = before, time.monotonic(), 0

        def quiet() -> bool:
            nonlocal seen, since, looks
            now = self.ages()
            looks += 1
            if now.keys() != seen.keys():
                seen, since, looks = now, time.monotonic(), 0
            return seen.keys() != before.keys() and time.monotonic() - since > QUIET and looks >= LOOKS

        wait_for("the switch to change and settle", quiet, step=0.05)
        return time.monotonic(), self.ages()


@pytest.fixture(scope="module")
def shop(module_lab: Lab) -> Shop:
    shop = Shop(module_lab)
    for _ in range(PRESENT):
        shop.open()
    shop.deploy("clients")
    return shop


@pytest.fixture(scope="module")
def few(shop: Shop) -> dict[str, Cost]:
    """What events cost where there is little else."""
    return measured(shop)


@pytest.fixture(scope="module")
def many(shop: Shop, few: dict[str, Cost]) -> dict[str, Cost]:
    """What the same events cost among more ports, rules and members."""
    for number in range(CROWD):
        shop.open()
        shop.deploy("clients")
        allow(shop.tenant, "web", f"tcp/{1000 + number}", peers=["shop/clients"])
        allow(shop.tenant, "web", f"tcp/{2000 + number}", cidr="198.51.100.0/24")
    return measured(shop)


def measured(shop: Shop) -> dict[str, Cost]:
    """The cost of each kind of event."""
    costs: dict[str, Cost] = {}

    @contextmanager
    def event(name: str) -> Iterator[None]:
        with shop.cost() as costs[name]:
            yield

    with event("port added"):
        port = shop.open()
    with event("address added"):
        address = shop.tenant.call("addIpToNic", nicid=port.nic)["nicsecondaryip"]
    with event("address removed"):
        shop.tenant.call("removeIpFromNic", id=str(address["id"]))
    with event("port removed"):
        shop.host.unplug(port.port)
    shop.destroy(port.id)
    with event("member joins"):
        _, member = shop.deploy("clients")
    with event("member leaves"):
        shop.destroy(str(member["id"]))
    for name, protocol in (("rule", "tcp/80"), ("range", "tcp/8001-8006")):
        with event(f"{name} added"):
            rules = allow(shop.tenant, "web", protocol, cidr="192.0.2.0/24")
        with event(f"{name} removed"):
            revoke(shop.tenant, rules)
    return costs


def test_each_event_costs_what_it_must(few: dict[str, Cost]) -> None:
    """A rule costs its masks (8001-8006 has four) and a flow for later fragments, a member one flow per address."""
    assert few["port added"].came <= PORT_FLOWS and few["port added"].went <= 2
    assert few["address added"].came <= ADDRESS_FLOWS and few["address added"].went == 0
    assert (few["rule added"], few["range added"]) == (Cost(2, 0), Cost(5, 0))
    assert few["member joins"] == Cost(2, 0)


def test_what_is_undone_is_gone(few: dict[str, Cost]) -> None:
    undone = {"port added": "port removed", "address added": "address removed", "member joins": "member leaves",
              "rule added": "rule removed", "range added": "range removed"}  # fmt: skip
    assert {few[done].came for done in undone} != {0}
    assert [(few[back].came, few[back].went) for back in undone.values()] == [
        (few[done].went, few[done].came) for done in undone
    ]


def test_the_cost_does_not_depend_on_the_rest(few: dict[str, Cost], many: dict[str, Cost]) -> None:
    assert many == few
