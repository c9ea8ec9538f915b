# SPDX-License-Identifier: Apache-2.0
"""All tables of the pipeline, in the order in which a packet meets them.

A `Table` says what its flows may match, which registers they read and write, where they may go, and why a packet that
no flow matches is dropped.  `flows.lint` holds built flows against it.  Packets only go forward; ids have gaps.

    CLASSIFIER ─┬ a VM's port ─▶ SOURCE_GUARD ─┬─▶ LOCATE ─▶ SERVICES ─┬─▶ ND_GUARD ─▶ NEIGHBOUR ─▶ AUDIENCE, DELIVER
                ├ a guest in it ▶ NESTED_GUARD ┤  (HOLDER ─▶ VIRTUAL)  ├─▶ FANOUT ─▶ DHCP_WAITING
                ├ a cluster's ─▶ VIRTUAL_GUARD ┤                       └─▶ DESTINATION ─▶ CONNTRACK ⟲
                └ an uplink ───▶ WIRE_GUARD ───┘
    (RESUMED_SENDER ─▶ RESUMED_RECEIVER ─▶ RESUMED ─▶)
    STATE ─▶ EGRESS_PEER ─▶ EGRESS_RULES (─▶ EGRESS_BUNDLES) ─▶
             INGRESS_PEER (─▶ DHCP_GUARD) ─▶ INGRESS_RULES (─▶ INGRESS_BUNDLES) ─▶ COMMIT ⟲ OUTPUT
"""

from __future__ import annotations

from dataclasses import dataclass

from flows import fields as f
from flows.fields import Bits, MatchField

_TREES = {f.IPV6_SRC: "ipv6_src", f.IPV6_DST: "ipv6_dst", f.IPV4_SRC: "ip_src", f.IPV4_DST: "ip_dst"}
_MOST_TREES = 3


@dataclass(frozen=True, slots=True)
class Table:
    """A declaration.

    purpose: what it decides.  match: packet and conntrack fields that flows may match.  reads, writes: register and
    conntrack bits that flows may match or copy, and set.  to: names of the tables where packets may go on.
    miss: the reason of the drop at priority 0.
    """

    id: int
    name: str
    purpose: str
    match: frozenset[MatchField]
    reads: frozenset[Bits]
    writes: frozenset[Bits]
    to: tuple[str, ...]
    miss: str

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The addresses for which the switch should keep prefix trees here, by their names in ovs-vswitchd.conf.db(5).

        Without one, a packet's cached flow has the whole address wherever any flow looks at a bit of it, so that each
        client has a cached flow of its own; by default there are trees for IPv4 only. Open vSwitch 3.1 allows three:
        guards that look at all four look at an IPv4 destination only where the source is one that they guard.
        """
        return tuple(name for field, name in _TREES.items() if field in self.match)[:_MOST_TREES]


def _table(
    number: int,
    name: str,
    purpose: str,
    *,
    miss: str,
    match: tuple[MatchField, ...] = (),
    reads: tuple[Bits, ...] = (),
    writes: tuple[Bits, ...] = (),
    to: tuple[str, ...] = (),
) -> Table:
    return Table(number, name, purpose, frozenset(match), frozenset(reads), frozenset(writes), to, miss)


_SENDER = (f.SRC_PORT, f.SRC_LOCAL)
_IP = (f.ETH_TYPE, f.IP_PROTO, f.IPV4_SRC, f.IPV4_DST, f.IPV6_SRC, f.IPV6_DST)
_ASKED = (f.ETH_TYPE, f.IP_PROTO, f.IPV4_DST, f.IPV6_SRC, f.IPV6_DST)
_UDP = (f.IP_FRAG, f.UDP_SRC, f.UDP_DST)
_ICMPV6 = (f.IP_FRAG, f.IP_TTL, f.ICMPV6_TYPE, f.ICMPV6_CODE)
_PORTS = (f.TCP_DST, f.UDP_SRC, f.UDP_DST, f.SCTP_DST)
_ICMP_TYPES = (f.ICMP_TYPE, f.ICMP_CODE, f.ICMPV6_TYPE, f.ICMPV6_CODE)

CLASSIFIER = _table(
    0,
    "CLASSIFIER",
    "Who sent this frame: which VM's port, with its MAC, or an uplink? Strange frames end here.",
    match=(f.IN_PORT, f.VLAN_TCI, f.ETH_SRC, f.ETH_DST, f.ETH_TYPE, f.ARP_OP, f.ARP_SHA, f.ARP_THA),
    writes=(f.SRC_PORT, f.SRC_LOCAL, f.EGRESS_POLICY, f.SRC_POD),
    to=("SOURCE_GUARD", "NESTED_GUARD", "VIRTUAL_GUARD", "WIRE_GUARD", "DELIVER"),
    miss="port not open",
)
SOURCE_GUARD = _table(
    10,
    "SOURCE_GUARD",
    "May this VM send from this address?",
    match=(
        f.ETH_TYPE, f.IP_PROTO, f.IPV4_SRC, f.IPV4_DST, f.IPV6_SRC, *_UDP, f.ICMPV6_TYPE,
        f.ARP_OP, f.ARP_SPA, f.ARP_TPA,
    ),
    reads=_SENDER,
    to=("LOCATE",),
    miss="protocol not guarded",
)
NESTED_GUARD = _table(
    15,
    "NESTED_GUARD",
    "May this guest inside a VM, which has been promised a MAC of its own, send from this address?",
    match=(*_IP, f.ETH_SRC, f.ICMPV6_TYPE, f.ARP_OP, f.ARP_SPA, f.ARP_TPA),
    reads=_SENDER,
    to=("LOCATE",),
    miss="not promised to this MAC",
)
VIRTUAL_GUARD = _table(
    17,
    "VIRTUAL_GUARD",
    "May this VM, which has been promised a virtual MAC, send this with it? What says who has it is remembered.",
    match=(*_IP, f.ETH_SRC, f.ICMPV6_TYPE, f.ARP_SPA),
    reads=_SENDER,
    to=("LOCATE",),
    miss="not sent with a virtual MAC",
)
WIRE_GUARD = _table(
    20,
    "WIRE_GUARD",
    "Does a frame from an uplink claim to be from a VM of this hypervisor, or from nowhere?",
    match=(*_IP, f.IN_PORT, f.ETH_SRC, f.ICMPV6_TYPE, f.ND_TARGET, f.ARP_SPA, f.ARP_SHA),
    to=("LOCATE",),
    miss="protocol not guarded",
)
LOCATE = _table(
    30,
    "LOCATE",
    "Is the destination MAC that of a VM of this hypervisor?",
    match=(f.ETH_DST, f.ETH_TYPE, f.IPV4_DST, f.IPV6_DST, f.ARP_TPA),
    reads=(f.SRC_LOCAL, f.SRC_POD),
    writes=(f.DST_LOCAL, f.OUT_PORT, f.INGRESS_POLICY, f.DST_POD),
    to=("HOLDER", "VIRTUAL", "SERVICES"),
    miss="MAC not here",
)
HOLDER = _table(
    32,
    "HOLDER",
    "Where was this virtual MAC heard last? Its flows are learned.",
    match=(f.ETH_DST,),
    reads=(f.DST_POD,),
    writes=(f.OUT_PORT,),
    miss="virtual MAC not heard yet",
)
VIRTUAL = _table(
    34,
    "VIRTUAL",
    "Is that the port of a VM that has been promised it? Otherwise it is behind the uplink.",
    match=(f.ETH_DST,),
    reads=(f.SRC_LOCAL, f.OUT_PORT, f.DST_POD),
    writes=(f.DST_LOCAL, f.OUT_PORT, f.INGRESS_POLICY, f.DST_POD),
    to=("SERVICES",),
    miss="virtual MAC not here",
)
SERVICES = _table(
    40,
    "SERVICES",
    "ARP, neighbour discovery, DHCP and router advertisements leave the path of ordinary packets; broadcasts end here.",
    match=(f.ETH_SRC, f.ETH_DST, f.IPV4_SRC, *_ASKED, *_UDP, *_ICMPV6, f.ARP_OP),
    reads=(*_SENDER, f.DST_LOCAL, f.OUT_PORT, f.SRC_POD, f.DST_POD),
    writes=(f.CHUNK,),
    to=("ND_GUARD", "NEIGHBOUR", "FANOUT", "DELIVER", "DESTINATION"),
    miss="ARP neither request nor reply",
)
ND_GUARD = _table(
    50,
    "ND_GUARD",
    "May this VM say this about itself in a neighbour solicitation or advertisement?",
    match=(
        f.ETH_DST, f.ETH_TYPE, f.IP_PROTO, f.IPV6_SRC, f.IPV6_DST, f.ICMPV6_TYPE, f.ND_TARGET, f.ND_SLL, f.ND_TLL,
    ),
    reads=_SENDER,
    to=("NEIGHBOUR", "AUDIENCE", "DELIVER"),
    miss="ND spoofed",
)
NEIGHBOUR = _table(
    60,
    "NEIGHBOUR",
    "Who is asked by this ARP request or neighbour solicitation, or must hear this announcement?",
    match=(f.ETH_DST, f.ETH_TYPE, f.IP_PROTO, f.ICMPV6_TYPE, f.ND_TARGET, f.ARP_OP, f.ARP_SPA, f.ARP_TPA),
    reads=(*_SENDER, f.DST_LOCAL),
    writes=(f.DST_LOCAL, f.OUT_PORT, f.DST_POD),
    to=("AUDIENCE", "DELIVER"),
    miss="nobody here is asked",
)
AUDIENCE = _table(
    65,
    "AUDIENCE",
    "Tell all VMs of a pod who has an address now that several may hold.",
    reads=(f.SRC_LOCAL, f.SRC_POD, f.DST_POD),
    miss="no VM of this pod",
)
FANOUT = _table(
    70,
    "FANOUT",
    "Router advertisements to one part of all VMs, broadcast DHCP replies to one part of those that wait.",
    match=(f.ETH_TYPE, f.IP_PROTO),
    reads=(f.CHUNK,),
    writes=(f.OUT_PORT,),
    to=("DHCP_WAITING",),
    miss="no VM in this part",
)
DHCP_WAITING = _table(
    80,
    "DHCP_WAITING",
    "Has this VM asked for DHCP lately, and this server? Its flows are learned from requests, and expire.",
    match=(f.ETH_TYPE, f.IPV4_SRC),
    reads=(f.OUT_PORT,),
    miss="DHCP not asked for",
)
DELIVER = _table(
    90,
    "DELIVER",
    "Send ARP, neighbour discovery and DHCP, which conntrack does not know, to their port or uplink.",
    reads=(f.SRC_LOCAL, f.DST_LOCAL, f.OUT_PORT),
    miss="no VM and no uplink for it",
)
DESTINATION = _table(
    100,
    "DESTINATION",
    "Does the destination address belong to the destination MAC, and is it one that VMs may send to?",
    match=_ASKED,
    reads=(f.SRC_LOCAL, f.DST_LOCAL, f.OUT_PORT, f.SRC_POD),
    to=("CONNTRACK",),
    miss="address not behind this MAC",
)
CONNTRACK = _table(
    110,
    "CONNTRACK",
    "Look the packet's connection up. Fragments wait there for each other, so each port's are bounded.",
    match=(f.ETH_TYPE, f.IP_FRAG),
    reads=(*_SENDER, f.DST_LOCAL, f.OUT_PORT),
    to=("RESUMED_SENDER", "STATE"),
    miss="protocol not tracked",
)
_RESUMED = (f.SRC_LOCAL, f.DST_LOCAL, f.ORIGIN_OK, f.RESPONDER_OK, f.MARKS)
_TUPLE = (f.CT_STATE, *_IP, f.IP_FRAG, f.TCP_SRC, f.TCP_DST, f.TCP_FLAGS, f.UDP_SRC, f.UDP_DST)
_TICKETS = (f.ORIGIN_TICKET, f.RESPONDER_TICKET)
RESUMED_SENDER = _table(
    112,
    "RESUMED_SENDER",
    "Has the sending VM brought this connection along from another hypervisor?",
    match=_TUPLE,
    reads=(*_RESUMED, *_TICKETS, f.SRC_PORT),
    writes=(f.SENDER_RESUMES, f.EGRESS_RULE),
    to=("RESUMED_RECEIVER", "STATE"),
    miss="not tracked",
)
RESUMED_RECEIVER = _table(
    114,
    "RESUMED_RECEIVER",
    "Has the receiving VM brought this connection along from another hypervisor?",
    match=_TUPLE,
    reads=(*_RESUMED, *_TICKETS, f.OUT_PORT),
    writes=(f.RECEIVER_RESUMES, f.INGRESS_RULE),
    to=("RESUMED",),
    miss="not tracked",
)
RESUMED = _table(
    116,
    "RESUMED",
    "Is a connection that was brought along now accepted by all its ends that are here?",
    match=(f.CT_STATE, f.ETH_TYPE),
    reads=(*_RESUMED, f.RESUMES, f.LABEL_EGRESS, f.LABEL_INGRESS),
    writes=(f.ORIGIN_OK, f.RESPONDER_OK, f.MARKS, f.EGRESS_RULE, f.INGRESS_RULE),
    to=("STATE", "INGRESS_PEER", "COMMIT", "OUTPUT"),
    miss="not tracked",
)
STATE = _table(
    120,
    "STATE",
    "Does the packet belong to a connection that both ends on this hypervisor have accepted?",
    match=(f.CT_STATE, f.ETH_TYPE, f.IP_PROTO, f.ICMP_TYPE),
    reads=(*_SENDER, f.DST_LOCAL, f.ORIGIN_OK, f.RESPONDER_OK, f.MARKS, f.LABEL_EGRESS, f.LABEL_INGRESS),
    writes=(f.RECEIVER_RESUMES, f.EGRESS_RULE, f.INGRESS_RULE),
    to=("RELATED", "EGRESS_PEER", "INGRESS_PEER", "OUTPUT"),
    miss="not tracked",
)
RELATED = _table(
    130,
    "RELATED",
    "Is the VM that sends an ICMP error an end of the connection that the error is about?",
    match=(f.CT_STATE, f.ETH_TYPE, f.CT_IPV4_SRC, f.CT_IPV4_DST, f.CT_IPV6_SRC, f.CT_IPV6_DST),
    reads=(*_SENDER, f.ORIGIN_OK, f.RESPONDER_OK),
    to=("OUTPUT",),
    miss="ICMP error about another's connection",
)
EGRESS_PEER = _table(
    140,
    "EGRESS_PEER",
    "Which groups that egress rules name does the destination belong to? Who has no egress rules skips them.",
    match=(f.ETH_TYPE, f.IPV4_DST, f.IPV6_DST),
    reads=(f.EGRESS_POLICY,),
    writes=(f.EGRESS_IDENTITY,),
    to=("EGRESS_RULES", "INGRESS_PEER"),
    miss="protocol without peers",
)
EGRESS_RULES = _table(
    150,
    "EGRESS_RULES",
    "Do the sender's groups let this new connection out?",
    match=(f.ETH_TYPE, f.IP_PROTO, f.IP_FRAG, f.IPV4_DST, f.IPV6_DST, *_PORTS, *_ICMP_TYPES),
    reads=(f.EGRESS_POLICY, f.EGRESS_IDENTITY, f.EGRESS_RULE, f.SRC_POD),
    writes=(f.EGRESS_RULE, f.EGRESS_BUNDLE),
    to=("EGRESS_BUNDLES", "INGRESS_PEER"),
    miss="no egress rule",
)
EGRESS_BUNDLES = _table(
    155,
    "EGRESS_BUNDLES",
    "Is this one of the services that many of the sender's rules allow to the destination's network?",
    match=(f.ETH_TYPE, f.IP_PROTO, f.IP_FRAG, f.TCP_DST, f.UDP_DST, f.SCTP_DST),
    reads=(f.EGRESS_POLICY, f.EGRESS_BUNDLE),
    writes=(f.EGRESS_RULE,),
    to=("INGRESS_PEER",),
    miss="no egress rule",
)
INGRESS_PEER = _table(
    160,
    "INGRESS_PEER",
    "Which groups that ingress rules name does the source belong to? What leaves skips the rules, DHCP is guarded.",
    match=(f.ETH_TYPE, f.IP_PROTO, f.IPV4_SRC, f.IPV6_SRC, f.UDP_DST),
    reads=(f.SRC_LOCAL, f.DST_LOCAL, f.RECEIVER_RESUMES),
    writes=(f.INGRESS_IDENTITY,),
    to=("DHCP_GUARD", "INGRESS_RULES", "COMMIT"),
    miss="protocol without peers",
)
DHCP_GUARD = _table(
    165,
    "DHCP_GUARD",
    "Is this DHCP with one of the servers of the sender's pod?",
    match=(f.ETH_TYPE, f.IP_PROTO, f.IPV4_DST, f.IPV6_DST, f.UDP_SRC, f.UDP_DST),
    reads=(f.DST_LOCAL, f.SRC_POD),
    to=("COMMIT",),
    miss="DHCP other than to the pod's servers",
)
INGRESS_RULES = _table(
    170,
    "INGRESS_RULES",
    "Do the receiver's groups let this new connection in?",
    match=(f.ETH_TYPE, f.IP_PROTO, f.IP_FRAG, f.IPV4_SRC, f.IPV6_SRC, *_PORTS, *_ICMP_TYPES),
    reads=(f.SRC_LOCAL, f.INGRESS_POLICY, f.INGRESS_IDENTITY, f.INGRESS_RULE, f.DST_POD),
    writes=(f.INGRESS_RULE, f.INGRESS_BUNDLE),
    to=("INGRESS_BUNDLES", "COMMIT"),
    miss="no ingress rule",
)
INGRESS_BUNDLES = _table(
    175,
    "INGRESS_BUNDLES",
    "Is this one of the services that many of the receiver's rules allow from the source's network?",
    match=(f.ETH_TYPE, f.IP_PROTO, f.IP_FRAG, f.TCP_DST, f.UDP_DST, f.SCTP_DST),
    reads=(f.INGRESS_POLICY, f.INGRESS_BUNDLE),
    writes=(f.INGRESS_RULE,),
    to=("COMMIT",),
    miss="no ingress rule",
)
COMMIT = _table(
    180,
    "COMMIT",
    "Remember the connection: which ends accepted it, and by which rules.",
    match=(f.CT_STATE, f.ETH_TYPE),
    reads=(
        f.SRC_LOCAL, f.DST_LOCAL, f.OUT_PORT, f.RECEIVER_RESUMES, f.RESPONDER_OK, f.MARKS, f.EGRESS_RULE,
        f.INGRESS_RULE,
    ),
    writes=(f.ORIGIN_OK, f.RESPONDER_OK, f.MARKS, f.LABEL_EGRESS, f.LABEL_INGRESS),
    to=("OUTPUT",),
    miss="not tracked",
)
OUTPUT = _table(
    190,
    "OUTPUT",
    "Send a tracked packet to its port or uplink.",
    match=(f.CT_STATE,),
    reads=(f.SRC_LOCAL, f.DST_LOCAL, f.OUT_PORT),
    miss="not tracked, or no uplink",
)

#: Every table, in packet order.
TABLES: tuple[Table, ...] = (
    CLASSIFIER, SOURCE_GUARD, NESTED_GUARD, VIRTUAL_GUARD, WIRE_GUARD, LOCATE, HOLDER, VIRTUAL, SERVICES, ND_GUARD,
    NEIGHBOUR, AUDIENCE, FANOUT, DHCP_WAITING, DELIVER, DESTINATION, CONNTRACK, RESUMED_SENDER, RESUMED_RECEIVER,
    RESUMED, STATE, RELATED, EGRESS_PEER, EGRESS_RULES, EGRESS_BUNDLES, INGRESS_PEER, DHCP_GUARD, INGRESS_RULES,
    INGRESS_BUNDLES, COMMIT, OUTPUT,
)  # fmt: skip
#: Looked up beside the packet's way, or by copies of it (`Resubmit`): what finds nothing there has lost nothing.
ASIDE: frozenset[Table] = frozenset({HOLDER, FANOUT, DHCP_WAITING})
BY_NAME: dict[str, Table] = {table.name: table for table in TABLES}
BY_ID: dict[int, Table] = {table.id: table for table in TABLES}


def _check(tables: tuple[Table, ...]) -> None:
    if [table.id for table in tables] != sorted({table.id for table in tables}):
        raise ValueError("table ids must ascend in packet order")
    for table in tables:
        for name in table.to:
            if BY_NAME[name].id <= table.id:
                raise ValueError(f"{table.name} goes back to {name}")


_check(TABLES)
