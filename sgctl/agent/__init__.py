# SPDX-License-Identifier: Apache-2.0
"""The agent: the os-ken application that makes one bridge enforce what the SG database says.

    gather    what is known: rows, ports, who is alive
    writer    the one loop that changes the switch; leaves what is `applied`
    moves     NICs that come and go
    arrivals  the connections that NICs bring along from other hypervisors
    handover  those that they take along to others
    quota     whose connections are too many
    contests  who has a NIC that speaks in two places
    cuts      connections that end with the rules that had admitted them
    report    what the database is told
    admin     /admin, health and metrics over HTTP

All decisions are made by `sgctl.policy` and `sgctl.reconcile`, which do no I/O.
"""

from __future__ import annotations

from typing import Any

from sgctl.agent.admin import AdminServer
from sgctl.agent.arrivals import Arrivals
from sgctl.agent.contests import Contests
from sgctl.agent.cuts import Cuts
from sgctl.agent.forget import Forgetter
from sgctl.agent.gather import Gatherer
from sgctl.agent.handover import Handovers
from sgctl.agent.local import LocalBridge
from sgctl.agent.metrics import Metrics
from sgctl.agent.pace import urgent
from sgctl.agent.quota import Quotas
from sgctl.agent.renewals import Renewals
from sgctl.agent.report import Reporter
from sgctl.agent.writer import Writer
from sgctl.bridgelock import lock_bridge
from sgctl.openflow.app import BridgeApp
from sgctl.openflow.conntrack import ConntrackReader
from sgctl.openflow.control import Control
from sgctl.openflow.switch import Switch
from sgctl.services import Services
from sgctl.store import Changes


class Agent(BridgeApp):
    """One hypervisor's agent. Its callbacks only leave notes for the writer."""

    def __init__(self, *args: Any, sgctl: Services, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = sgctl.settings
        self._services = sgctl
        self._lock = lock_bridge(settings)
        self.bridge = settings.bridge
        self.management = f"unix:{settings.rundir / settings.bridge}.mgmt"
        metrics = Metrics()
        self._local = LocalBridge(settings, sgctl.fatal, lambda: self.switch is not None, metrics.bridge_repairs.inc)
        gatherer = Gatherer(sgctl)
        self._reader = reader = ConntrackReader(settings.rundir, settings.bridge)
        arrivals = Arrivals(settings.host, sgctl.database.replica, reader)
        forgetter = Forgetter(reader)
        self._quotas = Quotas(settings.protection, reader, metrics)
        renewals = Renewals(Control(settings.rundir), metrics)
        self._writer = Writer(gatherer, self._local, metrics, arrivals, forgetter, self._quotas, renewals)
        cuts = Cuts(sgctl.database.replica, reader)
        self._reporter = Reporter(settings, sgctl.database, self._writer, cuts)
        self._handovers = Handovers(settings.host, sgctl.database, self._writer, arrivals, reader)
        self._contests = Contests(settings.host, sgctl.database, self._writer)
        self._admin = AdminServer(sgctl, self._writer, gatherer, metrics)
        self._loops: list[Any] = []

    def start(self) -> Any:
        """Begin to work; the admin endpoint comes first, so that a taken port ends the start."""
        self._admin.listen()
        thread = super().start()
        self._services.database.replica.on_change(self._heard)
        beside = (self._reporter, self._handovers, self._contests)
        runs = (self._admin.serve, self._writer.run, self._audit, self._count, *(one.run for one in beside))
        self._loops = [self._services.spawn(run) for run in runs]
        self._local.start(self._writer.wake)
        return thread

    def _heard(self, changes: Changes) -> None:
        """The database has changed."""
        self._writer.wake(hurry=urgent(changes))

    def _audit(self) -> None:
        self._writer.audit.run(self._writer.in_force, self._writer.wake)

    def _count(self) -> None:
        self._quotas.run(lambda: self._writer.applied, self._writer.wake)

    def close(self) -> None:
        """Stop; the switch keeps its flows and goes on enforcing them."""
        for loop in self._loops:
            loop.kill()
        self._local.stop()
        self._lock.close()

    def on_connect(self, switch: Switch) -> None:
        """The bridge has connected."""
        self._reader.anew()
        self._writer.connected(switch)

    def on_gone(self, switch: Switch) -> None:
        """The bridge's connection is lost."""
        self._writer.gone(switch)

    def on_error(self, error: Exception) -> None:
        """An event handler has failed."""
        self._services.fatal(error)

    def on_packet_in(self, switch: Switch, port: int, data: bytes) -> None:
        """A port on standby has sent a frame."""
        self._writer.frame(port, data)
