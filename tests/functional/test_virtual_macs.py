# SPDX-License-Identifier: Apache-2.0
"""The virtual MACs of VRRP: Debian's keepalived with `use_vmac`, by multicast, on two VMs of one hypervisor and on one
of another.

MAC and addresses go from one node to the other without an agent; intruders on both hypervisors claim them all the time.
"""

from collections.abc import Iterable, Iterator

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.vrrp import VRRPv3

from devstack.lab import VM, Lab
from devstack.lab.agent import Sniffer, Stream
from devstack.lab.cloud import Cloud, Machine
from devstack.lab.namespace import wait_for
from devstack.lab.network import Cell, probe
from tests.faults.standstill import Standstill, standstill
from tests.functional.cluster import ALL_NODES, BROADCAST, CLUSTER, Promises, promising
from tests.functional.keepalived import ROUTERS, VIRTUAL_MACS, Keepalived, by_unicast, end, with_virtual_macs
from tests.functional.promised import BOTH, admin, allow, boot, check_recompute, goes_on, order, promised_cloud, revoke

SECONDS = 4.0
"""Within which clients go on: three advertisements must have been missed first."""
PRIORITY = {"node1": 200, "node2": 150, "node3": 100}
CLIENTS, INTRUDERS = ("client1", "client2"), ("intruder1", "intruder2")
VRRP_ROUTERS = ("01:00:5e:00:00:12", "33:33:00:00:00:12")
_HOLDERS = 32
"""The table of learned flows."""


@pytest.fixture(scope="module")
def cloud(module_lab: Lab) -> Iterator[Cloud]:
    """Two nodes of the cluster on the first hypervisor, one on the second; on both a client, and an intruder."""
    with promised_cloud(module_lab, pods=1) as cloud:
        tenant, other = cloud.create_account("tenant", ("web",)), cloud.create_account("other")
        allow(tenant, "web", "tcp/80", "icmp", peers=["tenant/default"])
        nodes = [order(cloud, tenant, name, host, "web") for name, host in zip(PRIORITY, (1, 1, 2), strict=True)]
        others = [
            order(cloud, account, f"{name}{host}", host)
            for host in (1, 2)
            for account, name in ((tenant, "client"), (other, "intruder"))
        ]
        boot(cloud, *nodes, *others)
        for name in PRIORITY:
            vm = cloud.machines[name].vm
            vm.serve("tcp", 80)
            # Linux would tell its neighbours the NIC's MAC with the shared address when it asks for theirs.
            vm.exec("sysctl", "-qw", "net.ipv4.conf.eth0.arp_announce=2")
        yield cloud


@pytest.fixture(scope="module")
def machine(cloud: Cloud) -> Iterator[Standstill]:
    """What this machine costs by itself."""
    with standstill(cloud) as found:
        yield found


@pytest.fixture
def promises(cloud: Cloud) -> Iterator[Promises]:
    with promising(cloud) as promises:
        yield promises


@pytest.fixture
def daemons(cloud: Cloud, promises: Promises) -> Iterator[list[Keepalived]]:
    """keepalived on all nodes, which may share MACs and addresses; the first is master."""
    nodes = [cloud.machines[name] for name in PRIORITY]
    promises.share(*nodes, macs=VIRTUAL_MACS)
    daemons = [Keepalived(node, with_virtual_macs(PRIORITY[node.vm.name])) for node in nodes]
    for one in daemons:
        one.start()
    yield daemons
    end(*daemons)


def claims(by: Machine) -> list[bytes]:
    """What an intruder sends to have MACs and addresses, or to stop whoever has them."""
    frames: list[bytes] = []
    for mac in (by.mac, VIRTUAL_MACS[4]):
        ether = Ether(src=mac, dst=BROADCAST)
        frames += [bytes(ether / ARP(op=op, hwsrc=VIRTUAL_MACS[4], psrc=CLUSTER[4], pdst=CLUSTER[4])) for op in (1, 2)]
        advert = VRRPv3(vrid=ROUTERS[4], priority=255, addrlist=[CLUSTER[4]])
        for source in (by.vm.address(), CLUSTER[4]):
            head = Ether(src=mac, dst="01:00:5e:00:00:12") / IP(src=source, dst="224.0.0.18", ttl=255, proto=112)
            frames.append(bytes(head / advert))
        frames.append(bytes(Ether(src=mac, dst=VIRTUAL_MACS[4]) / IP(src=CLUSTER[4], dst=CLUSTER[4]) / UDP(dport=9)))
    for mac in (by.mac, VIRTUAL_MACS[6]):
        nodes = Ether(src=mac, dst=ALL_NODES) / IPv6(src=CLUSTER[6], dst="ff02::1", hlim=255)
        option = ICMPv6NDOptDstLLAddr(lladdr=VIRTUAL_MACS[6])
        frames.append(bytes(nodes / ICMPv6ND_NA(tgt=CLUSTER[6], R=0, S=0, O=1) / option))
        frames.append(bytes(Ether(src=mac, dst=VIRTUAL_MACS[6]) / IPv6(src=CLUSTER[6], dst=CLUSTER[6]) / UDP(dport=9)))
    return frames


@pytest.fixture
def ears(cloud: Cloud) -> Iterator[dict[str, Sniffer]]:
    """Promiscuous NICs of all who could like to hear what the master hears, its backups among them."""
    ears = {name: cloud.machines[name].vm.sniff() for name in (*PRIORITY, *INTRUDERS)}
    yield ears
    for ear in ears.values():
        ear.stop()


@pytest.fixture
def intruders(cloud: Cloud) -> Iterator[None]:
    """They claim MACs and addresses without a pause."""
    repeaters = []
    for name in INTRUDERS:
        machine = cloud.machines[name]
        repeaters.append(machine.vm.guest.repeat("eth0", claims(machine), interval=0.1))
    yield
    for one in repeaters:
        assert one.sent() > 0
        one.stop()


def clients(cloud: Cloud) -> list[VM]:
    return [cloud.machines[name].vm for name in CLIENTS]


def expect_master(
    cloud: Cloud, machine: Standstill, master: Keepalived, others: list[Keepalived], streams: list[Stream]
) -> float:
    """One node has the addresses; clients have gone on soon enough by the virtual MACs, and reach it. The longest
    silence in seconds."""
    for version in BOTH:
        wait_for(
            f"{master.machine.vm.name} alone is master",
            lambda of=version: master.has(of) and not any(one.has(of) for one in others),
            step=0.05,
        )
    goes_on(*streams)
    gap = max((stream.report(clear=True).gap for stream in streams), default=0.0)
    print(f"{master.machine.vm.name} has it, after a silence of {gap:.2f} s")
    assert gap < SECONDS + machine.seconds()
    machine.begin()
    for client in clients(cloud):
        for address in CLUSTER.values():
            wait_for("the address serves", lambda by=client, to=address: by.probe("tcp", to, 80) == "open")
    refused = [Cell(by, to, "tcp/81", False) for by in clients(cloud) for to in CLUSTER.values()]
    closed = probe(refused, timeout=0.5)
    assert {seen.result for seen in closed} == {"timeout"}
    for client in clients(cloud):
        for version, address in CLUSTER.items():
            assert VIRTUAL_MACS[version] in client.exec("ip", "neigh", "show", "to", address)
    return gap


def pings(cloud: Cloud) -> list[Stream]:
    streams = [client.stream("icmp", address) for client in clients(cloud) for address in CLUSTER.values()]
    goes_on(*streams)
    for stream in streams:
        stream.report(clear=True)
    return streams


def expect_heard(ears: dict[str, Sniffer], master: str, streams: list[Stream]) -> None:
    """What is for the master reaches it alone, though others are promiscuous, and VRRP the others of the cluster."""
    for ear in ears.values():
        ear.frames(clear=True)
    goes_on(*streams)
    others = PRIORITY.keys() - {master}
    for to in VRRP_ROUTERS:
        wait_for("VRRP at the others", lambda mac=to: all(ears[name].frames(raw(mac)) for name in others))
    assert receivers(ears, VIRTUAL_MACS.values()) == {master}
    assert receivers(ears, VRRP_ROUTERS) == others


def receivers(ears: dict[str, Sniffer], macs: Iterable[str]) -> set[str]:
    """Who has received frames for one of these MACs."""
    wanted = set(map(raw, macs))
    return {name for name, ear in ears.items() if any(frame[:6] in wanted for frame in ear.frames())}


def raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def traced(cloud: Cloud) -> list[str]:
    """Where the agents say that each client's packets for the address go."""
    said = []
    for name, manager in zip(CLIENTS, cloud.managers.values(), strict=True):
        machine = cloud.machines[name]
        query = f"in_port={machine.port}&src={machine.vm.address()}&dst={CLUSTER[4]}&dst_mac={VIRTUAL_MACS[4]}"
        said.append(admin(manager, f"/admin/trace?{query}&proto=tcp&dport=80")["where"])
    return said


def learned(cloud: Cloud, host: int) -> list[str]:
    """The flows that say where virtual MACs are."""
    shown = cloud.hypervisors[host - 1].ofctl("dump-flows", "br-int", f"table={_HOLDERS}")
    return [line for line in shown.splitlines() if "dl_dst=00:00:5e" in line]


def test_the_mac_goes_to_who_has_it(
    cloud: Cloud, machine: Standstill, daemons: list[Keepalived], ears: dict[str, Sniffer], intruders: None
) -> None:
    """To a node of the same hypervisor, to one of another, and back; nobody else gets its frames."""
    first, second, third = daemons
    expect_master(cloud, machine, first, [second, third], [])
    streams = pings(cloud)
    expect_heard(ears, "node1", streams)
    assert traced(cloud) == [f"{cloud.machines['node1'].port} (node1)", "uplink eth1"]
    first.kill()
    expect_master(cloud, machine, second, [first, third], streams)
    expect_heard(ears, "node2", streams)
    second.kill()
    expect_master(cloud, machine, third, [first, second], streams)
    expect_heard(ears, "node3", streams)
    first.start()
    second.start()
    expect_master(cloud, machine, first, [second, third], streams)
    expect_heard(ears, "node1", streams)
    for stream in streams:
        stream.stop()


def test_it_goes_without_agents_and_database(
    cloud: Cloud, machine: Standstill, daemons: list[Keepalived], intruders: None
) -> None:
    first, second, third = daemons
    expect_master(cloud, machine, first, [second, third], [])
    streams = pings(cloud)
    for manager in reversed(cloud.managers.values()):
        manager.stop()
    first.kill()
    expect_master(cloud, machine, second, [first, third], streams)
    second.kill()
    expect_master(cloud, machine, third, [first, second], streams)
    for manager in cloud.managers.values():
        manager.start()
    for manager in cloud.managers.values():
        manager.wait_ready()
    second.start()
    expect_master(cloud, machine, second, [first, third], streams)
    for stream in streams:
        stream.stop()
    check_recompute(cloud)
    assert learned(cloud, 1)


def test_it_goes_by_unicast(cloud: Cloud, machine: Standstill, promises: Promises) -> None:
    """VRRP itself comes from the NICs' own MACs, and needs a rule; only ARP and ND tell where the virtual ones are."""
    nodes = [cloud.machines[name] for name in ("node1", "node3")]
    promises.share(*nodes, macs=VIRTUAL_MACS)
    rules = allow(cloud.accounts["tenant"], "web", "vrrp", peers=["tenant/web"])
    more = "use_vmac\n    garp_master_refresh 1\n    "
    first, second = (
        Keepalived(own, by_unicast(own, peer, PRIORITY[own.vm.name], more)) for own, peer in (nodes, reversed(nodes))
    )
    for one in (first, second):
        one.start()
    expect_master(cloud, machine, first, [second], [])
    streams = pings(cloud)
    first.kill()
    expect_master(cloud, machine, second, [first], streams)
    first.start()
    expect_master(cloud, machine, first, [second], streams)
    for stream in streams:
        stream.stop()
    cloud.hypervisors[0].restart_vswitchd()
    expect_master(cloud, machine, first, [second], [])
    end(first, second)
    revoke(cloud.accounts["tenant"], rules)


def test_a_restarted_switch_hears_where_it_is(cloud: Cloud, machine: Standstill, daemons: list[Keepalived]) -> None:
    """Nothing is remembered, until the next advertisement."""
    first, second, third = daemons
    expect_master(cloud, machine, first, [second, third], [])
    for number, hypervisor in enumerate(cloud.hypervisors, 1):
        hypervisor.restart_vswitchd()
        for version, address in CLUSTER.items():
            for client in clients(cloud):
                wait_for("the address answers", lambda by=client, to=address: by.ping(to, tries=1))
            wait_for("it is heard", lambda mac=VIRTUAL_MACS[version], at=number: mac in "".join(learned(cloud, at)))


def test_taking_it_back_closes_at_once(
    cloud: Cloud, machine: Standstill, daemons: list[Keepalived], promises: Promises
) -> None:
    """Though keepalived goes on; the switch forgets the MAC with the last promise."""
    first, second, third = daemons
    expect_master(cloud, machine, first, [second, third], [])
    node = first.machine
    for address in CLUSTER.values():
        promises.remove(node, address)
    expect_backup_reached(cloud, second)
    for one in (second, third):
        for address in CLUSTER.values():
            promises.remove(one.machine, address)
    for client in clients(cloud):
        for address in CLUSTER.values():
            wait_for("nobody answers", lambda by=client, to=address: not by.ping(to, tries=1))
    for host in (1, 2):
        wait_for("nothing is remembered", lambda at=host: not learned(cloud, at))


def expect_backup_reached(cloud: Cloud, backup: Keepalived) -> None:
    """The advertisements of who has lost the promise reach nobody, so the next one takes over."""
    for version, address in CLUSTER.items():
        wait_for("the backup is master", lambda of=version: backup.has(of))
        for client in clients(cloud):
            wait_for("the address answers", lambda by=client, to=address: by.ping(to, tries=1))
