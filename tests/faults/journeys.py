# SPDX-License-Identifier: Apache-2.0
"""How VMs move: live, given up, back and forth, two at once, and from a hypervisor that is lost.

Each step is told to `Journey.at`, where troubles begin. Whatever happens, a port whose VM has not come yet carries
nothing, and what a copy on a hypervisor that was lost says reaches nobody once that hypervisor is back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Thread
from time import monotonic, sleep

from devstack.lab import Hypervisor
from devstack.lab.mobile import Mobile
from devstack.lab.namespace import wait_for
from tests.faults.fleet import CLIENTS, Fleet
from tests.faults.intruders import Copy
from tests.faults.troubles import Roles, Trouble, Underway
from tests.faults.watch import Seen, Watch

PATIENCE = 90.0
"""Seconds that a step may take while something goes wrong."""
STARTING = 30.0
"""Seconds in which a VM whose hypervisor is lost works elsewhere."""
COPIES = True
COPY = 1.5
"""Seconds for which a VM that is started elsewhere goes on speaking where it was."""
SILENCE = 0.3
"""Seconds for which a place that the VM has left must carry nothing."""


ANNOUNCED_AGAIN = (0.05, 0.15, 0.25, 0.35)
"""Pauses between the announcements that QEMU makes of a guest that has come (announce-initial, -step and -rounds)."""


@dataclass(slots=True)
class Journey:
    """Where VMs go, and what goes wrong meanwhile. seen: what has been delivered to each, by VM.

    hurry: nobody waits until the new port is on standby.  overlaps: seconds for which both places of a VM had traffic.
    """

    fleet: Fleet
    watches: dict[str, Watch]
    goals: dict[str, Hypervisor]
    troubles: Sequence[Trouble] = ()
    hurry: bool = False
    seen: dict[str, Seen] = field(default_factory=dict)
    overlaps: list[float] = field(default_factory=list)
    underway: Underway = field(default_factory=Underway)
    _announcing: list[Thread] = field(default_factory=list)
    _roles: Roles | None = None

    def mobile(self, name: str) -> Mobile:
        """A VM that moves."""
        return self.fleet.mobiles[name]

    def look(self) -> None:
        """Take what has been delivered up to now."""
        for name, watch in self.watches.items():
            self.seen.setdefault(name, Seen()).__iadd__(watch.seen())

    def at(self, step: str) -> None:
        """What goes wrong at this step, does so now."""
        assert self._roles is not None
        for trouble in self.troubles:
            if trouble.step == step:
                self.underway.begin(trouble, self.fleet, self._roles)

    def live(self) -> None:
        """They all move."""
        sources = self._plug()
        for name, goal in self.goals.items():
            self._run(name, goal)
        self.at("arrived")
        self._arrive(self.goals)
        self._close(sources)
        self.overlaps = [self.seen[name].overlap(one.name, self.goals[name].name) for name, one in sources.items()]

    def give_up(self) -> None:
        """Their ports at the new place go again."""
        sources = self._plug()
        self.at("arrived")
        for name, goal in self.goals.items():
            self.mobile(name).unplug(goal)
        self.at("open")
        self.at("closed")
        for name, source in sources.items():
            self._wait(source, name, "active")
        self.underway.wait()
        self._carried_nothing(self.goals)

    def back_and_forth(self, pauses: Sequence[float]) -> None:
        """They come, and go back, and come again, while both ports stay; they end at one of them."""
        sources = self._plug()
        where = self.goals
        for number, pause in enumerate(pauses):
            where = sources if number % 2 else self.goals
            for name, host in where.items():
                self._run(name, host)
            if number == 0:
                self.at("arrived")
            sleep(pause)
        self._arrive(where)
        self._close({name: self.goals[name] if where is sources else sources[name] for name in where})

    def _run(self, name: str, host: Hypervisor) -> None:
        """The VM runs there now, and QEMU says so several times, as long as it does."""
        mobile = self.mobile(name)
        mobile.run_on(host)
        self._announcing.append(Thread(target=_announce, args=(mobile, host)))
        self._announcing[-1].start()

    def _plug(self) -> dict[str, Hypervisor]:
        """Ports at the new places, on standby; where the VMs are."""
        sources: dict[str, Hypervisor] = {}
        for name, goal in self.goals.items():
            host = self.mobile(name).host
            assert host is not None and host is not goal
            sources[name] = host
            self._roles = self._roles or Roles(host, goal)
            self.mobile(name).plug(goal)
        self.at("plugged")
        if not self.hurry:
            for name, goal in self.goals.items():
                self._wait(goal, name, "standby")
        self.at("waiting")
        self._carried_nothing(self.goals)
        return sources

    def _carried_nothing(self, goals: dict[str, Hypervisor]) -> None:
        self.look()
        for name, goal in goals.items():
            carried = self.seen[name].count(goal.name)
            assert not carried, f"{carried} frames for {name} came to {goal.name}, where it is not yet"

    def _arrive(self, goals: dict[str, Hypervisor]) -> None:
        for name, goal in goals.items():
            self._wait(goal, name, "active")
        self.at("open")

    def _close(self, sources: dict[str, Hypervisor]) -> None:
        """The old places close; then nothing comes there any more, and the ports go."""
        for name, source in sources.items():
            self._wait(source, name, "standby")
        self.at("closed")
        self.underway.wait()
        for thread in self._announcing:
            thread.join()
        self.fleet.settle()
        for name, source in sources.items():
            self._stays_silent(name, source)
        for name, source in sources.items():
            self.mobile(name).unplug(source)

    def lose(self, *, dies: bool) -> float:
        """The hypervisor of a VM is cut off, or dies; somebody starts the VM elsewhere; then the hypervisor is back.

        Seconds until the VM's port was open there.
        """
        ((name, goal),) = self.goals.items()
        mobile, lost = self.mobile(name), self.mobile(name).host
        assert lost is not None
        self._roles = Roles(lost, goal)
        _take_away(self.fleet, lost, dies=dies)
        mobile.plug(goal)
        mobile.run_on(goal)
        started = monotonic()
        wait_for(f"{name} open on {goal.name}", partial(self._starts, mobile, goal), timeout=STARTING, step=0.1)
        took = monotonic() - started
        witness = next(one for one in CLIENTS if self.mobile(one).host not in (lost, None))
        wait_for(
            f"{witness} to reach {name}", lambda: self._reaches(witness, mobile), timeout=STARTING, step=0.1
        )  # fmt: skip
        _give_back(self.fleet, lost, dies=dies)
        self.fleet.agent(lost).wait_ready(timeout=PATIENCE)
        self._wait(lost, name, "standby")
        if not dies and COPIES:
            self._mind_the_copy(name, lost, goal)
        self.look()
        self._close({name: lost})
        return took

    def _starts(self, mobile: Mobile, goal: Hypervisor) -> bool:
        """A guest that boots says more than one thing."""
        mobile.announce()
        return self.fleet.states(mobile.vm.name).get(goal.name) == "active"

    def _reaches(self, witness: str, mobile: Mobile) -> bool:
        return self.mobile(witness).vm.probe("tcp", mobile.vm.address(), 80) == "open"

    def _mind_the_copy(self, name: str, lost: Hypervisor, goal: Hypervisor) -> None:
        """What still runs on the hypervisor that was cut off speaks, is not heard, and takes nothing away."""
        copy = Copy(self.fleet, name, lost.name)
        ends = monotonic() + COPY
        while monotonic() < ends:
            states = self.fleet.states(name)
            assert states == {lost.name: "standby", goal.name: "active"}, f"a copy of {name} speaks: {states}"
        heard, sent = copy.heard(), copy.sent()
        copy.stop()
        assert sent and not heard, f"a copy of {name} is heard: {heard}"

    def _stays_silent(self, name: str, source: Hypervisor) -> None:
        self.look()
        sleep(SILENCE)
        later = self.watches[name].seen()
        self.seen[name] += later
        assert not later.count(source.name), f"{later.legs} for {name} after it has left {source.name}: {later.samples}"

    def _wait(self, host: Hypervisor, name: str, state: str) -> None:
        wait_for(
            f"{name} {state} on {host.name}", lambda: self.fleet.states(name).get(host.name) == state, timeout=PATIENCE
        )


def _announce(mobile: Mobile, host: Hypervisor) -> None:
    for pause in ANNOUNCED_AGAIN:
        sleep(pause)
        if mobile.host is not host:
            return
        mobile.announce()


def _take_away(fleet: Fleet, hypervisor: Hypervisor, *, dies: bool) -> None:
    if dies:
        fleet.agent(hypervisor).kill()
        hypervisor.stop_vswitchd(kill=True)
        hypervisor.stop_ovsdb(kill=True)
    hypervisor.namespace.ip("link set mgmt0 down", "link set eth1 down")


def _give_back(fleet: Fleet, hypervisor: Hypervisor, *, dies: bool) -> None:
    hypervisor.namespace.ip("link set mgmt0 up", "link set eth1 up")
    if dies:
        hypervisor.start_ovsdb()
        hypervisor.start_vswitchd()
        fleet.agent(hypervisor).start()
