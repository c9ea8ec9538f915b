# SPDX-License-Identifier: Apache-2.0
"""Who has a NIC for which the ports of two hypervisors speak, or seem to.

A hypervisor that was cut off while its VM was started elsewhere may still run it when it is back; and a VM may have
gone back to a port that it had left while that port's agent was away. There both look the same; so the agent asks
(`Handover.asked`), and the one that has the NIC looks whether its own guest lives: whether it answers ARP or neighbour
solicitation, or says something by itself. If not, the NIC is given to who asked. If so, nothing happens: of two guests
with the same NIC one is kept out, until its port goes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from time import monotonic, sleep, time

from flows import frames
from sgctl.agent.writer import Writer
from sgctl.errors import Stale, StoreError
from sgctl.model import Handover, Nic, handover_id
from sgctl.openflow.errors import SwitchError
from sgctl.openflow.switch import Switch
from sgctl.store import Changes, Database, Guard, Insert, Update
from sgctl.world import PortState, State

LOG = logging.getLogger(__name__)
TICK = 1.0
"""Seconds after which rows are looked at though nobody has woken the loop."""
AGAIN = 1.0
"""Seconds after which we ask again about a NIC that goes on speaking here."""
ATTEMPTS, PAUSE = 5, 0.2
"""How often a guest is asked for a sign of life, and the seconds that it has for each."""
ASKER = 0x0253474354_4C
"""The MAC in whose name guests are asked: locally administered, nobody's."""
_ZERO4, _ZERO6 = IPv4Address(0), IPv6Address(0)
_SOLICITED = int(IPv6Address("ff02::1:ff00:0"))


class Contests:
    """The loop that asks and answers."""

    def __init__(self, host: str, database: Database, writer: Writer) -> None:
        self._host, self._database, self._replica = host, database, database.replica
        self._writer = writer
        self._asked: dict[str, float] = {}
        self._answered: dict[str, int] | None = None
        self._wake = writer.contest
        self._replica.on_change(self._note)

    def _note(self, changes: Changes) -> None:
        if any(kind is Handover for kind, _ in changes):
            self._wake.set()

    def run(self) -> None:
        """Work until the process ends."""
        while True:
            self._wake.wait(TICK)
            self._wake.clear()
            try:
                self._turn()
            except (SwitchError, StoreError) as error:
                LOG.debug("asking who has a NIC: %s", error)

    def _turn(self) -> None:
        applied, switch = self._writer.applied, self._writer.switch
        if applied is None or switch is None or not self._replica.insync:
            return
        for nic in self._writer.take_contested():
            if monotonic() - self._asked.get(nic, -AGAIN) >= AGAIN:
                self._ask(nic)
        open_ = {port.nic: port for port in applied.decision.ports if port.state is State.ACTIVE and port.nic}
        rows = {row.id: row for row in self._replica.all(Handover) if row.asked and row.host != self._host}
        # What was asked before we started may be long past; whoever still wants to know asks again.
        answered = {id: row.asked for id, row in rows.items()} if self._answered is None else self._answered
        self._answered = {id: asked for id, asked in answered.items() if id in rows}
        for row in rows.values():
            port = open_.get(row.nic or "")
            if port is not None and self._answered.get(row.id) != row.asked:
                self._answered[row.id] = row.asked
                self._answer(switch, row, port)

    def _ask(self, nic: str) -> None:
        """Say that a NIC speaks here too."""
        row = self._replica.get(Handover, handover_id(nic, self._host))
        now = round(time() * 1000)
        if row is None:
            fresh = Handover(id=handover_id(nic, self._host), nic=nic, host=self._host, asked=now)
            self._database.write([Insert(fresh)])
        else:
            self._database.write([Update(Handover, row.id, {"asked": max(now, row.asked + 1)})])
        self._asked[nic] = monotonic()

    def _answer(self, switch: Switch, row: Handover, port: PortState) -> None:
        """Give the NIC away if its guest does not live here."""
        nic = self._replica.get(Nic, row.nic or "")
        if nic is None or nic.host != self._host or port.ofport is None:
            return
        if lives(switch, port, lambda: self._is_open(nic.id)):
            LOG.warning("NIC %s also speaks on %s, and lives here: it stays", nic.id, row.host)
        elif self._is_open(nic.id):
            self._give(nic, row)

    def _is_open(self, nic: str) -> bool:
        applied = self._writer.applied
        return applied is None or any(port.nic == nic and port.state is State.ACTIVE for port in applied.decision.ports)

    def _give(self, nic: Nic, row: Handover) -> None:
        """Let the database say that a NIC is where it was asked about."""
        LOG.info("NIC %s speaks on %s, and not here: it is there", nic.id, row.host)
        given = {"host": row.host, "state": "up", "reason": "", "since": round(time() * 1000)}
        try:
            self._database.write([Update(Nic, nic.id, given)], [Guard(Nic, nic.id, {"host": self._host})])
        except Stale as error:
            LOG.debug("NIC %s has been given away already: %s", nic.id, error)


def lives(switch: Switch, port: PortState, is_open: Callable[[], bool]) -> bool:
    """Whether the guest behind an open port says anything within a second, asked or not.

    It is asked as long as the port is open only: nothing may reach one that has closed meanwhile.
    """
    assert port.ofport is not None
    before = switch.received(port.ofport)
    asking = list(questions(int((port.mac or "").replace(":", "") or "0", 16), port.addresses))
    for _ in range(ATTEMPTS):
        if not is_open():
            break
        for frame in asking:
            switch.packet_out(port.ofport, frame)
        sleep(PAUSE)
        if switch.received(port.ofport) > before:
            return True
    return False


def questions(mac: int, addresses: tuple[str, ...]) -> Iterator[bytes]:
    """For each address the frame with which a newcomer asks whether it is in use (RFC 5227, RFC 4862): its owner
    answers, and learns nothing from it."""
    for address in map(ip_address, addresses):
        if isinstance(address, IPv4Address):
            body = frames.arp(1, ASKER, _ZERO4, 0, address)
            yield frames.ethernet(mac, ASKER, frames.ETH_ARP, body).ljust(60, b"\0")
        else:
            group = IPv6Address(_SOLICITED | int(address) & 0xFFFFFF)
            body = frames.icmp6(_ZERO6, group, frames.NS, 0, bytes(4) + address.packed)
            kind, packet = frames.ip(_ZERO6, group, frames.ICMP6, body, ttl=255)
            yield frames.ethernet(mac, ASKER, kind, packet)
