# SPDX-License-Identifier: Apache-2.0
"""Promise: no VM is a DHCP server; DHCP and DNS to the pod's own servers always work, whatever the egress rules."""

from collections.abc import Iterator

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import (
    DUID_LL,
    DHCP6_Advertise,
    DHCP6_RelayForward,
    DHCP6_Reply,
    DHCP6_Request,
    DHCP6_Solicit,
    DHCP6OptClientId,
)
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from devstack.lab import Lab, Network
from devstack.lab.agent import GuestError
from devstack.lab.cloud import Cloud
from tests.functional.promised import BOTH, allow, expect, regroup, server_of
from tests.functional.scene import BROADCAST, Frame, Host, Scene, spoofing_scene

pytestmark = pytest.mark.usefixtures("in_force")
SERVERS6, SERVERS6_MAC = "ff02::1:2", "33:33:00:01:00:02"


@pytest.fixture(scope="module")
def scene(module_lab: Lab) -> Iterator[Scene]:
    with spoofing_scene(module_lab) as scene:
        evil = scene.cloud.accounts["evil"]
        evil.call("createSecurityGroup", name="mute")
        allow(evil, "mute", "tcp/1", cidr="192.0.2.1/32", egress=True)
        yield scene


@pytest.fixture
def cloud(scene: Scene) -> Cloud:
    return scene.cloud


@pytest.fixture
def mute(scene: Scene, net: Network) -> Iterator[Host]:
    """mallory, while its egress rules allow nothing that exists."""
    machine = scene.cloud.machines["mallory"]
    regroup(machine, "mute")
    for version in BOTH:
        net.none(scene.mallory.vm, scene.alice.vm, "tcp/80", "udp/53", version=version)
        net.none(scene.mallory.vm, server_of(scene.cloud.pod(1), version), "icmp", "tcp/80", version=version)
    expect(net)
    yield scene.mallory
    regroup(machine, "open")
    net.some(scene.mallory.vm, scene.alice.vm, "tcp/80")
    expect(net)


def message(kind: str, mac: str, **fields: object) -> Packet:
    """A BOOTP message with its DHCP type."""
    op = 2 if kind in ("offer", "ack", "nak") else 1
    return BOOTP(op=op, chaddr=bytes.fromhex(mac.replace(":", "")), **fields) / DHCP(
        options=[("message-type", kind), "end"]
    )


def asks(sender: Host, mac: str = BROADCAST, *, src: str = "0.0.0.0", dst: str = "255.255.255.255") -> Packet:
    """A DHCPv4 client's headers."""
    return sender.ether(mac) / IP(src=src, dst=dst) / UDP(sport=68, dport=67)


def asks6(sender: Host, mac: str = SERVERS6_MAC, *, src: str = "", dst: str = SERVERS6) -> Packet:
    """A DHCPv6 client's headers."""
    return sender.ether(mac) / IPv6(src=src or sender.lla, dst=dst) / UDP(sport=546, dport=547)


def solicit(sender: Host) -> Packet:
    return DHCP6_Solicit() / DHCP6OptClientId(duid=DUID_LL(lladdr=sender.mac))


def test_honest_questions_reach_the_wire_alone(scene: Scene, mute: Host) -> None:
    """Even where no egress rule lets anything out."""
    frames = {
        "discover": asks(mute) / message("discover", mute.mac),
        "request": asks(mute) / message("request", mute.mac),
        "request from its address": asks(mute, src=mute.ip) / message("request", mute.mac),
        "renewal": asks(mute, scene.server_mac, src=mute.ip, dst=scene.server[0]) / message("request", mute.mac),
        "solicit": asks6(mute) / solicit(mute),
        "request 6": asks6(mute) / DHCP6_Request() / DHCP6OptClientId(duid=DUID_LL(lladdr=mute.mac)),
    }
    wire = {"out1", "stray"}
    allow_fence(scene)
    assert scene.arrivals(mute, frames) == {
        "discover": wire, "request": wire, "request from its address": wire, "renewal": {"out1"}, "solicit": wire,
        "request 6": wire,
    }  # fmt: skip


def allow_fence(scene: Scene) -> None:
    """Let the datagrams through that end a volley, and wait until they are."""
    evil = scene.cloud.accounts["evil"]
    group = next(one for one in evil.all("listSecurityGroups", "securitygroup") if one["name"] == "mute")
    if len(group["egressrule"]) == 1:
        allow(evil, "mute", "udp/50000", cidr="10.1.0.0/24", egress=True)
    net = Network()
    net.some(scene.mallory.vm, scene.alice.vm, "udp/50000")
    net.some(scene.mallory.vm, scene.bob.vm, "udp/50000")
    net.check()


def test_leases_and_names_are_had_whatever_the_rules(scene: Scene, mute: Host) -> None:
    """The real clients against the real servers, from discovery on."""
    vm = mute.vm
    assert vm.dhcp().address.startswith(f"{mute.ip}/")
    vm.start_dhcp6()
    assert vm.finish_dhcp6().address.startswith(f"{mute.ip6}/")
    for version in BOTH:
        server = server_of(scene.cloud.pod(1), version)
        for proto in ("udp", "tcp"):
            assert vm.resolve(server, "alice", proto=proto) == [scene.alice.ip]
            assert vm.resolve(server, "bob", kind="AAAA", proto=proto) == [scene.bob.ip6]


def test_only_the_pods_servers_are_special(scene: Scene, mute: Host, net: Network) -> None:
    """Port 53 and 67 elsewhere, and other ports of the servers, need a rule like anything else."""
    for version in BOTH:
        net.none(mute.vm, server_of(scene.cloud.pod(1), version), "tcp/80", "udp/123", "tcp/67", version=version)
        net.none(mute.vm, scene.alice.vm, "udp/53", "tcp/53", version=version)
        net.none(mute.vm, scene.bob.vm, "udp/53", "tcp/53", version=version)
    net.check(within=0)
    with pytest.raises(GuestError, match="TimeoutError"):
        mute.vm.resolve(scene.gateway[0], "alice", timeout=1)


def test_no_vm_is_a_dhcp_server(scene: Scene) -> None:
    """Offers, acknowledgements and the like of a VM reach nobody, though every security group is open."""
    mallory = scene.mallory
    frames: dict[str, Frame] = {}
    for name, to in {"alice": scene.alice, "bob": scene.bob}.items():
        for source in (mallory.ip, scene.server[0], scene.gateway[0], "0.0.0.0"):
            for kind in ("offer", "ack", "nak"):
                reply = UDP(sport=67, dport=68) / message(kind, to.mac, yiaddr=to.ip, siaddr=mallory.ip)
                ip = IP(src=source, dst=to.ip)
                frames[f"{kind} to {name} from {source}"] = mallory.ether(to) / ip / reply
                all_ = IP(src=source, dst="255.255.255.255")
                frames[f"{kind} to all for {name} from {source}"] = mallory.ether(BROADCAST) / all_ / reply
                frames[f"{kind} to {name}'s MAC from {source}"] = mallory.ether(to) / all_ / reply
        odd = IP(src=mallory.ip, dst=to.ip) / UDP(sport=6767, dport=68) / message("offer", to.mac)
        frames[f"from another port to {name}"] = mallory.ether(to) / odd
        relayed = UDP(sport=67, dport=67) / message("discover", to.mac, giaddr=mallory.ip)
        frames[f"relayed to {name}"] = mallory.ether(to) / IP(src=mallory.ip, dst=to.ip) / relayed
        for source in (mallory.lla, mallory.ip6, scene.server[1], scene.gateway_lla):
            for kind6 in (DHCP6_Advertise, DHCP6_Reply):
                for target in (to.lla, to.ip6):
                    ip6 = IPv6(src=source, dst=target) / UDP(sport=547, dport=546)
                    frames[f"{kind6.__name__} {source} {target}"] = mallory.ether(to) / ip6 / kind6()
    assert scene.arrivals(mallory, frames) == {}


def test_questions_are_asked_of_the_pods_servers_only(scene: Scene) -> None:
    """Neighbours never see them, forged or not, and a VM's false ones are not even asked."""
    mallory, alice = scene.mallory, scene.alice
    discover = message("discover", mallory.mac)
    frames: dict[str, Frame] = {
        "to alice's MAC": asks(mallory, alice.mac) / discover,
        "to alice": asks(mallory, alice.mac, src=mallory.ip, dst=alice.ip) / discover,
        "from alice's address": asks(mallory, src=alice.ip) / discover,
        "from 127.0.0.1": asks(mallory, src="127.0.0.1") / discover,
        "subnet broadcast": asks(mallory, src=mallory.ip, dst="10.1.0.255") / discover,
        "6 to alice": asks6(mallory, alice.mac, dst=alice.lla) / solicit(mallory),
        "6 to alice's address": asks6(mallory, alice.mac, src=mallory.ip6, dst=alice.ip6) / solicit(mallory),
        "6 from alice's link-local": asks6(mallory, src=alice.lla) / solicit(mallory),
        "6 from a global address of alice": asks6(mallory, src=alice.ip6) / solicit(mallory),
        "6 to all nodes": asks6(mallory, "33:33:00:00:00:01", dst="ff02::1") / solicit(mallory),
        "6 to all servers of the site": asks6(mallory, "33:33:00:01:00:03", dst="ff05::1:3") / solicit(mallory),
        "6 relayed": asks6(mallory, alice.mac, src=mallory.ip6, dst=alice.ip6) / DHCP6_RelayForward(),
    }
    stolen = asks(mallory) / message("discover", alice.mac)
    stolen.src = alice.mac
    frames["alice's dl_src"] = stolen
    assert scene.arrivals(mallory, frames) == {}


def test_other_servers_on_the_wire_are_not_heard(scene: Scene) -> None:
    """A stray DHCP server on the physical network: only what comes from the pod's own servers is let in unasked."""
    stray, alice = scene.stray, scene.alice
    frames: dict[str, Frame] = {}
    for kind in ("offer", "ack"):
        reply = UDP(sport=67, dport=68) / message(kind, alice.mac, yiaddr=alice.ip, siaddr=stray.ip)
        frames |= {
            f"{kind} to all": stray.ether(BROADCAST) / IP(src=stray.ip, dst="255.255.255.255") / reply,
            f"{kind} to alice": stray.head(alice) / reply,
            f"{kind} to alice's MAC": stray.ether(alice) / IP(src=stray.ip, dst="255.255.255.255") / reply,
        }
    frames["discover"] = asks(stray) / message("discover", stray.mac)
    frames["discover at alice"] = asks(stray, alice.mac, src=stray.ip, dst=alice.ip) / message("discover", stray.mac)
    frames["6 solicit"] = asks6(stray) / solicit(stray)
    frames["6 reply to alice"] = stray.ether(alice) / IPv6(src=stray.ip6, dst=alice.ip6) / UDP(
        sport=547, dport=546
    ) / DHCP6_Reply()  # fmt: skip
    assert scene.arrivals(stray, frames) == {}
    assert stray.vm.ping(scene.gateway[0])


def test_a_reply_to_all_reaches_those_who_asked(scene: Scene) -> None:
    """Clients that cannot receive unicast yet get the server's broadcast, and nobody else sees it."""
    server = Host(scene.stray.vm, scene.server_mac, *scene.server)
    reply = UDP(sport=67, dport=68) / message("offer", scene.alice.mac, yiaddr=scene.alice.ip)
    offer = server.ether(BROADCAST) / IP(src=scene.server[0], dst="255.255.255.255") / reply
    scene.alice.vm.dhcp()
    seen = scene.arrivals(scene.stray, {"offer": offer})
    assert "alice" in seen["offer"] and seen["offer"] <= {"alice", "mallory", "bob"}
    scene.cloud.pod(1).server.namespace.run("ping", "-c1", "-W2", scene.gateway[0])  # the switch relearns its MAC
