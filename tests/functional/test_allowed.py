# SPDX-License-Identifier: Apache-2.0
"""What operators promise to NICs beside their addresses: clusters that share an address, and guests inside VMs.

Their guards stay: each has what it was promised, from then on until it is taken back, and nobody else has it. The
interface of the VM with a guest inside is a bridge, with a wire to each hypervisor and to the guest, so that both can
move (`test_promise_migration`).
"""

from collections.abc import Iterator, Mapping
from itertools import count

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from devstack.lab import VM, Lab, Network
from devstack.lab.cloud import Cloud, Machine
from devstack.lab.namespace import wait_for
from devstack.lab.segment import skip_duplicate_detection, wire
from tests.functional.cluster import CLUSTER, LENGTH, Promises, announcements, datagram, echo, promising
from tests.functional.promised import BOTH, allow, boot, goes_on, order, promised_cloud, revoke
from tests.functional.test_promise_migration import Wanderer

pytestmark = pytest.mark.usefixtures("in_force")
SERVICES = ("tcp/80", "icmp")
GUEST_MAC = "02:00:00:00:60:01"
GUEST = {4: "10.1.0.252", 6: "fd00:1::1:252"}
EXTRA = {4: "10.1.0.253", 6: "fd00:1::1:253"}
_ports = count(20000)


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Iterator[Cloud]:
    """Two hypervisors on one pod; VMs of a cluster on both, who may reach it, and who may not."""
    with promised_cloud(module_lab, pods=1) as cloud:
        tenant = cloud.create_account("tenant", ("web", "peer", "none"))
        for service in SERVICES:
            allow(tenant, "web", service, peers=["tenant/peer"])
            allow(tenant, "peer", service, peers=["tenant/web"])
        names = (("node1", 1, "web"), ("node2", 2, "web"), ("node3", 1, "web"), ("host", 1, "web"))
        more = (("peer1", 1, "peer"), ("peer2", 2, "peer"), ("none1", 1, "none"), ("none2", 2, "none"))
        boot(cloud, *(order(cloud, tenant, *one) for one in (*names, *more)))
        for machine in cloud.machines.values():
            machine.vm.serve("tcp", 80)
        yield cloud


@pytest.fixture
def promises(cloud: Cloud) -> Iterator[Promises]:
    with promising(cloud) as promises:
        yield promises


class Cluster:
    """VMs of which one has the cluster's addresses, as keepalived would have it."""

    def __init__(self, cloud: Cloud) -> None:
        self.machines = [cloud.machines[f"node{number}"] for number in (1, 2, 3)]
        self.cloud = cloud
        self.holder: Machine | None = None

    def give(self, holder: Machine | None) -> None:
        """Another one takes them and announces them."""
        if self.holder is not None:
            for version, address in CLUSTER.items():
                self.holder.vm.remove_address(f"{address}/{LENGTH[version]}")
        self.holder = holder
        if holder is not None:
            for version, address in CLUSTER.items():
                holder.vm.add_address(f"{address}/{LENGTH[version]}")
            holder.vm.send(announcements(holder.mac))


@pytest.fixture
def cluster(cloud: Cloud) -> Iterator[Cluster]:
    cluster = Cluster(cloud)
    yield cluster
    cluster.give(None)


def expect_reach(
    cloud: Cloud, net: Network, addresses: Mapping[int, str], sender: VM | None = None, *, reachable: bool = True
) -> None:
    """Who may reach these addresses, and whom their user reaches: the groups of the VM hold for them."""
    for version in BOTH:
        for number in (1, 2):
            peer, none = cloud.machines[f"peer{number}"].vm, cloud.machines[f"none{number}"].vm
            (net.some if reachable else net.none)(peer, addresses[version], *SERVICES, version=version)
            net.none(none, addresses[version], *SERVICES, version=version)
            if sender is not None:
                (net.some if reachable else net.none)(sender, peer, *SERVICES, version=version)
                net.none(sender, none, *SERVICES, version=version)
    net.check(timeout=0.5)


def test_an_address_moves_within_its_cluster(cloud: Cloud, cluster: Cluster, promises: Promises, net: Network) -> None:
    """From nobody's to who announces it, on the same hypervisor and on another; the groups' rules hold for it."""
    first, second, third = cluster.machines
    cluster.give(first)
    expect_reach(cloud, net, CLUSTER, reachable=False)
    for machine in (first, third, second):
        for address in CLUSTER.values():
            promises.add(machine, address, shared="true")
    for holder in (first, third, second):
        cluster.give(holder)
        expect_reach(cloud, net, CLUSTER)


def test_its_traffic_is_the_groups(cloud: Cloud, cluster: Cluster, promises: Promises) -> None:
    """Peers that let in only members of the group let the cluster's address in, strangers do not."""
    first = cluster.machines[0]
    for address in CLUSTER.values():
        promises.add(first, address, shared="true")
    cluster.give(first)
    for version, address in CLUSTER.items():
        use_source(first.vm, version, address)
        for name, outcome in (("peer1", "open"), ("peer2", "open"), ("none1", "timeout"), ("none2", "timeout")):
            target = cloud.machines[name].vm.address(version)
            wait_for(
                f"{address} {outcome} at {name}",
                lambda to=target, is_=outcome: first.vm.probe("tcp", to, 80) == is_,
            )
        use_source(first.vm, version, first.vm.address(version))


def use_source(vm: VM, version: int, address: str) -> None:
    subnet = {4: "10.1.0.0/24", 6: "fd00:1::/64"}[version]
    vm.exec("ip", f"-{version}", "route", "replace", subnet, "dev", "eth0", "src", address, "metric", "1")


def test_taking_it_back_closes_at_once(cloud: Cloud, cluster: Cluster, promises: Promises, net: Network) -> None:
    """Though the guest keeps using it; its other connections and the other holders go on."""
    first, second, _ = cluster.machines
    for machine in (first, second):
        for address in CLUSTER.values():
            promises.add(machine, address, shared="true")
    cluster.give(first)
    expect_reach(cloud, net, CLUSTER)
    peers = [cloud.machines[name].vm for name in ("peer1", "peer2")]
    doomed = [peer.stream("tcp", CLUSTER[version], 80) for peer in peers for version in BOTH]
    others = [peer.stream("tcp", first.vm.address(version), 80) for peer in peers for version in BOTH]
    goes_on(*doomed, *others)
    for address in CLUSTER.values():
        promises.remove(first, address)
    expect_reach(cloud, net, CLUSTER, reachable=False)
    before = [stream.report().received for stream in doomed]
    goes_on(*others)
    for stream in others:
        stream.stop()
    assert [stream.report().received for stream in doomed] == before
    for stream in doomed:
        stream.stop()
    cluster.give(second)
    expect_reach(cloud, net, CLUSTER)


@pytest.mark.parametrize("version", BOTH)
def test_connections_with_a_holder_elsewhere_go_on(
    cloud: Cloud, cluster: Cluster, promises: Promises, version: int
) -> None:
    """Whoever gets or loses the address on the client's hypervisor; also if it is the server that goes on, and if the
    client has pinged those who lose it."""
    first, second, third = cluster.machines
    client, address, tenant = cloud.machines["none1"], CLUSTER[version], first.order.account
    rules = allow(tenant, "web", "all", peers=["tenant/none"])
    promises.add(second, address, shared="true")
    there, port = (client.mac, client.vm.address(version)), next(_ports)
    heard = client.vm.sniff(only=b"<go on>")

    def still_heard() -> None:
        cloud.admin.call("createBarrier")
        before = heard.total()
        second.vm.send([datagram((second.mac, address), there, 81, port)])
        wait_for("the server to be heard", lambda: heard.total() > before)

    asked = second.vm.sniff(only=b"<go on>")
    cloud.admin.call("createBarrier")
    client.vm.send([datagram(there, (second.mac, address), port, 81)])
    wait_for("the client to be heard", asked.total)
    still_heard()
    for machine in (first, third):
        promises.add(machine, address, shared="true")
        still_heard()
        pings = machine.vm.sniff(only=b"<ping>")
        client.vm.send([echo(there, (machine.mac, address))])
        wait_for("a ping", pings.total)
    for machine in (first, third):
        promises.remove(machine, address)
        still_heard()
    revoke(tenant, rules)


def test_nobody_else_has_it(cloud: Cloud, cluster: Cluster, promises: Promises) -> None:
    """Neither a VM beside a holder nor one on another hypervisor, whatever it says; what the holder says arrives, its
    announcements at all."""
    first, third = cluster.machines[0], cluster.machines[2]
    for machine in (first, third):
        for address in CLUSTER.values():
            promises.add(machine, address, shared="true")
    peer = cloud.machines["peer1"]
    ears = {name: cloud.machines[name].vm.sniff() for name in ("peer1", "node3", "none1")}

    def told(by: Machine, marker: bytes) -> dict[str, int]:
        """How many frames of who says it has the address arrive where, before an honest last one."""
        frames = [one + marker for one in claims(by, peer)]
        own = {"hwsrc": by.mac, "psrc": by.vm.address(), "hwdst": peer.mac, "pdst": peer.vm.address()}
        by.vm.send([*frames, bytes(Ether(src=by.mac, dst=peer.mac) / ARP(op=2, **own)) + b"last" + marker])
        wait_for("what was sent last", lambda: ears["peer1"].frames(b"last" + marker))
        return {name: len(ear.frames(marker)) - (name == "peer1") for name, ear in ears.items()}

    rounds = iter(range(1000))
    wait_for(
        "a holder speaks for it: to who asks, and to all",
        lambda: told(first, b"<holder %03d>" % next(rounds)) == {"peer1": 6, "node3": 2, "none1": 2},
    )
    for name in ("none1", "none2"):
        assert told(cloud.machines[name], f"<{name}>".encode()) == dict.fromkeys(ears, 0)
    for ear in ears.values():
        ear.stop()


def claims(by: Machine, to: Machine) -> list[bytes]:
    """Whoever sends these says that it has the cluster's addresses: to all, and to one."""
    one = Ether(src=by.mac, dst=to.mac)
    arp = one / ARP(op=2, hwsrc=by.mac, psrc=CLUSTER[4], hwdst=to.mac, pdst=to.vm.address())
    advert = one / IPv6(src=CLUSTER[6], dst=to.vm.address(6), hlim=255) / ICMPv6ND_NA(tgt=CLUSTER[6], R=0, S=1, O=1)
    syn = TCP(sport=next(_ports), dport=80)
    return [
        *announcements(by.mac),
        bytes(arp),
        bytes(advert / ICMPv6NDOptDstLLAddr(lladdr=by.mac)),
        bytes(one / IP(src=CLUSTER[4], dst=to.vm.address()) / syn),
        bytes(one / IPv6(src=CLUSTER[6], dst=to.vm.address(6)) / syn),
    ]


@pytest.fixture(scope="module")
def host(cloud: Cloud) -> Wanderer:
    """The VM, with further addresses of its own."""
    wanderer = Wanderer(cloud, cloud.machines["host"])
    for version, address in EXTRA.items():
        wanderer.vm.add_address(f"{address}/{LENGTH[version]}", device="guest0")
    return wanderer


@pytest.fixture(scope="module")
def inner(module_lab: Lab, host: Wanderer) -> VM:
    """The guest inside it."""
    inner = VM(module_lab, "inner")
    skip_duplicate_detection(inner.namespace)
    wire(inner.namespace, "eth0", host.vm.namespace, "inner0", mac=GUEST_MAC, far_quiet=True)
    host.vm.namespace.ip("link set inner0 master guest0")
    for version, address in GUEST.items():
        inner.add_address(f"{address}/{LENGTH[version]}")
    inner.serve("tcp", 80)
    return inner


@pytest.fixture
def promised(cloud: Cloud, host: Wanderer, inner: VM, net: Network) -> Iterator[dict[str, str]]:
    """The ids of what is promised, by address."""
    expect_reach(cloud, net, GUEST, inner, reachable=False)
    ids: dict[str, str] = {}
    for address in (*GUEST.values(), *EXTRA.values()):
        mac = {"macaddress": GUEST_MAC} if address in GUEST.values() else {}
        answer = cloud.admin.call("addAllowedAddressToNic", nicid=host.machine.nic, ipaddress=address, **mac)
        ids[address] = str(answer["allowedaddress"]["id"])
    yield ids
    for id in ids.values():
        cloud.admin.call("removeAllowedAddressFromNic", id=id)
    expect_reach(cloud, net, GUEST, inner, reachable=False)


def test_a_guest_and_its_vm_move_with_what_they_were_promised(
    cloud: Cloud, host: Wanderer, inner: VM, promised: dict[str, str], net: Network
) -> None:
    """There and back: nothing of it is at the hypervisor that they have left, and connections go on."""
    expect_reach(cloud, net, GUEST, inner)
    expect_reach(cloud, net, EXTRA)
    peers = [cloud.machines[f"peer{number}"].vm for number in (1, 2)]
    targets = [*GUEST.items(), *EXTRA.items()]
    streams = [peer.stream("tcp", address, 80) for peer in peers for _, address in targets]
    streams += [inner.stream("tcp", peer.address(version), 80) for peer in peers for version in BOTH]
    for _ in range(2):
        host.move()
        goes_on(*streams)
        expect_reach(cloud, net, GUEST, inner)
    expect_reach(cloud, net, EXTRA)
    for stream in streams:
        assert stream.stop().error == ""


def test_taking_a_guests_address_back_closes_it_alone(
    cloud: Cloud, host: Wanderer, inner: VM, promised: dict[str, str], net: Network
) -> None:
    """Its connections end at once, those of its VM go on."""
    peer = cloud.machines["peer1"].vm
    doomed = [peer.stream("tcp", GUEST[version], 80) for version in BOTH]
    others = [peer.stream("tcp", EXTRA[version], 80) for version in BOTH]
    goes_on(*doomed, *others)
    for address in GUEST.values():
        cloud.admin.call("removeAllowedAddressFromNic", id=promised.pop(address))
    expect_reach(cloud, net, GUEST, inner, reachable=False)
    before = [stream.report().received for stream in doomed]
    goes_on(*others)
    for stream in others:
        stream.stop()
    for stream, received in zip(doomed, before, strict=True):
        assert stream.stop().received == received
    expect_reach(cloud, net, EXTRA)


def test_networks_are_routed_to_it_and_nobody_else(cloud: Cloud, host: Wanderer, inner: VM) -> None:
    """Frames of a promised network and beside it, by its VM and by others."""
    peer, stranger = cloud.machines["peer1"], cloud.machines["none1"]
    networks = {"10.9.7.0/24": ("10.9.7.5", "10.9.8.5"), "fd00:9:7::/64": ("fd00:9:7::5", "fd00:9:8::5")}
    ids = [
        cloud.admin.call("addAllowedAddressToNic", nicid=host.machine.nic, cidr=network)["allowedaddress"]["id"]
        for network in networks
    ]
    ear = peer.vm.sniff()

    def arrived(vm: VM, mac: str, own: str, marker: bytes, *, device: str = "eth0") -> list[str]:
        """Which of the sources get through, before an honest last frame."""
        ether = Ether(src=mac, dst=peer.mac)
        sources = [one for pair in networks.values() for one in pair]
        last = ether / ARP(op=2, hwsrc=mac, psrc=own, hwdst=peer.mac, pdst=peer.vm.address())
        frames = [bytes(ether / packet(one, peer.vm)) + marker + one.encode() + b"." for one in sources]
        vm.send([*frames, bytes(last) + b"last" + marker], device=device)
        wait_for("what was sent last", lambda: ear.frames(b"last" + marker))
        return [one for one in sources if ear.frames(marker + one.encode() + b".")]

    mine, rounds = (host.vm, host.machine.mac, host.vm.address()), iter(range(1000))
    device = host.devices[host.host.name]
    inside = [pair[0] for pair in networks.values()]
    wait_for(
        "the networks to be its own",
        lambda: arrived(*mine, b"<its %03d>" % next(rounds), device=device) == inside,
    )
    assert arrived(stranger.vm, stranger.mac, stranger.vm.address(), b"<strange>") == []
    for id in ids:
        cloud.admin.call("removeAllowedAddressFromNic", id=str(id))
    wait_for("the networks to be nobody's", lambda: arrived(*mine, b"<gone %03d>" % next(rounds), device=device) == [])
    ear.stop()


def packet(source: str, to: VM) -> Packet:
    version = 6 if ":" in source else 4
    header = IPv6(src=source, dst=to.address(6)) if version == 6 else IP(src=source, dst=to.address())
    return header / TCP(sport=30000, dport=80)


def test_a_guest_has_nothing_but_what_was_promised_to_its_mac(
    cloud: Cloud, host: Wanderer, inner: VM, promised: dict[str, str]
) -> None:
    """Neither it nor its VM nor another has what belongs to the other; each honest frame arrives."""
    peer, stranger = cloud.machines["peer1"], cloud.machines["none1"]
    own = {4: host.vm.address(), 6: host.vm.address(6)}
    device, ear = host.devices[host.host.name], peer.vm.sniff()

    def spoken(vm: VM, mac: str, addresses: Mapping[int, str], marker: bytes, *, device: str) -> int:
        """How many arrive of an ARP reply, an advertisement, and a packet of each IP version."""
        ether, to = Ether(src=mac, dst=peer.mac), peer.vm
        arp = ARP(op=2, hwsrc=mac, psrc=addresses[4], hwdst=peer.mac, pdst=to.address())
        advert = IPv6(src=addresses[6], dst=to.address(6), hlim=255) / ICMPv6ND_NA(tgt=addresses[6], R=0, S=1)
        packets = [arp, advert / ICMPv6NDOptDstLLAddr(lladdr=mac), *(packet(addresses[one], to) for one in BOTH)]
        last = Ether(src=stranger.mac, dst=peer.mac) / ARP(
            op=2, hwsrc=stranger.mac, psrc=stranger.vm.address(), hwdst=peer.mac, pdst=to.address()
        )
        vm.send([bytes(ether / one) + marker for one in packets], device=device)
        stranger.vm.send([bytes(last) + b"last" + marker])
        wait_for("what was sent last", lambda: ear.frames(b"last" + marker))
        return len(ear.frames(marker)) - 1

    rounds = iter(range(1000))
    for mac, addresses in ((GUEST_MAC, GUEST), (host.machine.mac, own), (host.machine.mac, EXTRA)):
        wait_for(
            "an honest one is heard",
            lambda by=mac, of=addresses: spoken(host.vm, by, of, b"<own %03d>" % next(rounds), device=device) == 4,
        )
    lies = [(GUEST_MAC, own), (GUEST_MAC, EXTRA), (host.machine.mac, GUEST), ("02:00:00:00:60:02", GUEST)]
    for number, (mac, addresses) in enumerate(lies):
        assert spoken(host.vm, mac, addresses, b"<lie %03d>" % number, device=device) == 0
    for number, (mac, addresses) in enumerate([(GUEST_MAC, GUEST), (stranger.mac, GUEST), (stranger.mac, EXTRA)]):
        assert spoken(stranger.vm, mac, addresses, b"<theft %03d>" % number, device="eth0") == 0
    ear.stop()
