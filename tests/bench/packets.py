# SPDX-License-Identifier: Apache-2.0
"""Real packets between two VMs of the hypervisor: whoever enforces the rules, what they allow passes, nothing else.

A frame counts as refused when one that is allowed, sent right after it on the same way, has arrived and it has not.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

from flows.packet import End, Packet
from tests.bench.cloud import GROUP_PORT, Machine, Size
from tests.bench.fabric import Fabric
from tests.bench.frames import Wire

PATIENCE = 20.0
_ROUNDS = 10


def end(machine: Machine) -> End:
    """A VM as an end of packets in its own subnet."""
    return End.of(machine.mac, machine.address)


def datagram(sender: Machine, receiver: Machine, *, port: int = GROUP_PORT, sport: int = 40000) -> bytes:
    """What the rule for datagrams allows, unless it is another port's."""
    return Packet.udp(end(sender), end(receiver), port, sport=sport, payload=bytes(20)).frame


class Receiver:
    """A VM's wire that remembers what has come out of it."""

    def __init__(self, fabric: Fabric, machine: Machine) -> None:
        self._came = threading.Condition()
        self._frames: set[bytes] = set()
        self._wire = Wire(fabric.wire(machine.name), self._note)

    def _note(self, frame: bytes) -> None:
        with self._came:
            self._frames.add(frame)
            self._came.notify_all()

    def got(self, frame: bytes) -> bool:
        """Whether this frame has come out."""
        with self._came:
            return frame in self._frames

    def wait(self, frame: bytes) -> None:
        """Wait for this frame."""
        with self._came:
            assert self._came.wait_for(lambda: frame in self._frames, PATIENCE), "an allowed packet is lost"

    def close(self) -> None:
        """End it."""
        self._wire.close()


@contextmanager
def wires(fabric: Fabric, sender: str, receiver: Machine) -> Iterator[tuple[Wire, Receiver]]:
    """The wire that packets go in by, and the VM's that they come out of."""
    with closing(Wire(fabric.wire(sender))) as one, closing(Receiver(fabric, receiver)) as other:
        yield one, other


def judge(way: tuple[Wire, Receiver], asked: Iterable[tuple[bytes, bytes, bool]]) -> int:
    """Send frames, each with an allowed one after it, and compare with what is promised; how many were sent."""
    wire, receiver, count = *way, 0
    for frame, control, promised in asked:
        wire.send(frame)
        wire.send(control)
        receiver.wait(control)
        assert receiver.got(frame) == promised, f"{Packet.parse(frame)}: {'refused' if promised else 'passed'}"
        count += 1
    return count


def check(fabric: Fabric, size: Size) -> dict[str, float]:
    """Datagrams of the allowed port pass between the first two VMs; others, and spoofed ones, do not."""
    sender, receiver = Machine("near", 0), Machine("near", 1)
    asked = []
    for number in range(_ROUNDS):
        control = datagram(sender, receiver, sport=50000 + number)
        spoofed = Packet.udp(End.of(sender.mac, "10.10.99.99"), end(receiver), GROUP_PORT, sport=number + 1).frame
        asked += [
            (datagram(sender, receiver, sport=41000 + number), control, True),
            (datagram(sender, receiver, port=GROUP_PORT + 1 + number), control, False),
            (spoofed, control, False),
        ]
    with wires(fabric, sender.name, receiver) as way:
        return {"audit: packets between VMs": judge(way, asked)}
