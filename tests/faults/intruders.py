# SPDX-License-Identifier: Apache-2.0
"""Who must never reach a VM that moves, at no place: tried every 10 ms wherever it may be delivered.

Another tenant's VM on each hypervisor, also with a false name; a machine on the wire, straight into each hypervisor's
uplink; a client whose rule is gone, and one whose rule for this port is. SYNs, and segments as of a connection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from devstack.lab.agent import Guest, Repeater
from tests.faults.fleet import CLIENTS, MOVERS, STRANGERS, Fleet
from tests.faults.prober import INTERVAL, MARK
from tests.faults.watch import Seen

STRAY_MAC = "02:aa:00:00:00:01"
STRAY = {4: "10.1.0.253", 6: "fd00:1::fffe:253"}
COPY_INTERVAL = 0.05
FORMER = (*CLIENTS, "former")
"""Whose rules are gone."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A frame, and the VM that sends it; or it comes from the wire into that hypervisor."""

    name: str
    sender: str
    frame: Packet


class Intruders:
    """Try until they are stopped."""

    def __init__(self, fleet: Fleet) -> None:
        self.attempts = tuple(attempts(fleet))
        self._fleet, self._ended = fleet, 0
        self._wire = Guest(fleet.pod(1).segment.namespace)
        senders = dict.fromkeys(one.sender for one in self.attempts)
        self._repeaters = {sender: self._repeat(sender) for sender in senders}

    def _repeat(self, sender: str) -> Repeater:
        fleet = self._fleet
        frames = [_marked(n, one.frame) for n, one in enumerate(self.attempts) if one.sender == sender]
        if sender in fleet.mobiles:
            return fleet.mobiles[sender].vm.guest.repeat("eth0", frames, interval=INTERVAL)
        return self._wire.repeat(fleet.pod(1).segment.ports[f"{sender}.eth1"], frames, interval=INTERVAL)

    def sent(self) -> int:
        """How many frames have been sent."""
        return self._ended + sum(repeater.sent() for repeater in self._repeaters.values())

    @contextmanager
    def paused(self, *senders: str) -> Iterator[None]:
        """Meanwhile these do not try; all, if none is named."""
        chosen = senders or tuple(self._repeaters)
        for sender in chosen:
            repeater = self._repeaters.pop(sender)
            self._ended += repeater.sent()
            repeater.stop()
        yield
        self._repeaters |= {sender: self._repeat(sender) for sender in chosen}

    def delivered(self, seen: Seen) -> list[str]:
        """What has arrived, in words."""
        return [
            f"{number} of {self.attempts[mark].name} by {leg}" if mark < len(self.attempts) else f"{number} by {leg}"
            for (leg, mark), number in seen.marked.items()
        ]

    def stop(self) -> None:
        """End."""
        for repeater in self._repeaters.values():
            repeater.stop()
        self._wire.close()


def _marked(number: int, frame: Packet) -> bytes:
    return bytes(frame) + MARK + b"%02d>" % number


def _segment(src: str, dst: str, port: int = 80, *, flags: str = "S", source_port: int = 41000) -> Packet:
    network = IPv6(src=src, dst=dst) if ":" in dst else IP(src=src, dst=dst)
    return network / TCP(sport=source_port, dport=port, flags=flags, seq=1, ack=0 if flags == "S" else 1)


def attempts(fleet: Fleet) -> Iterator[Attempt]:
    """All that is tried."""
    for number, mover in enumerate(MOVERS):
        for stranger in STRANGERS:
            yield _to(fleet, mover, stranger, f"{stranger}'s SYN", 4)
            yield _to(fleet, mover, stranger, f"{stranger}'s segment", 6, flags="A")
        yield _to(fleet, mover, STRANGERS[number], f"{STRANGERS[number]} as north", 4, name="north")
        yield _to(fleet, mover, "former", "former's SYN", 4 + 2 * number)
        yield _to(fleet, mover, CLIENTS[number], f"{CLIENTS[number]}'s SYN to tcp/90", 6 - 2 * number, port=90)
        for hypervisor in fleet.hypervisors:
            yield _stray(fleet, mover, hypervisor.name, 4 + 2 * number)


def _to(
    fleet: Fleet, mover: str, sender: str, what: str, version: int, *, name: str = "", port: int = 80, flags: str = "S"
) -> Attempt:
    own, its = fleet.mobiles[sender], fleet.mobiles[mover]
    source = fleet.mobiles[name].vm.address(version) if name else own.vm.address(version)
    frame = Ether(src=own.mac, dst=its.mac) / _segment(source, its.vm.address(version), port, flags=flags)
    return Attempt(f"{what} to {mover}, IPv{version}", sender, frame)


def _stray(fleet: Fleet, mover: str, hypervisor: str, version: int) -> Attempt:
    its = fleet.mobiles[mover]
    frame = Ether(src=STRAY_MAC, dst=its.mac) / _segment(STRAY[version], its.vm.address(version))
    return Attempt(f"the stray's SYN to {mover}, IPv{version}", hypervisor, frame)


class Copy:
    """A VM that goes on running on a hypervisor that was cut off, though it has been started elsewhere.

    It speaks on the wire to that hypervisor; what it says must reach nobody once the hypervisor is back.
    """

    MARK_NUMBER = 99

    def __init__(self, fleet: Fleet, mover: str, leg: str) -> None:
        mobile = fleet.mobiles[mover]
        self._guest = Guest(mobile.wires)
        frames = [_marked(self.MARK_NUMBER, one) for one in _said_by(fleet, mover)]
        self._repeater = self._guest.repeat(leg, frames, interval=COPY_INTERVAL)
        names = (*CLIENTS, *STRANGERS, "former")
        self._ears = {name: fleet.mobiles[name].vm.sniff(only=MARK + b"99>") for name in names}

    def sent(self) -> int:
        """How many frames it has sent."""
        return self._repeater.sent()

    def heard(self) -> Counter[str]:
        """How many frames of it whoever has got."""
        return Counter({name: total for name, ear in self._ears.items() if (total := ear.total())})

    def stop(self) -> None:
        """It ends at last."""
        self._repeater.stop()
        self._guest.close()
        for ear in self._ears.values():
            ear.stop()


def _said_by(fleet: Fleet, mover: str) -> Iterable[Packet]:
    mobile = fleet.mobiles[mover]
    for client in CLIENTS:
        its = fleet.mobiles[client]
        for version in (4, 6):
            ether = Ether(src=mobile.mac, dst=its.mac)
            source, target = mobile.vm.address(version), its.vm.address(version)
            network = IPv6(src=source, dst=target) if version == 6 else IP(src=source, dst=target)
            yield ether / network / UDP(sport=5353, dport=53) / b"still here"
