# SPDX-License-Identifier: Apache-2.0
"""Who has an address that VMs share tells its whole pod, on all hypervisors; nothing else that is broadcast arrives."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import count

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from devstack.lab import Lab
from devstack.lab.agent import Sniffer
from devstack.lab.cloud import Cloud, Machine, Order
from devstack.lab.namespace import PATIENCE, wait_for
from tests.faults.standstill import standstill
from tests.functional.cluster import ALL_NODES, BROADCAST, CLUSTER, LENGTH, Promises, announcements, promising
from tests.functional.promised import allow, boot, check_recompute, goes_on

pytestmark = pytest.mark.usefixtures("in_force")
ALL = ("client1", "client2", "node1", "node2", "idle1", "idle2", "far")
"""Everybody; the last one is of another pod, on the first hypervisor."""
_rounds = count()
GLANCE = 0.3
"""Seconds after which frames are sent again that may not have been allowed yet."""
QUICK = 2.0
"""Seconds within which clients must have followed; by themselves they would after half a minute."""


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Iterator[Cloud]:
    """Two hypervisors on one pod; on each a node of a cluster, its client, and a VM that has nothing to do with it."""
    cloud = Cloud(module_lab)
    pods = [cloud.add_pod() for _ in range(2)]
    for _ in range(2):
        cloud.add_hypervisor(pods[0])
    cloud.start()
    cloud.register()
    tenant, other = cloud.create_account("tenant", ("web",)), cloud.create_account("other")
    allow(tenant, "web", "tcp/80", "icmp", peers=["tenant/default"])
    orders = [
        Order(account, f"{name}{host}", cloud.hypervisors[host - 1], cloud.pod(1), groups)
        for host in (1, 2)
        for account, name, groups in ((tenant, "node", ("web",)), (tenant, "client", ()), (other, "idle", ()))
    ]
    far = Order(other, "far", cloud.hypervisors[0], cloud.pod(2), (), ("10.2.0.99/24", "fd00:2::99/64"))
    boot(cloud, *orders, far)
    for name in ("node1", "node2"):
        cloud.machines[name].vm.serve("tcp", 80)
    yield cloud
    check_recompute(cloud)


@pytest.fixture
def promises(cloud: Cloud) -> Iterator[Promises]:
    with promising(cloud) as promises:
        yield promises


@pytest.fixture
def nodes(cloud: Cloud, promises: Promises) -> Iterator[tuple[Machine, Machine]]:
    """Two VMs that share the cluster's addresses from now on; neither has them yet."""
    first, second = cloud.machines["node1"], cloud.machines["node2"]
    promises.share(first, second)
    for node, client in ((first, "client2"), (second, "client1")):
        with_ear = cloud.machines[client].vm.sniff()
        wait_for(f"{node.vm.name} may use them", lambda by=node, ear=with_ear: hears(ear, by, claims(by.mac)))
        with_ear.stop()
    yield first, second
    for node in (first, second):
        drop(node)


def hears(ear: Sniffer, by: Machine, frames: list[bytes], *, patience: float = GLANCE) -> bool:
    """Whether all of these frames arrive somewhere when a VM sends them now."""
    marker = b"<round %d>" % next(_rounds)
    by.vm.send([one + marker for one in frames])
    with suppress(TimeoutError):
        return bool(wait_for("frames", lambda: len(ear.frames(marker)) == len(frames), timeout=patience))
    return False


def take(node: Machine) -> None:
    """Have the cluster's addresses, and say so."""
    for version, address in CLUSTER.items():
        node.vm.add_address(f"{address}/{LENGTH[version]}")
    node.vm.send(announcements(node.mac))


def drop(node: Machine) -> None:
    """Have them no more, if it had them."""
    for version, address in CLUSTER.items():
        text = f"{address}/{LENGTH[version]}"
        if text in node.vm.addresses:
            node.vm.remove_address(text)


def by_reply(mac: str, address: str = CLUSTER[4], target: str = CLUSTER[4]) -> bytes:
    """Gratuitous ARP in the form of a reply."""
    return bytes(Ether(src=mac, dst=BROADCAST) / ARP(op=2, hwsrc=mac, psrc=address, hwdst=BROADCAST, pdst=target))


def other_broadcasts(by: Machine) -> list[bytes]:
    """What else a VM could like to tell everybody, some of it much like an announcement."""
    mac, own, own6 = by.mac, by.vm.address(), by.vm.address(6)
    ether, nodes = Ether(src=mac, dst=BROADCAST), Ether(src=mac, dst=ALL_NODES)
    lladdr = ICMPv6NDOptDstLLAddr(lladdr=mac)
    advert = ICMPv6ND_NA(tgt=CLUSTER[6], R=0, S=0, O=1)
    return [
        bytes(ether / ARP(op=1, hwsrc=mac, psrc=own, pdst=own)),
        by_reply(mac, own, own),
        by_reply(mac, CLUSTER[4], "10.1.0.240"),
        bytes(ether / ARP(op=1, hwsrc=mac, psrc=CLUSTER[4], pdst="10.1.0.240")),
        bytes(ether / ARP(op=3, hwsrc=mac, hwdst=mac, psrc=CLUSTER[4], pdst=CLUSTER[4])),
        bytes(ether / IP(src=CLUSTER[4], dst="255.255.255.255") / UDP(sport=9, dport=9)),
        bytes(ether / IP(src=CLUSTER[4], dst="10.1.0.255") / UDP(sport=9, dport=9)),
        bytes(nodes / IPv6(src=CLUSTER[6], dst="ff02::1") / UDP(sport=9, dport=9)),
        bytes(nodes / IPv6(src=own6, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=own6, R=0, S=0, O=1) / lladdr),
        bytes(nodes / IPv6(src=CLUSTER[6], dst="ff02::1", hlim=64) / advert / lladdr),
        bytes(nodes / IPv6(src=CLUSTER[6], dst="ff02::2", hlim=255) / advert / lladdr),
        bytes(nodes / IPv6(src=CLUSTER[6], dst=own6, hlim=255) / advert / lladdr),
        bytes(nodes / IPv6(src=CLUSTER[6], dst="ff02::1", hlim=255) / ICMPv6ND_NS(tgt="fd00:1::1:240")),
    ]


def claims(mac: str) -> list[bytes]:
    """Announcements of the cluster's addresses, in each form."""
    return [*announcements(mac), by_reply(mac)]


def test_a_pod_hears_who_has_a_shared_address_and_nothing_else(cloud: Cloud, nodes: tuple[Machine, Machine]) -> None:
    """Promiscuous ears everywhere; what others say that they have is heard nowhere, nor is the other pod told."""
    ears = {name: cloud.machines[name].vm.sniff() for name in ALL}

    def heard(by: Machine, frames: list[bytes], marker: bytes) -> dict[str, int]:
        """How many of these frames arrive where, before the announcements of an honest holder on each hypervisor."""
        by.vm.send([one + marker for one in frames])
        for node, client in zip(nodes, ("client2", "client1"), strict=True):
            assert hears(ears[client], node, claims(node.mac), patience=PATIENCE)
        return {name: len(ear.frames(marker)) for name, ear in ears.items()}

    one, two = nodes
    everybody, nobody = dict.fromkeys(ALL, 3) | {"far": 0}, dict.fromkeys(ALL, 0)
    assert heard(one, claims(one.mac), b"<node1>") == everybody | {"node1": 0}
    assert heard(two, claims(two.mac), b"<node2>") == everybody | {"node2": 0}
    for number, name in enumerate(("idle1", "idle2", "far", "client1")):
        liar = cloud.machines[name]
        assert heard(liar, claims(liar.mac), b"<liar %d>" % number) == nobody
    assert heard(one, claims(two.mac), b"<as its twin>") == nobody
    assert heard(one, other_broadcasts(one), b"<others>") == nobody
    for ear in ears.values():
        ear.stop()


def test_clients_follow_at_once(cloud: Cloud, nodes: tuple[Machine, Machine]) -> None:
    """The addresses move to the other node, and back: pings go on there, from both hypervisors."""
    clients = [cloud.machines[f"client{number}"].vm for number in (1, 2)]
    take(nodes[0])
    streams = [client.stream("icmp", address) for client in clients for address in CLUSTER.values()]
    with standstill(cloud) as machine:
        for old, new in (nodes, reversed(nodes)):
            goes_on(*streams)
            machine.begin()
            for stream in streams:
                stream.report(clear=True)
            drop(old)
            take(new)
            goes_on(*streams)
            gap = max(stream.report().gap for stream in streams)
            assert gap < QUICK + machine.seconds()
    for stream in streams:
        stream.stop()


def test_what_is_not_shared_any_more_is_not_told(cloud: Cloud, promises: Promises) -> None:
    """On no hypervisor; while it is, also on the one that has no holder."""
    node = cloud.machines["node1"]
    promises.share(node)
    ears = [cloud.machines[name].vm.sniff() for name in ("client1", "client2")]
    for ear in ears:
        wait_for("announcements", lambda one=ear: hears(one, node, claims(node.mac)))
    for address in CLUSTER.values():
        promises.remove(node, address)
    for ear in ears:
        wait_for("silence", lambda one=ear: not hears(one, node, claims(node.mac)[:1]))
        ear.stop()
