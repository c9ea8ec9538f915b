# SPDX-License-Identifier: Apache-2.0
"""Every packet field and every register bit that the pipeline uses, by name.

A `MatchField` is something that the switch can match or set, known by its name in ovs-ofctl(8) and its OXM header
(class and field number from OpenFlow 1.4 or from OVS's nicira-ext.h; ovs-fields(7) documents each).
A `Bits` is a named part of a register: stages read and write `SRC_PORT` or `DST_LOCAL`, never ``reg0``.
Importing this module checks that no two names share a bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

OPENFLOW_BASIC = 0x8000
NXM_0 = 0x0000
NXM_1 = 0x0001


class Term(NamedTuple):
    """One condition of a match: `field` AND `mask` equals `value`; a mask of all ones is an exact match."""

    field: MatchField
    value: int
    mask: int


@dataclass(frozen=True, slots=True, eq=False)
class MatchField:
    """A field of the packet, of its metadata or of its conntrack entry.

    order: position in a match (prerequisites come before the fields that need them).
    name: as ovs-ofctl writes it.  oxm_class, oxm_field: its OXM header.  bits: its width.
    kind: how people write its values.  full: the mask of an exact match.
    """

    order: int
    name: str
    oxm_class: int
    oxm_field: int
    bits: int
    kind: str = "decimal"
    full: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "full", (1 << self.bits) - 1)

    def eq(self, value: int) -> Term:
        """Exactly `value`."""
        if not 0 <= value <= self.full:
            raise self._unfit(value, self.full)
        return Term(self, value, self.full)

    def masked(self, value: int, mask: int) -> Term:
        """The bits of `mask` are those of `value`; bits outside the mask must be zero in `value`."""
        if value & ~mask or mask > self.full or not mask:
            raise self._unfit(value, mask)
        return Term(self, value, mask)

    def _unfit(self, value: int, mask: int) -> ValueError:
        return ValueError(f"{self.name}={value:#x}/{mask:#x} does not fit a field of {self.bits} bits")

    def prefix(self, value: int, length: int) -> Term:
        """The first `length` bits are those of `value`."""
        mask = self.full ^ ((1 << (self.bits - length)) - 1)
        return self.masked(value & mask, mask)

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, eq=False)
class Bits:
    """A named range of bits, both ends included, of a register or of a conntrack field.

    width: how many bits it has.
    """

    name: str
    of: MatchField
    first: int
    last: int
    width: int = field(init=False)
    _mask: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", self.last - self.first + 1)
        object.__setattr__(self, "_mask", (1 << self.last + 1) - (1 << self.first))

    def eq(self, value: int) -> Term:
        """These bits are exactly `value`."""
        shifted = value << self.first
        if not 0 <= shifted <= self._mask:
            raise ValueError(f"{self.name} has {self.width} bits; {value:#x} does not fit")
        return Term(self.of, shifted, self._mask)

    def __repr__(self) -> str:
        return f"{self.of.name}[{self.first}..{self.last}]"


def _declare(*rows: tuple[str, int, int, int, str]) -> dict[str, MatchField]:
    return {row[0]: MatchField(order, *row) for order, row in enumerate(rows)}


FIELDS = _declare(
    ("in_port", OPENFLOW_BASIC, 0, 32, "decimal"),
    ("reg0", NXM_1, 0, 32, "hex"),
    ("reg1", NXM_1, 1, 32, "hex"),
    ("reg2", NXM_1, 2, 32, "hex"),
    ("reg3", NXM_1, 3, 32, "hex"),
    ("reg4", NXM_1, 4, 32, "hex"),
    ("reg5", NXM_1, 5, 32, "hex"),
    ("reg6", NXM_1, 6, 32, "hex"),
    ("reg7", NXM_1, 7, 32, "hex"),
    ("reg8", NXM_1, 8, 32, "hex"),
    ("reg9", NXM_1, 9, 32, "hex"),
    ("ct_state", NXM_1, 105, 32, "ct_state"),
    ("ct_mark", NXM_1, 107, 32, "hex"),
    ("ct_label", NXM_1, 108, 128, "hex"),
    ("vlan_tci", NXM_0, 4, 16, "hex"),
    ("dl_dst", OPENFLOW_BASIC, 3, 48, "mac"),
    ("dl_src", OPENFLOW_BASIC, 4, 48, "mac"),
    ("dl_type", OPENFLOW_BASIC, 5, 16, "hex"),
    ("ct_nw_src", NXM_1, 120, 32, "ipv4"),
    ("ct_nw_dst", NXM_1, 121, 32, "ipv4"),
    ("ct_ipv6_src", NXM_1, 122, 128, "ipv6"),
    ("ct_ipv6_dst", NXM_1, 123, 128, "ipv6"),
    ("nw_frag", NXM_1, 26, 8, "frag"),
    ("nw_ttl", NXM_1, 29, 8, "decimal"),
    ("nw_proto", OPENFLOW_BASIC, 10, 8, "decimal"),
    ("nw_src", OPENFLOW_BASIC, 11, 32, "ipv4"),
    ("nw_dst", OPENFLOW_BASIC, 12, 32, "ipv4"),
    ("ipv6_src", OPENFLOW_BASIC, 26, 128, "ipv6"),
    ("ipv6_dst", OPENFLOW_BASIC, 27, 128, "ipv6"),
    ("tcp_src", OPENFLOW_BASIC, 13, 16, "port"),
    ("tcp_dst", OPENFLOW_BASIC, 14, 16, "port"),
    ("tcp_flags", NXM_1, 34, 16, "hex"),
    ("udp_src", OPENFLOW_BASIC, 15, 16, "port"),
    ("udp_dst", OPENFLOW_BASIC, 16, 16, "port"),
    ("sctp_src", OPENFLOW_BASIC, 17, 16, "port"),
    ("sctp_dst", OPENFLOW_BASIC, 18, 16, "port"),
    ("icmp_type", OPENFLOW_BASIC, 19, 8, "decimal"),
    ("icmp_code", OPENFLOW_BASIC, 20, 8, "decimal"),
    ("icmpv6_type", OPENFLOW_BASIC, 29, 8, "decimal"),
    ("icmpv6_code", OPENFLOW_BASIC, 30, 8, "decimal"),
    ("nd_target", OPENFLOW_BASIC, 31, 128, "ipv6"),
    ("nd_sll", OPENFLOW_BASIC, 32, 48, "mac"),
    ("nd_tll", OPENFLOW_BASIC, 33, 48, "mac"),
    ("arp_op", OPENFLOW_BASIC, 21, 16, "decimal"),
    ("arp_spa", OPENFLOW_BASIC, 22, 32, "ipv4"),
    ("arp_tpa", OPENFLOW_BASIC, 23, 32, "ipv4"),
    ("arp_sha", OPENFLOW_BASIC, 24, 48, "mac"),
    ("arp_tha", OPENFLOW_BASIC, 25, 48, "mac"),
)

IN_PORT = FIELDS["in_port"]
CT_STATE = FIELDS["ct_state"]
CT_MARK = FIELDS["ct_mark"]
CT_LABEL = FIELDS["ct_label"]
VLAN_TCI = FIELDS["vlan_tci"]
ETH_DST = FIELDS["dl_dst"]
ETH_SRC = FIELDS["dl_src"]
ETH_TYPE = FIELDS["dl_type"]
IP_FRAG = FIELDS["nw_frag"]
IP_TTL = FIELDS["nw_ttl"]
IP_PROTO = FIELDS["nw_proto"]
IPV4_SRC = FIELDS["nw_src"]
IPV4_DST = FIELDS["nw_dst"]
IPV6_SRC = FIELDS["ipv6_src"]
IPV6_DST = FIELDS["ipv6_dst"]
CT_IPV4_SRC = FIELDS["ct_nw_src"]
CT_IPV4_DST = FIELDS["ct_nw_dst"]
CT_IPV6_SRC = FIELDS["ct_ipv6_src"]
CT_IPV6_DST = FIELDS["ct_ipv6_dst"]
TCP_SRC = FIELDS["tcp_src"]
TCP_DST = FIELDS["tcp_dst"]
TCP_FLAGS = FIELDS["tcp_flags"]
UDP_SRC = FIELDS["udp_src"]
UDP_DST = FIELDS["udp_dst"]
SCTP_SRC = FIELDS["sctp_src"]
SCTP_DST = FIELDS["sctp_dst"]
ICMP_TYPE = FIELDS["icmp_type"]
ICMP_CODE = FIELDS["icmp_code"]
ICMPV6_TYPE = FIELDS["icmpv6_type"]
ICMPV6_CODE = FIELDS["icmpv6_code"]
ND_TARGET = FIELDS["nd_target"]
ND_SLL = FIELDS["nd_sll"]
ND_TLL = FIELDS["nd_tll"]
ARP_OP = FIELDS["arp_op"]
ARP_SPA = FIELDS["arp_spa"]
ARP_TPA = FIELDS["arp_tpa"]
ARP_SHA = FIELDS["arp_sha"]
ARP_THA = FIELDS["arp_tha"]

#: OpenFlow number of the VM's port that sent the packet; 0 from the wire.
SRC_PORT = Bits("SRC_PORT", FIELDS["reg0"], 0, 15)
#: 1 if a VM of this hypervisor sent the packet, 0 if it came in by an uplink.
SRC_LOCAL = Bits("SRC_LOCAL", FIELDS["reg0"], 16, 16)
#: 1 if the packet is for a VM of this hypervisor, 0 if it leaves by the uplink.
DST_LOCAL = Bits("DST_LOCAL", FIELDS["reg0"], 17, 17)
#: The sending, and the receiving VM has brought this connection along from another hypervisor; both at once.
SENDER_RESUMES = Bits("SENDER_RESUMES", FIELDS["reg0"], 18, 18)
RECEIVER_RESUMES = Bits("RECEIVER_RESUMES", FIELDS["reg0"], 19, 19)
RESUMES = Bits("RESUMES", FIELDS["reg0"], 18, 19)
#: Which part of all ports a fan-out is about.
CHUNK = Bits("CHUNK", FIELDS["reg0"], 24, 31)
#: OpenFlow number of the port that the packet is for.
OUT_PORT = Bits("OUT_PORT", FIELDS["reg1"], 0, 15)
#: Policy (set of groups) of the sending VM and of the receiving VM.
EGRESS_POLICY = Bits("EGRESS_POLICY", FIELDS["reg2"], 0, 31)
INGRESS_POLICY = Bits("INGRESS_POLICY", FIELDS["reg3"], 0, 31)
#: Identity (set of referenced groups) of the destination, for egress rules, and of the source, for ingress rules.
EGRESS_IDENTITY = Bits("EGRESS_IDENTITY", FIELDS["reg4"], 0, 31)
INGRESS_IDENTITY = Bits("INGRESS_IDENTITY", FIELDS["reg5"], 0, 31)
#: Number of the rule that let a new connection out, and in; COMMIT copies them into ct_label.
EGRESS_RULE = Bits("EGRESS_RULE", FIELDS["reg6"], 0, 31)
INGRESS_RULE = Bits("INGRESS_RULE", FIELDS["reg7"], 0, 31)
#: Number of the sending and of the receiving VM's pod (its `Segment`).
SRC_POD = Bits("SRC_POD", FIELDS["reg8"], 0, 31)
DST_POD = Bits("DST_POD", FIELDS["reg9"], 0, 31)
#: The set of services that rules allow to the other end's network, in place of an identity, which is done with by then.
EGRESS_BUNDLE = Bits("EGRESS_BUNDLE", FIELDS["reg4"], 0, 31)
INGRESS_BUNDLE = Bits("INGRESS_BUNDLE", FIELDS["reg5"], 0, 31)

#: The originator is a VM of this hypervisor and its egress rules let the connection out.
ORIGIN_OK = Bits("ORIGIN_OK", CT_MARK, 0, 0)
#: The responder is a VM of this hypervisor and its ingress rules let the connection in.
RESPONDER_OK = Bits("RESPONDER_OK", CT_MARK, 1, 1)
#: Both marks at once, for exact comparisons.
MARKS = Bits("MARKS", CT_MARK, 0, 1)
#: The rules that admitted a connection.
LABEL_EGRESS = Bits("LABEL_EGRESS", CT_LABEL, 0, 31)
LABEL_INGRESS = Bits("LABEL_INGRESS", CT_LABEL, 32, 63)
#: What a connection is known by that a VM has brought along and that no flow can name by its packets: its entry carries
#: the ticket of the end that brought it, the originator or the responder.
ORIGIN_TICKET = Bits("ORIGIN_TICKET", CT_LABEL, 64, 95)
RESPONDER_TICKET = Bits("RESPONDER_TICKET", CT_LABEL, 96, 127)

#: Names that own their bits; `MARKS` and `RESUMES` are views of two of them each, `EGRESS_BUNDLE` and `INGRESS_BUNDLE`
#: of an identity.
OWNED: tuple[Bits, ...] = (
    SRC_PORT, SRC_LOCAL, DST_LOCAL, SENDER_RESUMES, RECEIVER_RESUMES, CHUNK, OUT_PORT, EGRESS_POLICY, INGRESS_POLICY,
    EGRESS_IDENTITY, INGRESS_IDENTITY, EGRESS_RULE, INGRESS_RULE, SRC_POD, DST_POD, ORIGIN_OK,
    RESPONDER_OK, LABEL_EGRESS, LABEL_INGRESS, ORIGIN_TICKET, RESPONDER_TICKET,
)  # fmt: skip

#: Bits of ct_state, ovs-fields(7).
CT_STATES = {"new": 0x01, "est": 0x02, "rel": 0x04, "rpl": 0x08, "inv": 0x10, "trk": 0x20}


def ct_state(flags: str) -> Term:
    """A conntrack state as ovs-ofctl writes it, for example ``+trk-inv+new``."""
    value = mask = 0
    for sign, name in zip(flags[0::4], (flags[i : i + 3] for i in range(1, len(flags), 4)), strict=True):
        mask |= CT_STATES[name]
        value |= CT_STATES[name] if sign == "+" else 0
    return CT_STATE.masked(value, mask)


def _check(owned: Iterable[Bits]) -> None:
    taken: dict[MatchField, list[Bits]] = {}
    for bits in owned:
        if not 0 <= bits.first <= bits.last < bits.of.bits:
            raise ValueError(f"{bits.name} does not lie within {bits.of.name}")
        for other in taken.setdefault(bits.of, []):
            if bits.first <= other.last and other.first <= bits.last:
                raise ValueError(f"{bits.name} and {other.name} share bits of {bits.of.name}")
        taken[bits.of].append(bits)


_check(OWNED)
