# SPDX-License-Identifier: Apache-2.0
"""Rules and members that come and go all the while, and a ledger of what the API has answered."""

from __future__ import annotations

from collections import deque
from itertools import count, cycle
from threading import Event, Thread
from typing import Any, Protocol

from devstack.lab.api import Account
from devstack.lab.cloud import Cloud, Order
from sgctl.cli.errors import CliError
from tests.functional.promised import allow, revoke

PAUSE = 0.15
"""Seconds between two writes."""
RULES, MEMBERS = 6, 4
"""How many of each there are at most."""
_ports = count(20000)
_members = count(1)


class Ground(Protocol):
    """A cloud whose tenant has the groups `web` and `team`."""

    @property
    def cloud(self) -> Cloud:
        """Where new members are to be."""

    @property
    def tenant(self) -> Account:
        """Whose groups change."""


class Changes:
    """Writes through the API until stopped. A write that is refused or not answered may or may not have happened."""

    def __init__(self, scene: Ground) -> None:
        self._scene = scene
        self._rules: deque[str] = deque()
        self._members: deque[str] = deque()
        self._gone: set[str] = set()
        self.answered = self.failed = 0
        self._stopping = Event()
        self._thread: Thread | None = None
        self._broken: Exception | None = None

    def start(self) -> None:
        """Begin to write."""
        self._stopping.clear()
        self._thread = Thread(target=self._run, name="changes")
        self._thread.start()

    def pause(self) -> None:
        """Stop writing; returns when nothing is under way."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._broken is not None:
            raise self._broken

    def _run(self) -> None:
        for step in cycle((self._add_rule, self._add_member, self._drop_rule, self._drop_member)):
            if self._stopping.wait(PAUSE):
                return
            try:
                step()
                self.answered += 1
            except CliError:
                self.failed += 1
            except Exception as error:  # raised by pause, in the thread of who waits for us
                self._broken = error
                return

    def _add_rule(self) -> None:
        self._rules += allow(self._scene.tenant, "web", f"tcp/{20000 + next(_ports) % 20000}", peers=["shop/team"])[:1]

    def _drop_rule(self) -> None:
        if len(self._rules) > RULES:
            rule = self._rules.popleft()
            revoke(self._scene.tenant, [rule])
            self._gone.add(rule)

    def _add_member(self) -> None:
        cloud, name = self._scene.cloud, f"member{next(_members)}"
        order = Order(self._scene.tenant, name, cloud.hypervisors[1], cloud.pod(1), ("team",))
        self._members.append(str(cloud.deploy(order)["id"]))

    def _drop_member(self) -> None:
        if len(self._members) > MEMBERS:
            vm = self._members.popleft()
            self._scene.tenant.call("destroyVirtualMachine", id=vm)
            self._gone.add(vm)

    def lost(self) -> list[str]:
        """Answered writes that the API does not know of; call it while paused."""
        rules, vms = self._present()
        missing = [f"rule {id} is not there" for id in self._rules if id not in rules]
        missing += [f"VM {id} is not there" for id in self._members if id not in vms]
        return missing + [f"{id} is there again" for id in self._gone if id in rules | vms]

    def forget(self) -> None:
        """The database has been replaced: only what it has now counts."""
        rules, vms = self._present()
        self._rules = deque(id for id in self._rules if id in rules)
        self._members = deque(id for id in self._members if id in vms)
        self._gone.clear()

    def _present(self) -> tuple[set[str], set[str]]:
        tenant = self._scene.tenant
        groups: list[dict[str, Any]] = tenant.all("listSecurityGroups", "securitygroup", securitygroupname="web")
        vms = tenant.all("listVirtualMachines", "virtualmachine")
        living = {str(vm["id"]) for vm in vms if vm["state"] not in ("Destroyed", "Expunging")}
        return {str(rule["ruleid"]) for group in groups for rule in group["ingressrule"]}, living
