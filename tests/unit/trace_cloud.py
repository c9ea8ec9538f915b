# SPDX-License-Identifier: Apache-2.0
"""A small cloud in two forms: what somebody asked for, and the network of walkers that sgctl makes of it.

`Cloud` says what there is: pods, groups with rules, VMs on hypervisors. `Net` compiles it as an agent does (rows,
policy, flows), gives each hypervisor a `Switch`, and carries packets from VM to VM: over the pod's wire, by a router
between pods, in at every uplink that the frame reaches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from ipaddress import ip_address, ip_network
from itertools import chain

from flows.inputs import Ip
from flows.packet import End, Packet
from flows.pipeline import build
from flows.trace import Switch
from sgctl.localport import LocalPort
from sgctl.model import Account, Address, Group, Member, Nic, Pod, Range, Rule, Vm, Zone, member_id
from sgctl.policy import units
from sgctl.world import World
from tests.unit.worlds import by_id, uid

Pieces = tuple[Packet, ...]
UPLINK = 100
ROUTER_MAC = 0x0200000000FE
PROTOS = {"tcp": 6, "udp": 17, "icmp": 1, "sctp": 132, "gre": 47, "all": -1}
RESOLVER = "10.9.0.2"


@dataclass(frozen=True)
class Spec:
    """A rule: ``ingress`` or ``egress``, protocol, ports or ICMP type and code, and a CIDR or the name of a group."""

    direction: str
    protocol: str
    first: int = -1
    last: int = -1
    peer: str = "0.0.0.0/0"

    @property
    def is_group(self) -> bool:
        return self.peer[0].isalpha() and "/" in self.peer and ":" not in self.peer


def allow(text: str) -> Spec:
    """A rule in short: ``in tcp/80-90 from acme/web``, ``out udp/53 to 10.0.0.0/8``, ``in icmp/8,0 from ::/0``."""
    way, service, _, peer = text.split()
    protocol, _, numbers = service.partition("/")
    first, last = -1, -1
    if numbers:
        parts = numbers.split("," if protocol == "icmp" else "-")
        first, last = int(parts[0]), int(parts[-1])
    return Spec({"in": "ingress", "out": "egress"}[way], protocol, first, last, peer)


@dataclass(frozen=True)
class Guest:
    """A VM: its hypervisor, groups and addresses (the pod follows from them).

    What it is promised beside them: addresses and networks that it uses itself, those of a guest inside it, and
    addresses that others may hold as well, of whom the first in the cloud has them.
    """

    host: str
    groups: tuple[str, ...]
    addresses: tuple[str, ...]
    promised: tuple[str, ...] = ()
    nested: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()

    @property
    def behind(self) -> tuple[str, ...]:
        """All addresses and networks."""
        return (*self.addresses, *self.promised, *self.nested, *self.shared)


@dataclass(frozen=True)
class Cloud:
    """Pods by name with their subnets, groups (``account/name``) with their rules, VMs by name."""

    pods: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, tuple[Spec, ...]]
    vms: Mapping[str, Guest]

    @cached_property
    def hosts(self) -> list[str]:
        return sorted({vm.host for vm in self.vms.values()})

    def pod_of(self, address: Ip | str) -> str | None:
        """The pod in whose subnets an address is."""
        one = ip_address(address)
        nets = ((name, ip_network(net)) for name, subnets in self.pods.items() for net in subnets)
        return next((name for name, net in nets if one.version == net.version and one in net), None)

    def mac(self, vm: str) -> int:
        return 0x020000000100 | list(self.vms).index(vm)

    def port(self, vm: str) -> int:
        return list(self.vms).index(vm) + 1

    def holders(self, address: Ip | str) -> list[str]:
        """The VMs that may use this address."""
        return [name for name, vm in self.vms.items() if _among(address, vm.behind)]

    def owner(self, address: Ip | str) -> str | None:
        """The VM with this address."""
        return next(iter(self.holders(address)), None)

    def home(self, vm: str) -> str | None:
        """The pod of a VM."""
        return self.pod_of(self.vms[vm].addresses[0])

    def mac_behind(self, address: Ip | str, vm: str) -> int:
        """The MAC with which a VM, or the guest inside it, uses an address."""
        return self.mac(vm) | (0x600000 if _among(address, self.vms[vm].nested) else 0)

    def end(self, address: str, of: str) -> End:
        """One end of a packet in the eyes of VM `of`: by its own MAC in the same pod, else behind the router."""
        owner = self.owner(address)
        near = owner == of or (owner is not None and self.pod_of(address) == self.home(of))
        return End(self.mac_behind(address, owner) if near and owner else ROUTER_MAC, ip_address(address))


def _among(address: Ip | str, texts: Iterable[str]) -> bool:
    one = _address(str(address))
    return any(one in net for net in map(_network, texts))


_address, _network = lru_cache(1 << 12)(ip_address), lru_cache(1 << 12)(ip_network)


def world(cloud: Cloud, host: str) -> World:
    """The rows of a cloud, and the ports of one hypervisor."""
    accounts = {group.split("/")[0] for group in cloud.groups}
    here = [name for name, vm in cloud.vms.items() if vm.host == host]
    taps = (LocalPort(uuid=uid(f"tap {n}"), name=f"tap-{n}", ofport=cloud.port(n), iface_id=uid(n)) for n in here)
    uplink = LocalPort(uuid=uid("uplink"), name="uplink", ofport=UPLINK, role="uplink")
    return World(
        host=host,
        ports=(*taps, uplink),
        accounts=by_id(Account(id=uid(name), name=name, name_key=name) for name in accounts),
        zones=by_id([Zone(id=uid("zone"), name="zone", internal_dns1=RESOLVER)]),
        pods=by_id(_pod(name, subnets) for name, subnets in cloud.pods.items()),
        ranges=tuple(chain.from_iterable(_ranges(name, subnets) for name, subnets in cloud.pods.items())),
        groups=by_id(_group(name) for name in cloud.groups),
        rules=tuple(_rule(group, n, spec) for group, specs in cloud.groups.items() for n, spec in enumerate(specs)),
        vms=by_id(_vm(cloud, name) for name in cloud.vms),
        nics=by_id(_nic(cloud, name) for name in cloud.vms),
        addresses=tuple(
            Address(id=uid(f"address {text}"), address=text, nic=uid(name))
            for name, vm in cloud.vms.items()
            for text in vm.addresses
        ),
        members=tuple(
            {
                (group, text): Member(id=member_id(uid(group), text), group=uid(group), nic=uid(name), address=text)
                for name, vm in cloud.vms.items()
                for group in vm.groups
                for text in vm.behind
            }.values()
        ),
    )


def _allowed(cloud: Cloud, name: str) -> frozenset[str]:
    vm, mac = cloud.vms[name], (cloud.mac(name) | 0x600000).to_bytes(6, "big").hex(":")
    nested, shared = (f"{text} {mac}" for text in vm.nested), (f"{text} shared" for text in vm.shared)
    return frozenset((*vm.promised, *nested, *shared))


def _pod(name: str, subnets: Iterable[str]) -> Pod:
    net = ip_network(next(iter(subnets)))
    return Pod(
        id=uid(name), name=name, zone=uid("zone"), gateway=str(net[1]), netmask=str(net.netmask),
        start_ip=str(net[10]), end_ip=str(net[-2]),
    )  # fmt: skip


def _ranges(name: str, subnets: Iterable[str]) -> Iterator[Range]:
    for subnet in subnets:
        net = ip_network(subnet)
        if net.version == 6:
            yield Range(
                id=uid(f"range {net}"), zone=uid("zone"), pod=uid(name), ip6_cidr=subnet, ip6_gateway=str(net[1])
            )


def _group(name: str) -> Group:
    account, _, short = name.partition("/")
    return Group(id=uid(name), account=uid(account), name=short, name_key=short)


def _rule(group: str, number: int, spec: Spec) -> Rule:
    return Rule(
        id=uid(f"{group} {number} {spec}"), group=uid(group), direction=spec.direction, protocol=spec.protocol,
        proto=PROTOS[spec.protocol], first=spec.first, last=spec.last, digest=str(number),
        cidr="" if spec.is_group else spec.peer, peer=uid(spec.peer) if spec.is_group else None,
    )  # fmt: skip


def _vm(cloud: Cloud, name: str) -> Vm:
    pod = cloud.pod_of(cloud.vms[name].addresses[0])
    return Vm(id=uid(f"vm {name}"), name=name, account=uid("acme"), zone=uid("zone"), pod=uid(str(pod)))


def _nic(cloud: Cloud, name: str) -> Nic:
    vm, mac = cloud.vms[name], cloud.mac(name).to_bytes(6, "big").hex(":")
    pod = cloud.pod_of(vm.addresses[0])
    return Nic(
        id=uid(name), vm=uid(f"vm {name}"), account=uid("acme"), pod=uid(str(pod)), mac=mac,
        groups=frozenset(map(uid, vm.groups)), host=vm.host, state="up", allowed=_allowed(cloud, name),
    )  # fmt: skip


@dataclass
class Net:
    """The cloud at work."""

    cloud: Cloud
    switches: dict[str, Switch] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.become(self.cloud)

    def become(self, cloud: Cloud) -> None:
        """The cloud changes; connections stay."""
        self.cloud = cloud
        for host in cloud.hosts:
            here = units(world(cloud, host)).values()
            bridge = next(unit for unit in here if unit.owner == "bridge")
            self.switches.setdefault(host, Switch([])).install(flow for unit in here for flow in build(unit, bridge))

    def forget(self) -> None:
        for switch in self.switches.values():
            switch.forget()

    def send(self, pieces: Packet | Sequence[Packet], vm: str) -> set[str]:
        """Whom a VM's frame (or all fragments of a packet) reaches: VMs, or ``outside`` if the router sends it on."""
        return self._through(_many(pieces), self.cloud.vms[vm].host, self.cloud.port(vm))

    def send_from_outside(self, pieces: Packet | Sequence[Packet]) -> set[str]:
        """The same for a packet that comes to the router from elsewhere."""
        return self._routed(_many(pieces))

    def _through(self, pieces: Pieces, host: str, in_port: int) -> set[str]:
        walks = self.switches[host].walk_pieces(pieces, in_port)
        assert len({walk.outputs for walk in walks}) == 1, "pieces of one packet go different ways"
        reached: set[str] = set()
        for port in walks[0].outputs:
            if port != UPLINK:
                reached.add(next(name for name in self.cloud.vms if self.cloud.port(name) == port))
            elif pieces[0].ends[1].mac == ROUTER_MAC:
                reached |= self._routed(pieces)
            else:
                sender = self.cloud.owner(pieces[0].ends[0].ip)
                pod = self.cloud.home(sender) if sender else self.cloud.pod_of(pieces[0].ends[0].ip)
                reached |= self._on_wire(pieces, pod, except_host=host)
        return reached

    def _routed(self, pieces: Pieces) -> set[str]:
        """The router gives the packet to its receiver's MAC, in the receiver's pod."""
        target = pieces[0].ends[1].ip
        receiver = self.cloud.owner(target)
        if receiver is None:
            return {"outside"}
        ends = End(ROUTER_MAC, target), End(self.cloud.mac_behind(target, receiver), target)
        return self._on_wire(tuple(between(*ends, piece) for piece in pieces), self.cloud.home(receiver))

    def _on_wire(self, pieces: Pieces, pod: str | None, except_host: str = "") -> set[str]:
        """The physical network floods the frame to all hypervisors of the pod: only the receiver's may deliver it."""
        reached: set[str] = set()
        for host in self.cloud.hosts:
            pods = {self.cloud.home(name) for name, vm in self.cloud.vms.items() if vm.host == host}
            if host != except_host and pod in pods:
                reached |= self._through(pieces, host, UPLINK)
        return reached


def _many(pieces: Packet | Sequence[Packet]) -> Pieces:
    return (pieces,) if isinstance(pieces, Packet) else tuple(pieces)


def between(a: End, b: End, packet: Packet) -> Packet:
    """The packet in a frame from the MAC of `a` to that of `b`."""
    return Packet.parse(b.mac.to_bytes(6, "big") + a.mac.to_bytes(6, "big") + packet.frame[12:])


def packet(service: str, a: End, b: End, *, size: int = 8) -> Packet:
    """The first packet of ``tcp/80``, ``udp/53``, ``sctp/5``, ``icmp/8,0`` or ``gre``.

    size: about how many bytes of data it has, where a first packet may have any.
    """
    protocol, _, numbers = service.partition("/")
    if protocol == "icmp":
        kind, code = map(int, numbers.split(","))
        make_icmp = Packet.icmp6 if b.ip.version == 6 else Packet.icmp
        return make_icmp(a, b, kind, code, rest=bytes(size))
    if protocol == "gre":
        return Packet.ip(a, b, PROTOS["gre"], bytes(size))
    if protocol == "udp":
        return Packet.udp(a, b, int(numbers), payload=bytes(size))
    return Packet.tcp(a, b, int(numbers)) if protocol == "tcp" else Packet.sctp(a, b, int(numbers))
