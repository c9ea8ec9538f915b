# SPDX-License-Identifier: Apache-2.0
"""Pipelines to compare with, for one pair of VMs, written by hand: the least that security groups can cost.

`one_pass` looks a packet up in one conntrack zone, `two_zones` in one zone per VM, as OVN does. Both accept what is
established and let in one port; they know nothing of spoofing, groups, ICMP errors or fragments.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flows.packet import End


@dataclass(frozen=True, slots=True)
class Pair:
    """A client and a server on one switch: their addresses, the OpenFlow numbers of their ports, the server's port."""

    client: End
    server: End
    client_port: int
    server_port: int
    service: int
    proto: str

    @property
    def family(self) -> str:
        """The IP version, in ovs-ofctl's words."""
        return "ip" if self.client.ip.version == 4 else "ipv6"

    @property
    def opening(self) -> str:
        """The match of what the server lets in."""
        name = self.proto if self.family == "ip" else f"{self.proto}6"
        return f"{name},tp_dst={self.service}"


def one_pass(pair: Pair) -> Iterator[str]:
    """One zone, one look-up."""
    ways = ((pair.client_port, pair.server_port), (pair.server_port, pair.client_port))
    yield f"table=0,priority=10,{pair.family} actions=ct(table=1,zone=1)"
    for came, goes in ways:
        yield f"table=1,priority=20,ct_state=+est+trk,{pair.family},in_port={came} actions=output:{goes}"
    came, goes = ways[0]
    new = f"ct_state=+new+trk,in_port={came},{pair.opening}"
    yield f"table=1,priority=10,{new} actions=ct(commit,zone=1),output:{goes}"


def two_zones(pair: Pair) -> Iterator[str]:
    """A zone per VM: the sender's, then the receiver's."""
    ends = ((pair.client, pair.client_port), (pair.server, pair.server_port))
    source = "nw_src" if pair.family == "ip" else "ipv6_src"
    for end, port in ends:
        mine = f"in_port={port},dl_src={_mac(end.mac)},{pair.family},{source}={end.ip}"
        yield f"table=0,priority=10,{mine} actions=load:{port}->NXM_NX_REG6[],ct(table=1,zone=NXM_NX_REG6[0..15])"
        to = f"load:{port}->NXM_NX_REG7[],load:{port}->NXM_NX_REG6[],ct(table=3,zone=NXM_NX_REG6[0..15])"
        yield f"table=2,priority=10,{pair.family},dl_dst={_mac(end.mac)} actions={to}"
    commit = "ct(commit,zone=NXM_NX_REG6[0..15])"
    for table in (1, 3):
        yield f"table={table},priority=30,ct_state=+inv+trk actions=drop"
    yield "table=1,priority=20,ct_state=+est+trk actions=resubmit(,2)"
    yield f"table=1,priority=10,ct_state=+new+trk,{pair.family} actions={commit},resubmit(,2)"
    yield "table=3,priority=20,ct_state=+est+trk actions=output:NXM_NX_REG7[]"
    new = f"ct_state=+new+trk,reg7={pair.server_port},{pair.opening}"
    yield f"table=3,priority=10,{new} actions={commit},output:NXM_NX_REG7[]"


def _mac(number: int) -> str:
    return ":".join(f"{byte:02x}" for byte in number.to_bytes(6, "big"))
