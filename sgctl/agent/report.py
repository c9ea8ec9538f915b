# SPDX-License-Identifier: Apache-2.0
"""What the agent tells the SG database: that it is alive, and where NICs are.

It runs beside the writer, so that a slow database never delays the switch. What is written follows from what is in
force, compared with what the database shows; a lost race is noticed with the next look.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from operator import attrgetter
from threading import Event
from time import time
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from sgctl.agent.applied import NONE, Applied
from sgctl.agent.cuts import Cuts
from sgctl.agent.pulse import Pulse
from sgctl.agent.writer import Writer
from sgctl.config import Settings
from sgctl.errors import Conflict, Stale, StoreError
from sgctl.heartbeat import wanted
from sgctl.memo import Grouped, changes
from sgctl.model import Cloud, Host, Nic
from sgctl.store import Changes, Database, Guard, Insert, Update
from sgctl.world import PortState, State

LOG = logging.getLogger(__name__)
RETRY = 1.0
"""Seconds after which what could not be written is tried again."""


@dataclass(frozen=True, slots=True)
class Binding:
    """That a NIC's row should say something else; `before` is the host that it must still name."""

    nic: str
    before: str
    host: str
    state: str
    reason: str

    def write(self, now: int) -> tuple[Update, Guard]:
        """The change, which must not overwrite somebody else's."""
        values = {"host": self.host, "state": self.state, "reason": self.reason, "since": now}
        return Update(Nic, self.nic, values), Guard(Nic, self.nic, {"host": self.before})


class Bindings:
    """The rows that differ from what is in force on this host.

    An active NIC is here, whatever its row says. A closed one is, unless it is somewhere else. A row that says that a
    NIC is here is cleared if no port has it. A port that is still without its number is no news.
    Only NICs that differ, or whose ports do, are looked at again.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._nics: Mapping[str, Nic] = {}
        self._ports_of: Grouped[PortState] = Grouped(attrgetter("nic"))
        self._due: dict[str, Binding] = {}

    def of(self, nics: Mapping[str, Nic], ports: tuple[PortState, ...]) -> list[Binding]:
        """What these rows should say, with these ports."""
        touched = {nic.id for part in changes(self._nics, nics) for nic in part}
        touched |= self._ports_of.follow(ports)
        self._nics = nics
        for id in touched:
            self._due.pop(id, None)
            nic = nics.get(id)
            wanted = _wanted(self._host, nic, self._ports_of.groups.get(id, ())) if nic is not None else None
            if nic is not None and wanted is not None and wanted != (nic.host, nic.state, nic.reason):
                self._due[id] = Binding(id, nic.host, *wanted)
        return list(self._due.values())


def _wanted(host: str, nic: Nic, ports: Iterable[PortState]) -> tuple[str, str, str] | None:
    port = min(ports, key=lambda one: (one.state is not State.ACTIVE, one.name), default=None)
    if port is None:
        return ("", "", "") if nic.host == host else None
    if port.state is State.ACTIVE:
        return host, "up", port.reason
    if port.state is State.CLOSED and port.ofport is not None and nic.host in ("", host):
        return host, "closed", port.reason
    return None


class Reporter:
    """The loop that writes."""

    def __init__(self, settings: Settings, database: Database, writer: Writer, cuts: Cuts) -> None:
        self._host = settings.host
        self._row = str(uuid5(NAMESPACE_OID, f"sgctl host {settings.host}"))
        self._database, self._writer = database, writer
        self._cuts = cuts
        self._bindings = Bindings(settings.host)
        self._address = _own_address(settings.db)
        self._started = round(time() * 1000)
        self._pulse = Pulse()
        self._answered = NONE
        self._trouble = ""
        self._late = False
        self._wake = Event()
        writer.notify(self._wake)
        database.replica.on_change(self._note)

    def _note(self, _: Changes) -> None:
        """Wake up if the database is in sync again and was not when we looked."""
        if self._late and self._database.replica.insync:
            self._wake.set()

    def run(self) -> None:
        """Work until the process ends."""
        pause = RETRY
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            pause = RETRY if self.report() else max(self._pulse.left, 0.0)

    def report(self) -> bool:
        """Write what is due; true if it should be tried again soon.

        Bindings first: another hypervisor may wait for a claim, and nobody for the end of a cut or a heartbeat. What
        cannot be written keeps nothing else from being written.
        """
        applied = self._writer.applied
        self._late = not self._database.replica.insync
        if self._late:
            return True
        troubles: list[str] = []
        current = applied if applied is not None and applied.current else None
        if self._database.replica.one(Host, name=self._host) is None:
            _attempt(partial(self._beat, None), troubles)
        bound = current is None or _attempt(partial(self._write_bindings, current), troubles)
        cut = self._cuts.carry_out(applied, self._writer.switch)
        beaten = _attempt(partial(self._beat, current if cut else None), troubles)
        self._complain("; ".join(dict.fromkeys(troubles)))
        return not (bound and cut and beaten)

    def _beat(self, applied: Applied | None) -> bool:
        """Write the heartbeat if it is due, and the answer to a barrier if there is one that is not written yet."""
        interval = wanted(self._database.replica.all(Cloud))
        due, news = self._pulse.left <= 0, dict[str, int | str]()
        if due:
            news |= {"version": version("sgctl"), "seen": round(time() * 1000), "started": self._started}
            news["heartbeat"] = interval
        if applied is not None and applied.sequence != self._answered:
            news["applied"] = applied.sequence
        if news:
            self._write_host(news)
        if due:
            self._pulse.beaten(interval)
        self._answered = int(news.get("applied", self._answered))
        return True

    def _write_host(self, news: Mapping[str, Any]) -> None:
        host = self._database.replica.one(Host, name=self._host)
        if host is None:
            self._database.write([Insert(Host(id=self._row, name=self._host, address=self._address, **news))])
        else:
            self._database.write([Update(Host, host.id, news)])

    def _write_bindings(self, applied: Applied) -> bool:
        # The rows that the decision was made from: a newer claim of another host must win, not be overwritten.
        wanted = self._bindings.of(applied.world.nics, applied.decision.ports)
        now = round(time() * 1000)
        try:
            if wanted:
                writes = [one.write(now) for one in wanted]
                self._database.write([update for update, _ in writes], [guard for _, guard in writes])
            return True
        except Stale:
            return self._write_singly(wanted, now)

    def _write_singly(self, wanted: Iterable[Binding], now: int) -> bool:
        """One lost race must not keep the others from being written; says whether there was none."""
        all_written = True
        for one in wanted:
            update, guard = one.write(now)
            try:
                self._database.write([update], [guard])
            except Stale as error:
                LOG.info("NIC %s: somebody else was faster: %s", one.nic, error)
                all_written = False
        return all_written

    def _complain(self, text: str) -> None:
        if text and text != self._trouble:
            LOG.warning("cannot report: %s", text)
        self._trouble = text


def _attempt(write: Callable[[], bool], troubles: list[str]) -> bool:
    """Whether all of it was written; what hinders it goes to the troubles, and is no reason to stop enforcing."""
    try:
        return write()
    except (Conflict, Stale) as error:
        LOG.debug("lost a race: %s", error)
    except StoreError as error:
        # Not reachable, or not allowed (a certificate of another name).
        troubles.append(str(error))
    return False


def _own_address(remotes: str) -> str:
    """The address with which this machine reaches the SG database, empty if it is on this machine."""
    kind, _, rest = remotes.split(",", 1)[0].partition(":")
    host = rest.rpartition(":")[0].strip("[]")
    if kind not in ("tcp", "ssl") or not host:
        return ""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])
