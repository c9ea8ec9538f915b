# SPDX-License-Identifier: Apache-2.0
"""Making the switch forget the connections of addresses: whoever gets an address next inherits nothing.

Open vSwitch goes through its table while it removes what is like a partial tuple, and so leaves some of it out (3.1 in
user space: 6 of 30 entries, where some had just ended). So we look whether something is left, and name it. An address
that NICs share may be another hypervisor's, too, and VMs here may speak with it there: of its connections those are
forgotten that it has accepted here, and no others of the same two addresses. Pings over IPv6 cannot be forgotten
(`sgctl.openflow.messages.flushable`); they end by themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable

from flows.fields import MARKS
from flows.flow import Ct, Load
from flows.tables import OUTPUT
from sgctl.addresses import Reach
from sgctl.cuts import frame
from sgctl.handover import ICMP, ICMPV6, ORIGIN_OK, RESPONDER_OK, Entry
from sgctl.openflow.conntrack import ConntrackReader
from sgctl.openflow.errors import SwitchError
from sgctl.openflow.messages import Tuple
from sgctl.openflow.switch import Switch

LOG = logging.getLogger(__name__)
ROUNDS = 5
"""How often it is looked whether something is left."""


class Forgetter:
    """Works on one bridge's zone.

    shared: the addresses of which NICs here have been promised that others may hold them as well.
    """

    def __init__(self, reader: ConntrackReader) -> None:
        self.shared: set[str] = set()
        self._reader = reader
        self._trouble = ""

    def forget(self, switch: Switch, zone: int, addresses: Collection[str], *, looking: bool = False) -> None:
        """Remove all connections that come from or go to these addresses and networks, which only an entry can name.

        looking: only if there are any; for addresses that are likely to have none.
        """
        common = self.shared.intersection(addresses)
        if common and self._forget_accepted(switch, zone, common):
            addresses = [one for one in addresses if one not in common]
        if not addresses or (looking and self._left(zone, addresses) == []):
            return
        switch.flush_connections(zone, [one for a in Reach(addresses).single for one in (Tuple(src=a), Tuple(dst=a))])
        for _ in range(ROUNDS):
            left = self._left(zone, addresses)
            if not left:
                return
            switch.flush_connections(zone, [tuple_of(entry) for entry in left])
        LOG.warning("connections of %s may live on", ", ".join(addresses))

    def _forget_accepted(self, switch: Switch, zone: int, addresses: Collection[str]) -> bool:
        """Remove the connections of which the end with one of these addresses was here, and accepted them; whether that
        can be seen."""
        for _ in range(ROUNDS):
            entries = self._entries(zone, addresses)
            if entries is None:
                return False
            accepted = [entry for entry in entries if _accepted(entry, addresses)]
            if not accepted:
                return True
            forget_only(switch, zone, accepted)
        return False

    def _left(self, zone: int, addresses: Collection[str]) -> list[Entry] | None:
        """What is there that can be removed; None if that cannot be seen."""
        entries = self._entries(zone, addresses)
        return None if entries is None else [entry for entry in entries if entry.proto != ICMPV6]

    def _entries(self, zone: int, addresses: Collection[str]) -> list[Entry] | None:
        try:
            return self._reader.entries(zone, addresses, finished=True)
        except SwitchError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                LOG.warning("cannot see whether connections are left: %s", error)
            return None


def forget_only(switch: Switch, zone: int, entries: Iterable[Entry]) -> None:
    """Forget these entries and no others. ICMP's cannot be named exactly: they lose their marks."""
    flushed = []
    for one in entries:
        if one.proto in (ICMP, ICMPV6):
            unmark = Ct(zone=zone, table=OUTPUT.id, commit=True, execute=(Load(MARKS, 0),))
            switch.run_actions([unmark], frame(one))
        else:
            flushed.append(tuple_of(one))
    switch.flush_connections(zone, flushed)


def _accepted(entry: Entry, addresses: Collection[str]) -> bool:
    by_origin, by_responder = entry.mark & ORIGIN_OK, entry.mark & RESPONDER_OK
    return bool((by_origin and entry.src in addresses) or (by_responder and entry.dst in addresses))


def tuple_of(entry: Entry) -> Tuple:
    """What names an entry. With its protocol, Open vSwitch would take an ICMP entry without identifier for complete."""
    if entry.proto == ICMP:
        return Tuple(src=entry.src, dst=entry.dst)
    ports = (entry.sport, entry.dport) if entry.sport or entry.dport else (None, None)
    return Tuple(src=entry.src, dst=entry.dst, proto=entry.proto, sport=ports[0], dport=ports[1])
