# SPDX-License-Identifier: Apache-2.0
"""Many agents in one process, without switches: the store, the gathering, the decisions and the compiler are the real
ones; what a plan would change counts as installed.

    python -m tests.bench.scale_agents REMOTE HOST,HOST,… [KEY CERT CA]

It prints a line ``ready MIB`` when all have their first flows, then one per plan: host, monotonic time, adds, deletes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import NoReturn

from flows.flow import Flow
from flows.inputs import Bridge, Unit
from flows.pipeline import build
from sgctl.agent.gather import Gatherer
from sgctl.collector import keep
from sgctl.config import Settings
from sgctl.jsonrpc import identify
from sgctl.localport import UPLINK_ROLE, LocalPort, VSwitch
from sgctl.policy import Decider
from sgctl.reconcile import Compiler
from sgctl.services import Services
from sgctl.store import Database, Interest
from sgctl.tls import Tls
from tests.bench.usage import peak_mib
from tests.functional import big_cloud

#: Loading all at once would measure nothing but this process's one interpreter.
AT_ONCE = 8


def _fatal(error: BaseException) -> NoReturn:
    raise error


class Agent:
    """One hypervisor's agent: `work` is done when `woken` has been called."""

    def __init__(self, remote: str, host: str, turns: SimpleQueue[Agent]) -> None:
        self.host, self._turns, self._queued = host, turns, False
        interest = Interest()
        self.database = Database(remote, interest=interest)
        settings = Settings(
            host=host, db=remote, ovsdb_connection="", bridge="br-int", uplinks=(), db_listen="", state_dir=Path(),
            api_host="", api_port=0, admin_port=0, apps=(), rundir=Path(), ofp_host="127.0.0.1", ofp_port=0,
        )  # fmt: skip
        self._gatherer = Gatherer(Services(settings, self.database, interest, _fatal))
        self._decider, self._compiler = Decider(), Compiler(self._build)
        self._bridge = Bridge(())
        self._installed: dict[int, int] = {}
        self._switch = VSwitch(datapath_id=1, ports=tuple(_ports(host)))
        self.database.replica.on_change(lambda _: self.wake())

    def wake(self) -> None:
        """Queue for a turn, once."""
        if not self._queued:
            self._queued = True
            self._turns.put(self)

    def work(self) -> tuple[int, int]:
        """One turn as the writer's; how many flows were to be added and deleted."""
        self._queued = False
        self._gatherer.look(self._switch)
        world = self._gatherer.world()
        if world is None or self._gatherer.loading:
            return 0, 0
        decision = self._decider.decide(world)
        bridge = decision.units["bridge"]
        assert isinstance(bridge, Bridge)
        if bridge != self._bridge:
            self._bridge, self._compiler = bridge, Compiler(self._build)
        self._compiler.compile(decision.units)
        todo = self._compiler.plan(self._installed)
        for cookie, _ in todo.deletes:
            del self._installed[cookie]
        self._installed.update((flow.cookie, flow.table) for flow in todo.adds)
        return len(todo.adds), len(todo.deletes)

    def _build(self, unit: Unit) -> Sequence[Flow]:
        return build(unit, self._bridge)


def _ports(host: str) -> list[LocalPort]:
    """An uplink, and a port for each NIC that the cloud has on this host."""
    first = int(host[1:]) * big_cloud.PER_HOST
    uplink = LocalPort(uuid="uplink", name="eth1", ofport=1, role=UPLINK_ROLE)
    nics = range(first, first + big_cloud.PER_HOST)
    return [uplink, *(LocalPort(uuid=f"p{n}", name=f"tap{n}", ofport=2 + n - first, iface_id=big_cloud.nic_id(n))
                      for n in nics)]  # fmt: skip


def main(remote: str, hosts: str, *identity: str) -> None:
    """Run until the process is ended."""
    if identity:
        key, cert, ca = identity
        identify(Tls(key=key, cert=cert, ca=ca))
    turns: SimpleQueue[Agent] = SimpleQueue()
    left = [Agent(remote, host, turns) for host in hosts.split(",")]
    loading: set[str] = set()
    total, before = len(left), peak_mib(os.getpid())
    while left or loading:
        while left and len(loading) < AT_ONCE:
            agent = left.pop()
            loading.add(agent.host)
            agent.database.start()
            agent.wake()
        agent = turns.get()
        if agent.work()[0]:
            loading.discard(agent.host)
    keep()
    print("ready", round((peak_mib(os.getpid()) - before) / total, 3), flush=True)
    while True:
        agent = turns.get()
        adds, deletes = agent.work()
        if adds or deletes:
            print(agent.host, f"{time.monotonic():.6f}", adds, deletes, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
