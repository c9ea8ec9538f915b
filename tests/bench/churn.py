# SPDX-License-Identifier: Apache-2.0
"""What many changes cost packets where much is cached, since the switch is made to forget after them. As root:

unshare -n sh -c 'ip link set lo up; python -m tests.bench.churn [--vms 32 71] [--rates 0 1 10 50 200] [--offered K]'

All VMs of one hypervisor talk to each other all the time, so many packets a second in all, in connections that are
there: four cached flows for a pair. Rules come and go meanwhile, so many times a second. The agent makes a userspace
datapath forget (`sgctl.agent.renewals`), which it knows by the bridge's datapath_type=netdev; the same one by the name
of `dummy` it leaves alone. One thread of the switch takes packets, opens connections, forgets.
"""

from __future__ import annotations

import argparse
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from threading import Event, Thread

from flows.packet import End, Packet
from tests.bench.cloud import GROUP_PORT, Machine, Size
from tests.bench.hypervisor import BRIDGE, UPLINK
from tests.bench.system import System
from tests.functional.vswitch_sandbox import eventually

RULES = 20
FORGETS = {"keeps": "dummy", "forgets": "netdev"}
WARM = 2.0
THREADS = {"ovs-vswitchd": "packets", "revalidator": "revalidators"}


def frames(machines: list[Machine]) -> dict[Machine, list[bytes]]:
    """What each says to all others, which is also the answer to what they say."""
    ends = {one: End.of(one.mac, one.address) for one in machines}
    return {
        one: [Packet.udp(ends[one], ends[it], GROUP_PORT, sport=GROUP_PORT).frame for it in machines if it != one]
        for one in machines
    }


def ip(words: str) -> None:
    """A change of this namespace's devices."""
    subprocess.run(["ip", *words.split()], check=True)


class Busy(System):
    """A hypervisor whose VMs all talk to each other, each by a veth pair in this network namespace."""

    def __init__(self, datapath: str, count: int, offered: int) -> None:
        super().__init__(datapath)
        self._machines, self._offered = [Machine("near", number) for number in range(count)], offered

    def set_up(self) -> None:
        """All there is but packets."""
        size = Size(len(self._machines), RULES, 10)
        self.prepare(size, 0)
        self.ports.plug({UPLINK: {"sgctl-role": "uplink"}})
        self.cold(size)()
        self.allow_datagrams()
        self.finish()
        for machine in self._machines:
            self._plug_in(machine)
        self.ports.wait_numbered([one.name for one in self._machines])
        self.start_agent()

    def _plug_in(self, machine: Machine) -> None:
        name = machine.name
        ip(f"link add {name} type veth peer name {name}v")
        self.callback(partial(ip, f"link del {name}v"))
        for end in (name, f"{name}v"):
            ip(f"link set {end} up")
        ids = (f'external_ids:{key}="{value}"' for key, value in machine.external_ids.items())
        self.sandbox.run("ovs-vsctl", f"--db={self.sandbox.connection}", "add-port", BRIDGE, name, "--", "set",
                         "Interface", name, *ids)  # fmt: skip

    @contextmanager
    def talking(self) -> Iterator[None]:
        """They talk meanwhile."""
        stop = Event()
        thread = Thread(target=self._send, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _send(self, stop: Event) -> None:
        """One packet of each VM in turn, to one after the other."""
        said, wires = frames(self._machines), {}
        for one in self._machines:
            wires[one] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            wires[one].bind((f"{one.name}v", 0))
        rounds = range(len(self._machines) - 1)
        todo = cycle([(wires[one].send, said[one][number]) for number in rounds for one in self._machines])
        sent, began = 0, time.monotonic()
        while not stop.is_set():
            due = int((time.monotonic() - began) * self._offered)
            for send, frame in islice(todo, due - sent):
                send(frame)
            sent = due
            time.sleep(0.001)
        for wire in wires.values():
            wire.close()

    def packets(self) -> tuple[int, int]:
        """Packets that have been sent by VMs and that have reached them so far."""
        sent = received = 0
        for line in Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]:
            name, _, rest = line.strip().partition(":")
            if name.startswith("near") and name.endswith("v"):
                numbers = rest.split()
                received, sent = received + int(numbers[1]), sent + int(numbers[9])
        return sent, received

    def cached(self) -> int:
        """How many flows the switch has cached."""
        found = re.search(r"current (\d+)", self.sandbox.appctl("upcall/show"))
        assert found
        return int(found[1])

    def full(self) -> bool:
        """Whether all that they say is cached."""
        count = len(self._machines)
        return self.cached() >= 2 * count * (count - 1)

    def forgotten(self) -> int:
        """How often the switch has been made to forget."""
        found = re.search(r"^sgctl_renewals_total ([\d.]+)", self.agent_process.get("/metrics")[1], re.MULTILINE)
        assert found
        return round(float(found[1]))

    def threads(self) -> dict[str, float]:
        """Seconds on a processor so far: of the thread that takes packets, of those that look after the cache, and of
        the agent."""
        used = dict.fromkeys(THREADS.values(), 0.0) | {"agent": self.cpu()["agent"]}
        for task in Path(f"/proc/{self.sandbox.daemons['ovs-vswitchd'].pid}/task").iterdir():
            name = (task / "comm").read_text().strip()
            for start, kind in THREADS.items():
                if name.startswith(start):
                    used[kind] += int((task / "schedstat").read_text().split()[0]) / 1e9
        return used


@dataclass(frozen=True, slots=True)
class Result:
    """Of a measurement. sent, got: packets a second. cpu: seconds of processors per second, by thread or process."""

    what: str
    cached: int
    asked: int
    made: float
    forgotten: float
    sent: float
    got: float
    each: float
    cpu: dict[str, float]

    def __str__(self) -> str:
        used = ", ".join(f"{name} {share:.2f}" for name, share in self.cpu.items())
        return (
            f"{self.what:7} {self.cached:6} cached, {self.made:5.1f} of {self.asked:3} changes/s, forgot "
            f"{self.forgotten:5.1f}/s: sent {self.sent:8.0f}/s, {self.got / self.sent:.4f} of it arrived, "
            f"{self.each:8.0f} per second of the packets' thread; cpu {used}"
        )


def change(system: Busy, rate: int, until: float) -> int:
    """Let rules come and go; how many did."""
    began, done = time.monotonic(), 0
    while (now := time.monotonic()) < until:
        if not rate or done >= (now - began) * rate:
            time.sleep(0.001)
            continue
        number = RULES + done // 2 % 50
        (system.remove_rule_row if done % 2 else system.add_rule_row)(number)
        done += 1
    if done % 2:
        system.remove_rule_row(RULES + done // 2 % 50)
    return done


def measure(system: Busy, what: str, rate: int, seconds: float) -> Result:
    """One case."""
    cached, forgotten, before, used = system.cached(), system.forgotten(), system.packets(), system.threads()
    began = time.monotonic()
    made = change(system, rate, began + seconds)
    after, took = system.packets(), time.monotonic() - began
    share = {name: (seconds - used[name]) / took for name, seconds in system.threads().items()}
    often = (system.forgotten() - forgotten) / took
    sent, got = ((b - a) / took for a, b in zip(before, after, strict=True))
    return Result(what, cached, rate, made / took, often, sent, got, got / share["packets"], share)


def run(options: argparse.Namespace, count: int) -> None:
    """All rates with so many VMs, with and without forgetting."""
    for what, datapath in FORGETS.items():
        with Busy(datapath, count, options.offered) as system:
            system.set_up()
            with system.talking():
                for rate in options.rates:
                    eventually(system.full, 60)
                    time.sleep(WARM)
                    print(measure(system, what, rate, options.seconds), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vms", type=int, nargs="+", default=[32, 71])
    parser.add_argument("--rates", type=int, nargs="+", default=[0, 1, 10, 50, 200])
    parser.add_argument("--offered", type=int, default=15_000)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    for count in options.vms:
        run(options, count)


if __name__ == "__main__":
    main()
