# SPDX-License-Identifier: Apache-2.0
"""Reading conntrack: OpenFlow has no message for it, so ovs-vswitchd is asked through its control socket.

The command is ``dpctl/dump-conntrack`` (ovs-dpctl(8)).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from time import sleep
from typing import NamedTuple

from sgctl.addresses import Reach
from sgctl.handover import Entry
from sgctl.openflow.control import DEADLINE, Control
from sgctl.openflow.errors import SwitchError, SwitchGone

MOST_FRAGMENTS = 5000
"""Fragments that the userspace datapath holds at most: the highest number that it takes, its default being 1000."""
#: Those that Open vSwitch names; of all others it tells the numbers.
_PROTOCOLS = {"icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "dccp": 33, "icmpv6": 58, "sctp": 132, "udplite": 136}
#: A line in the order of Open vSwitch; the last group is what comes in the end, or in another order.
_ENTRY = re.compile(
    r"^([\w-]+),orig=\(src=([^,\n]+),dst=([^,)\n]+)(?:,sport=(\d+),dport=(\d+))?(?:,id=(\d+),type=(\d+),code=(\d+))?"
    r"[^)\n]*\)(?:,reply=\([^)\n]*\))?(?:,zone=\d+)?(?:,timeout=(\d+))?(?:,mark=(\w+))?(?:,labels=(\w+))?(.*)$",
    re.MULTILINE,
)
_NAMED = re.compile(r",(timeout|mark|labels)=(0x[0-9a-f]+|\d+)")
_DUMP = "dpctl/dump-conntrack"
_COUNT = re.compile(r"zone=\d+,limit=\d+,count=(\d+)")
_ENDS = re.compile(r"orig=\(src=([^,]+),dst=([^,)]+)")
_FINISHED = ("state=TIME_WAIT", "state=CLOSED")


def parse(text: str, addresses: Collection[str] | None, *, finished: bool = False) -> Iterator[Entry]:
    """The entries of a dump that have one of these addresses or networks (None: any); TCP's that are over only if
    `finished`."""
    reach = Reach(addresses or ())
    wanted = reach.single if len(reach.single) == len(reach) else reach
    for line in _ENTRY.finditer(text):
        proto, src, dst, sport, dport, ident, kind, code, timeout, mark, labels, rest = line.groups("0")
        if addresses is not None and src not in wanted and dst not in wanted:
            continue
        end = _read_end(rest) if rest else _NOTHING
        if end.over and not finished:
            continue
        yield Entry(
            _PROTOCOLS.get(proto) or _number(proto), src, dst, int(sport), int(dport), int(ident), int(kind), int(code),
            _number(mark) or end.mark, _number(labels) or end.labels, int(timeout) or end.timeout, end.over,
        )  # fmt: skip


class _End(NamedTuple):
    """What the end of a line says, the same for most."""

    timeout: int = 0
    mark: int = 0
    labels: int = 0
    over: bool = False


_NOTHING = _End()


@lru_cache(maxsize=1 << 8)
def _read_end(text: str) -> _End:
    values = {name: _number(value) for name, value in _NAMED.findall(text)}
    return _End(**values, over=any(state in text for state in _FINISHED))


@lru_cache(maxsize=1 << 12)
def _number(text: str) -> int:
    """A number as Open vSwitch writes it; 0 for a word."""
    return int(text, 0) if text[0].isdecimal() else 0


def _lines(parts: Iterable[bytes]) -> Iterator[str]:
    """The whole lines of a dump, some at a time, out of the JSON object that it comes in: ten times as fast as to put a
    hundred megabytes together and read them. There are no braces in a dump, so that the first one ends the answer."""
    rest = b""
    for part in parts:
        lines, _, rest = (rest + part).rpartition(rb"\n")
        if rest.endswith(b"}") and not rest.endswith(b'"error":null}'):
            raise SwitchError(f"{_DUMP}: {(lines + rest).decode(errors='replace')}")
        yield lines.decode()
        if rest.endswith(b"}"):
            return
    raise OSError("closed without an answer")


class ConntrackReader:
    """Reads the connections of one bridge's datapath; for a run directory such as ``/run/openvswitch``."""

    def __init__(self, rundir: Path, bridge: str, *, deadline: float = DEADLINE) -> None:
        self._control, self._bridge = Control(rundir, deadline=deadline), bridge
        self._datapath = ""

    def anew(self) -> None:
        """The bridge has connected: it may be on another datapath than before."""
        self._datapath = ""

    def entries(self, zone: int, addresses: Collection[str], *, finished: bool = False) -> list[Entry]:
        """The connections of a zone that have one of these addresses or networks; TCP's that are over if `finished`.

        Raises SwitchGone if ovs-vswitchd does not answer, SwitchError if it does not understand.
        """
        if not addresses:
            return []
        return list(parse(self._dump(zone), addresses, finished=finished))

    def labelled(self, zone: int, numbers: Collection[int]) -> list[Entry]:
        """The connections of a zone with labels that may hold one of these numbers; raises as `entries` does."""
        digits = [f"{number:x}" for number in numbers]
        if not digits:
            return []
        # Reading all of a hundred thousand lines in full would keep others waiting for a second.
        lines = [line for line in self._dump(zone).splitlines() if any(one in line for one in digits)]
        return list(parse("\n".join(lines), None))

    def _dump(self, zone: int) -> str:
        return self._ask_datapath(_DUMP, f"zone={zone}", "-s")

    def used(self, zone: int) -> int:
        """How many connections a zone has that was bounded; raises as `entries` does."""
        answer = self._ask_datapath("dpctl/ct-get-limits", f"zone={zone}")
        found = _COUNT.search(answer)
        if found is None:
            raise SwitchError(f"dpctl/ct-get-limits: nothing about zone {zone}: {answer.strip()}")
        return int(found[1])

    def tally(self, zone: int, owners: Callable[[str], Iterable[str]]) -> tuple[Counter[str], Counter[str]]:
        """How many of a zone's connections each owner has opened, and has accepted from addresses that nobody owns.

        `owners`: those of an address. Others of this process run in between. Raises as `entries` does.
        """
        datapath = self._find_datapath()
        opened, accepted = Counter[str](), Counter[str]()
        try:
            for lines in _lines(self._control.listen(_DUMP, datapath, f"zone={zone}")):
                for source, target in _ENDS.findall(lines):
                    if openers := owners(source):
                        opened.update(openers)
                    else:
                        accepted.update(owners(target))
                sleep(0)
        except OSError as error:
            raise SwitchGone(f"ovs-vswitchd does not tell its connections: {error}") from error
        return opened, accepted

    def bound(self, zone: int, connections: int) -> None:
        """Bound a zone to so many connections, 0: to as many as there is room for; and hold more fragments.

        ovs-vswitchd forgets this when it ends. Raises SwitchGone and SwitchError as `entries` does.
        """
        datapath = self._find_datapath()
        if connections:
            self._control.ask("dpctl/ct-set-limits", datapath, f"zone={zone},limit={connections}")
        else:
            self._control.ask("dpctl/ct-del-limits", datapath, f"zone={zone}")
        if datapath.startswith("netdev@"):
            self._control.ask("dpctl/ipf-set-max-nfrags", datapath, str(MOST_FRAGMENTS))

    def _ask_datapath(self, command: str, argument: str, *options: str) -> str:
        """The answer about the bridge's datapath; looked for again if the one that is known does not answer."""
        if self._datapath:
            with suppress(SwitchError):
                return self._control.ask(command, *options, self._datapath, argument)
        return self._control.ask(command, *options, self._find_datapath(), argument)

    def _find_datapath(self) -> str:
        """Which datapath the bridge is on. Open vSwitch tells it with all ports of all bridges."""
        self._datapath = datapath = ""
        for line in self._control.ask("dpif/show").splitlines():
            if line and not line[0].isspace():
                datapath = line.partition(": ")[0]
            elif line.strip() == f"{self._bridge}:":
                self._datapath = datapath
                return datapath
        raise SwitchGone(f"ovs-vswitchd has no bridge {self._bridge}")
