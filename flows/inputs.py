# SPDX-License-Identifier: Apache-2.0
"""What the pipeline is built from: one frozen value per owner, whose flows are a function of that value alone.

A hypervisor's bridge is described by one `Bridge`, and a `Segment`, `Port`, `Standby`, `Policy`, `Peer` or `Fanout` for
each thing that its flows are about. Equal values give equal flows, in any process at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple, TypeAlias

Ip: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
Block: TypeAlias = Ip | Network

ZONE = 1
"""The conntrack zone of a bridge's connections, whoever their ends are."""
FANOUT_CHUNKS = 32
"""Into how many parts the ports of a bridge are divided for router advertisements and broadcast DHCP replies."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `rate` packets per second, and `burst` at once."""

    rate: int
    burst: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What each port may use of what all share (None: as much as it likes).

    connections: new ones per direction.  fragments: per direction.  frames: those of a port on standby that are shown
    to the agent.
    """

    connections: Limit | None = None
    fragments: Limit | None = None
    frames: Limit | None = None


@dataclass(frozen=True, slots=True)
class Bridge:
    """The switch itself: OpenFlow numbers of its uplinks (VMs' frames leave by the first), its conntrack zone, and the
    limits of each of its ports."""

    uplinks: tuple[int, ...]
    zone: int = ZONE
    limits: Limits = Limits()

    @property
    def owner(self) -> str:
        """The owner of the flows that every bridge has."""
        return "bridge"


@dataclass(frozen=True, slots=True)
class Segment:
    """A pod as its VMs see it: subnets, DHCP servers and DNS resolvers, IPv4 and IPv6.

    A unit too: it owns the flows towards these servers, once for all ports of the pod.
    number: which pod a packet's VM is in, as registers hold it; a digest of the content, never 0.
    """

    subnets: tuple[Network, ...] = ()
    dhcp: tuple[Ip, ...] = ()
    dns: tuple[Ip, ...] = ()
    number: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        text = " ".join(",".join(map(str, part)) for part in (self.subnets, self.dhcp, self.dns))
        digest = blake2b(text.encode(), digest_size=4).digest()
        object.__setattr__(self, "number", int.from_bytes(digest, "big") or 1)

    @property
    def owner(self) -> str:
        """The owner of this pod's flows."""
        return f"pod/{self.number:08x}"


@dataclass(frozen=True, slots=True)
class Allowed:
    """What operators promise to a NIC beside its own addresses: one more address, or a network.

    mac: of a guest inside the VM that has it; 0: the VM uses it with the NIC's own MAC.  shared: other NICs may hold
    the same address, and whoever of them announces it has it; always a single address. Its MAC, if it has one, is the
    virtual MAC of VRRP that goes with it, besides the NIC's own.
    """

    network: Network
    mac: int = 0
    shared: bool = False

    @property
    def virtual(self) -> int:
        """Its virtual MAC, or 0."""
        return self.mac if self.shared else 0

    @property
    def nested(self) -> int:
        """The MAC of the guest that alone uses it, or 0."""
        return 0 if self.shared else self.mac


@dataclass(frozen=True, slots=True)
class Port:
    """An open VM port: its NIC, OpenFlow number (1-65279), MAC, all addresses, the policy of its groups, its pod.

    allowed: what it has been promised beside its addresses; nothing of one overlaps with another.
    """

    nic: str
    number: int
    mac: int
    addresses: tuple[Ip, ...]
    policy: int
    segment: Segment
    allowed: tuple[Allowed, ...] = ()

    @property
    def owner(self) -> str:
        """The owner of this port's flows."""
        return f"port/{self.nic}"

    @property
    def own(self) -> tuple[Block, ...]:
        """What the VM uses with the NIC's MAC: its addresses and what it is allowed beside them."""
        if not self.allowed:
            return self.addresses
        return (*self.addresses, *(one.network for one in self.allowed if not one.nested))

    @property
    def held(self) -> tuple[Block, ...]:
        """All that is behind this port, with whatever MAC."""
        if not self.allowed:
            return self.addresses
        return (*self.addresses, *(one.network for one in self.allowed))

    @property
    def shared(self) -> frozenset[Block]:
        """What other NICs may have as well."""
        return frozenset(one.network for one in self.allowed if one.shared)

    @property
    def nested(self) -> Mapping[int, tuple[Network, ...]]:
        """What guests inside the VM have, by their MACs."""
        if not self.allowed:
            return {}
        macs = sorted({one.nested for one in self.allowed} - {0})
        return {mac: tuple(one.network for one in self.allowed if one.nested == mac) for mac in macs}

    @property
    def virtual(self) -> Mapping[int, tuple[Ip, ...]]:
        """Virtual MACs that other NICs may hold as well, and the addresses that go with each, all of one family."""
        if not self.allowed:
            return {}
        macs = sorted({one.virtual for one in self.allowed} - {0})
        return {mac: tuple(one.network.network_address for one in self.allowed if one.virtual == mac) for mac in macs}


@dataclass(frozen=True, slots=True)
class Shared:
    """An address that several NICs may hold, and the OpenFlow numbers of the open ports of those that are here."""

    address: Ip
    ports: tuple[int, ...]

    @property
    def owner(self) -> str:
        """The owner of the flows that ask all of them."""
        return f"shared/{self.address}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Those of one pod that may hold a virtual MAC: its addresses, and the OpenFlow numbers of the open ports here."""

    pod: Segment
    addresses: tuple[Ip, ...]
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Virtual:
    """A virtual MAC of VRRP that NICs here may hold: it is where it was heard last. Clusters of several pods may have
    the same, and know nothing of each other; all their addresses are of one family."""

    mac: int
    clusters: tuple[Cluster, ...]

    @property
    def owner(self) -> str:
        """The owner of the flows that find it."""
        return f"virtual/{self.mac:012x}"


@dataclass(frozen=True, slots=True)
class Audience:
    """Who must hear that an address that several NICs may hold has another holder: all VMs of its pod that are here.

    pod: the number of the `Segment`.  addresses: those that NICs of the pod may share, wherever these are.
    ports: the OpenFlow numbers of the open ports.
    """

    pod: int
    addresses: tuple[Ip, ...]
    ports: tuple[int, ...]

    @property
    def owner(self) -> str:
        """The owner of the flows that tell them."""
        return f"audience/{self.pod:08x}"


@dataclass(frozen=True, slots=True)
class Standby:
    """A port whose NIC is active on another hypervisor: closed, but its first frame is shown to the agent."""

    nic: str
    number: int

    @property
    def owner(self) -> str:
        """The owner of this port's flows."""
        return f"standby/{self.nic}"


class Connection(NamedTuple):
    """A connection that a NIC has accepted on another hypervisor, as it looks from the NIC; `peer` is the other end.

    own_port, peer_port: of TCP and UDP, else 0.  rule: the rule that admitted it there, 0 if none did.
    expires: until when it would have been remembered there, seconds of this machine's monotonic clock.
    ticket: what its entry here is known by, where its packets do not tell connections apart (ICMP, SCTP); else 0.
    opened: the NIC's VM opened it; matters with a ticket only.
    """

    proto: int
    own: Ip
    peer: Ip
    own_port: int = 0
    peer_port: int = 0
    rule: int = 0
    expires: int = 0
    ticket: int = 0
    opened: bool = False


@dataclass(frozen=True, slots=True)
class Pieces:
    """That later fragments between two addresses may belong to a connection that a NIC has brought along.

    peer: None for any.  rule: that of these connections, the lowest of several.  expires: when the last of them does.
    """

    own: Ip
    peer: Ip | None
    rule: int
    expires: int


@dataclass(frozen=True, slots=True)
class Moved:
    """A port whose NIC has brought connections along from another hypervisor, or will do so when it comes."""

    nic: str
    number: int

    @property
    def owner(self) -> str:
        """The owner of the flows that send its packets past what it brought."""
        return f"moved/{self.nic}"


@dataclass(frozen=True, slots=True)
class Resumed:
    """Connections that a NIC brings along to a port, all of which expire by `until` (monotonic clock)."""

    nic: str
    number: int
    until: int
    connections: tuple[Connection, ...]
    pieces: tuple[Pieces, ...] = ()

    @property
    def owner(self) -> str:
        """The owner of these connections' flows."""
        return f"resumed/{self.nic}/{self.until}"


@dataclass(frozen=True, slots=True)
class Service:
    """What a rule allows: an IP protocol (None: any) with a range of destination ports or an ICMP type and code.

    Ports (0-65535, both ends included) count for TCP, UDP and SCTP, `icmp_type` and `icmp_code` (None: any) for
    protocol 1, which means ICMPv6 where the peer is IPv6.
    """

    proto: int | None = None
    first: int = 0
    last: int = 65535
    icmp_type: int | None = None
    icmp_code: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One permission: a number (1 to 2^32-1, kept in ct_label), a service, and its peers: a CIDR or identities."""

    number: int
    service: Service
    cidr: Network | None = None
    identities: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of a set of groups. `egress_open`: no group of the set has an egress rule, so everything may leave."""

    number: int
    egress_open: bool
    egress: tuple[Rule, ...] = ()
    ingress: tuple[Rule, ...] = ()

    @property
    def owner(self) -> str:
        """The owner of this policy's flows."""
        return f"policy/{self.number:08x}"


@dataclass(frozen=True, slots=True)
class Peer:
    """An address or a network that local rules name through groups, with its identity as destination and as source
    (0: none).

    owner: the owner of this address's flows; there are thousands, and to write an address takes a while.
    """

    address: Block
    egress_identity: int = 0
    ingress_identity: int = 0
    owner: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "owner", f"peer/{self.address!s}")


@dataclass(frozen=True, slots=True)
class Fanout:
    """One part of the open VM ports (their OpenFlow numbers), for what must reach all of them."""

    chunk: int
    ports: tuple[int, ...]

    @property
    def owner(self) -> str:
        """The owner of this part's flows."""
        return f"fanout/{self.chunk}"


@dataclass(frozen=True, slots=True)
class Overdrawn:
    """A port whose NIC has more connections than its quota: of those that it opened, of those that it accepted from
    outside, or of both."""

    nic: str
    number: int
    opened: bool
    accepted: bool

    @property
    def owner(self) -> str:
        """The owner of the flows that let no more begin."""
        return f"quota/{self.nic}"


Unit: TypeAlias = (
    Bridge | Segment | Port | Shared | Virtual | Audience | Standby | Moved | Resumed | Overdrawn | Policy | Peer
    | Fanout
)
"""Anything that owns flows."""
