# SPDX-License-Identifier: Apache-2.0
"""How much of a switch its ports may use, for how long it remembers connections, and how often it is audited."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from flows.inputs import Limit, Limits
from sgctl.errors import SgctlError

#: Timeouts that Open vSwitch's userspace datapath knows, ovs-vswitchd.conf.db(5), table CT_Timeout_Policy.
TIMEOUTS = frozenset(
    {
        "tcp_syn_sent", "tcp_syn_recv", "tcp_established", "tcp_fin_wait", "tcp_close_wait", "tcp_last_ack",
        "tcp_time_wait", "tcp_close", "tcp_syn_sent2", "tcp_retransmit", "tcp_unack", "udp_first", "udp_single",
        "udp_multiple", "icmp_first", "icmp_reply",
    }
)  # fmt: skip
_RATE = re.compile(r"(\d{1,9})(?::(\d{1,9}))?")
_MOST_SECONDS = 10_000_000


class ProtectionError(SgctlError):
    """A value that cannot be right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """limits: of each port.  connections: most entries of the bridge's conntrack zone, 0: as many as there is room for.
    quota: most of them that each NIC may have opened, and have accepted from outside; 0: no such bound.
    timeouts: seconds by Open vSwitch's names.  audit: seconds between audits, 0: none.  remove_foreign: audits remove
    flows that are not sgctl's.
    """

    limits: Limits = field(default_factory=Limits)
    connections: int = 0
    quota: int = 0
    timeouts: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    audit: int = 0
    remove_foreign: bool = False


def protection(conf: Any) -> Protection:
    """What options say, by the attributes of `conf`; raises ProtectionError."""
    return Protection(
        limits=Limits(
            connections=limit("--limit-connections", conf.limit_connections),
            fragments=limit("--limit-fragments", conf.limit_fragments),
            frames=limit("--limit-frames", conf.limit_frames),
        ),
        connections=conf.ct_limit,
        quota=quota("--max-connections-per-nic", conf.max_connections_per_nic, conf.ct_limit),
        timeouts=timeouts("--ct-timeouts", conf.ct_timeouts),
        audit=conf.audit_interval,
        remove_foreign=conf.remove_foreign_flows,
    )


def limit(option: str, text: str) -> Limit | None:
    """A limit from ``RATE`` or ``RATE:BURST`` (default: as much as one second's rate); 0 is none."""
    found = _RATE.fullmatch(text.strip())
    if found is None or found[2] == "0":
        raise ProtectionError(f"{option} {text}: must be RATE or RATE:BURST, in packets per second and packets")
    rate = int(found[1])
    return Limit(rate, int(found[2] or rate)) if rate else None


def quota(option: str, text: str, of: int) -> int:
    """A number of connections from ``NUMBER``, or ``NUMBER%`` of `of`; raises ProtectionError."""
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    if not (number.isascii() and number.isdigit()) or int(number) > (100 if percent else 0xFFFFFFFF):
        raise ProtectionError(f"{option} {text}: must be a number of connections, or a part such as 5%")
    if int(number) and not percent and not of:
        raise ProtectionError(f"{option} {text}: needs a limit of all connections (--ct-limit)")
    return int(number) * of // 100 if percent else int(number)


def timeouts(option: str, given: Mapping[str, str]) -> Mapping[str, int]:
    """Timeouts from text; raises ProtectionError."""
    found = {}
    for name, text in given.items():
        if name not in TIMEOUTS:
            raise ProtectionError(f"{option} {name}: no such timeout; there are {', '.join(sorted(TIMEOUTS))}")
        if not (text.isascii() and text.isdigit() and 0 < int(text) <= _MOST_SECONDS):
            raise ProtectionError(f"{option} {name}:{text}: must be seconds, 1 to {_MOST_SECONDS}")
        found[name] = int(text)
    return MappingProxyType(found)
