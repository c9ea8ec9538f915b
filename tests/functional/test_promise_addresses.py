# SPDX-License-Identifier: Apache-2.0
"""Promise: a NIC has several addresses, which come and go while the VM runs; its groups' rules cover all of them."""

from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from devstack.lab import VM, Lab, Network
from devstack.lab.cloud import Cloud, Machine
from devstack.lab.namespace import wait_for
from sgctl.cli.errors import ApiError
from tests.functional.promised import BOTH, WORLD, allow, boot, expect, goes_on, order, promised_cloud, revoke

pytestmark = pytest.mark.usefixtures("in_force")
SERVICES = ("tcp/80", "icmp")
"""An ordinary UDP server answers from its first address, whichever was asked: frames are sent for that."""
SECONDS = {4: "10.1.0.242", 6: "fd00:1::66"}
ANOTHER = {4: "10.1.0.243", 6: "fd00:1::67"}
LENGTH = {4: 24, 6: 64}


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Iterator[Cloud]:
    """A VM with further addresses, a neighbour, and members and strangers on the other hypervisor and pod."""
    with promised_cloud(module_lab) as cloud:
        tenant = cloud.create_account("tenant", ("many", "peer", "none"))
        boot(
            cloud,
            order(cloud, tenant, "many1", 1, "many"),
            order(cloud, tenant, "peer1", 1, "peer"),
            order(cloud, tenant, "peer2", 2, "peer"),
            order(cloud, tenant, "none2", 2, "none"),
        )
        # From here on, so that no VM has been given one of these by chance.
        cloud.admin.call("createVlanIpRange", podid=cloud.pod(1).id, startip="10.1.0.241", endip="10.1.0.249")
        yield cloud


@pytest.fixture
def many(cloud: Cloud) -> Machine:
    return cloud.machines["many1"]


class Seconds:
    """The further addresses of a VM, in the cloud and in the guest."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.ids: dict[str, str] = {}

    def add(self, address: str, version: int) -> None:
        answer = self.machine.order.account.call("addIpToNic", nicid=self.machine.nic, ipaddress=address)
        self.ids[address] = str(answer["nicsecondaryip"]["id"])
        self.machine.vm.add_address(f"{address}/{LENGTH[version]}")

    def remove(self, address: str) -> None:
        """In the cloud only: the guest goes on using it."""
        self.machine.order.account.call("removeIpFromNic", id=self.ids.pop(address))


@pytest.fixture
def seconds(many: Machine) -> Iterator[Seconds]:
    seconds = Seconds(many)
    for version, address in SECONDS.items():
        seconds.add(address, version)
    yield seconds
    for address in list(seconds.ids):
        seconds.remove(address)
    for version, address in SECONDS.items():
        many.vm.remove_address(f"{address}/{LENGTH[version]}")


def expect_to(net: Network, source: VM, target: str, *, reachable: bool) -> None:
    version = 6 if ":" in target else 4
    (net.some if reachable else net.none)(source, target, *SERVICES, version=version)


def from_second(vm: VM, version: int) -> str:
    """Make a VM's packets leave from its further address."""
    default = "default" if version == 4 else "::/0"
    via = vm.exec("ip", f"-{version}", "route", "show", "default").split("via ")[1].split()[0]
    vm.exec("ip", f"-{version}", "route", "replace", default, "via", via, "dev", "eth0", "src", SECONDS[version])
    return via


def test_rules_cover_every_address(cloud: Cloud, many: Machine, seconds: Seconds, net: Network) -> None:
    """As a target, for near and far, and nothing else than the rules let in."""
    tenant = cloud.accounts["tenant"]
    rules = allow(tenant, "many", *SERVICES, peers=["tenant/peer"])
    many.vm.serve("tcp", 80)
    for version in BOTH:
        for address in (many.vm.address(version), SECONDS[version]):
            for name, reachable in (("peer1", True), ("peer2", True), ("none2", False)):
                expect_to(net, cloud.machines[name].vm, address, reachable=reachable)
    expect(net)
    revoke(tenant, rules)


def test_as_a_peer_of_ingress_rules_every_address_counts(
    cloud: Cloud, many: Machine, seconds: Seconds, net: Network
) -> None:
    """On its own hypervisor and on others: by its further addresses it is a member of its group too."""
    tenant = cloud.accounts["tenant"]
    rules = allow(tenant, "peer", *SERVICES, "udp/53", "udp/99", peers=["tenant/many"])
    for version in BOTH:
        for name in ("peer1", "peer2"):
            net.some(many.vm, cloud.machines[name].vm, *SERVICES, "udp/53", version=version)
            net.none(cloud.machines["none2"].vm, cloud.machines[name].vm, *SERVICES, version=version)
    expect(net)
    from_every_address(cloud, many.vm)
    revoke(tenant, rules)


def test_as_a_peer_of_egress_rules_every_address_counts(
    cloud: Cloud, many: Machine, seconds: Seconds, net: Network
) -> None:
    tenant = cloud.accounts["tenant"]
    many.vm.serve("tcp", 80)
    into = [*allow(tenant, "many", *SERVICES, cidr=WORLD), *allow(tenant, "none", *SERVICES, cidr=WORLD)]
    rules = allow(tenant, "peer", *SERVICES, peers=["tenant/many"], egress=True)
    for version in BOTH:
        for name in ("peer1", "peer2"):
            peer = cloud.machines[name].vm
            for address in (many.vm.address(version), SECONDS[version]):
                expect_to(net, peer, address, reachable=True)
            expect_to(net, peer, cloud.machines["none2"].vm.address(version), reachable=False)
    expect(net)
    revoke(tenant, rules, egress=True)
    revoke(tenant, into)


def from_every_address(cloud: Cloud, vm: VM) -> None:
    """Its further addresses as source, over the router and on its own subnet."""
    for version in BOTH:
        via = from_second(vm, version)
        peer = cloud.machines["peer2"].vm
        assert vm.probe("tcp", peer.address(version), 80) == "open"
        default = "default" if version == 4 else "::/0"
        vm.exec("ip", f"-{version}", "route", "replace", default, "via", via, "dev", "eth0")
    near = cloud.machines["peer1"]
    seen = near.vm.sniff()
    mine = cloud.machines[vm.name]
    ether = Ether(src=mine.mac, dst=near.mac)
    vm.send([
        bytes(ether / IP(src=SECONDS[4], dst=near.vm.address()) / UDP(sport=1, dport=99) / b"from the second"),
        bytes(ether / IPv6(src=SECONDS[6], dst=near.vm.address(6)) / UDP(sport=1, dport=99) / b"from the second"),
    ])  # fmt: skip
    wait_for("datagrams from the further addresses", lambda: len(seen.frames(b"from the second")) == 2)
    seen.stop()


def test_a_removed_address_is_gone_for_everybody(cloud: Cloud, many: Machine, seconds: Seconds, net: Network) -> None:
    """While the VM runs, and though the guest keeps using it; the others stay."""
    tenant = cloud.accounts["tenant"]
    rules = allow(tenant, "many", *SERVICES, cidr=WORLD)
    many.vm.serve("tcp", 80)
    peers = [cloud.machines[name].vm for name in ("peer1", "peer2")]
    for peer in peers:
        for version in BOTH:
            expect_to(net, peer, SECONDS[version], reachable=True)
    expect(net)
    streams = [peer.stream("tcp", many.vm.address(version), 80) for peer in peers for version in BOTH]
    for address in SECONDS.values():
        seconds.remove(address)
    for peer in peers:
        for version in BOTH:
            expect_to(net, peer, SECONDS[version], reachable=False)
            expect_to(net, peer, many.vm.address(version), reachable=True)
    expect(net)
    goes_on(*streams)
    for stream in streams:
        stream.stop()
    revoke(tenant, rules)


def test_it_may_be_used_only_while_it_is_its(cloud: Cloud, many: Machine) -> None:
    """As a source, in ARP and ND: before it is added nothing leaves, afterwards everything does, then nothing again."""
    peer = cloud.machines["peer1"]
    rules = allow(cloud.accounts["tenant"], "peer", "udp/53", "udp/99", cidr=WORLD)
    expectation = Network()
    expectation.some(many.vm, peer.vm, "udp/53")
    expectation.check()
    seen = peer.vm.sniff()
    ether = Ether(src=many.mac, dst=peer.mac)
    arp = ether / ARP(op=2, hwsrc=many.mac, psrc=ANOTHER[4], hwdst=peer.mac, pdst=peer.vm.address())
    advert = ether / IPv6(src=ANOTHER[6], dst=peer.vm.address(6), hlim=255) / ICMPv6ND_NA(tgt=ANOTHER[6], R=0)
    advert /= ICMPv6NDOptDstLLAddr(lladdr=many.mac)
    udp = ether / IP(src=ANOTHER[4], dst=peer.vm.address()) / UDP(sport=3, dport=99)
    udp6 = ether / IPv6(src=ANOTHER[6], dst=peer.vm.address(6)) / UDP(sport=3, dport=99)

    def sent(marker: bytes) -> int:
        own = ether / IP(src=many.vm.address(), dst=peer.vm.address()) / UDP(sport=4, dport=99) / (b"last " + marker)
        many.vm.send([*(bytes(one) + marker for one in (arp, advert)), *(bytes(one / marker) for one in (udp, udp6))])
        many.vm.send([bytes(own)])
        wait_for("what was sent last", lambda: seen.frames(b"last " + marker))
        return len(seen.frames(marker)) - 1

    assert sent(b"<before>") == 0
    call, rounds = many.order.account.call, iter(range(1000))
    ids = [call("addIpToNic", nicid=many.nic, ipaddress=one)["nicsecondaryip"]["id"] for one in ANOTHER.values()]
    wait_for("the addresses to be its own", lambda: sent(b"<while %03d>" % next(rounds)) == 4)
    for id in ids:
        call("removeIpFromNic", id=str(id))
    wait_for("the addresses to be nobody's", lambda: sent(b"<after %03d>" % next(rounds)) == 0)
    seen.stop()
    revoke(cloud.accounts["tenant"], rules)


def nic_of(machine: Machine) -> dict[str, Any]:
    account = machine.order.account
    return account.all("listNics", "nic", virtualmachineid=machine.id)[0]


def test_the_api_tells_of_them_and_refuses_what_cannot_be(cloud: Cloud, many: Machine, seconds: Seconds) -> None:
    assert {one["ipaddress"] for one in nic_of(many)["secondaryip"]} == set(SECONDS.values())
    taken = cloud.machines["peer1"].vm.address()
    for address in (taken, SECONDS[4], "10.2.0.66", "192.0.2.1", "10.1.0", "fd00:2::66"):
        with pytest.raises(ApiError):
            many.order.account.call("addIpToNic", nicid=many.nic, ipaddress=address)
    assert len(nic_of(many)["secondaryip"]) == 2
