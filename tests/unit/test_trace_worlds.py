# SPDX-License-Identifier: Apache-2.0
"""Who reaches whom: named clouds with the reachability they promise, and random ones against the API's semantics."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.packet import End, Packet
from tests.unit.trace_cloud import RESOLVER, Cloud, Guest, Net, allow, between, packet
from tests.unit.trace_oracle import may_open

PODS = {"pod1": ("10.1.0.0/24", "fd00:1::/64"), "pod2": ("10.2.0.0/24", "fd00:2::/64")}
OUTSIDE, OUTSIDE6 = "198.51.100.7", "2001:db8:ffff::7"


def opens(net: Net, service: str, src: str, dst: str) -> bool:
    """True if the first packet arrives, at its receiver only, and the answer gets back."""
    first = first_packet(net.cloud, service, src, dst)
    reached = send(net, first, src)
    assert reached <= {net.cloud.owner(dst) or "outside"}, f"{service} {src} -> {dst} reached {reached}"
    if reached:
        assert answered(net, first, src, dst), f"no answer to {service} {src} -> {dst}"
    return bool(reached)


def first_packet(cloud: Cloud, service: str, src: str, dst: str, *, size: int = 8) -> Packet:
    """The first packet of a connection, as its VM sends it, or as it comes to a VM."""
    viewer = cloud.owner(src) or cloud.owner(dst)
    assert viewer is not None
    return packet(service, cloud.end(src, viewer), cloud.end(dst, viewer), size=size)


def send(net: Net, pieces: Packet | Sequence[Packet], src: str) -> set[str]:
    """Whom a packet reaches that the owner of `src`, or somebody outside, sends."""
    sender = net.cloud.owner(src)
    return net.send_from_outside(pieces) if sender is None else net.send(pieces, sender)


def answered(net: Net, first: Packet, src: str, dst: str) -> bool:
    """True if the reply to a packet gets back."""
    cloud, receiver, reply = net.cloud, net.cloud.owner(dst), first.reply()
    if receiver is not None:
        reply = between(cloud.end(dst, receiver), cloud.end(src, receiver), reply)
    return send(net, reply, dst) == {cloud.owner(src) or "outside"}


def reachable(cloud: Cloud, service: str, addresses: Iterable[str] | None = None) -> set[str]:
    """``a -> b`` for all pairs of VMs where a may open a connection to b, over any pair of their addresses."""
    net = Net(cloud)
    found = set()
    for a, sender in cloud.vms.items():
        for b, receiver in cloud.vms.items():
            pairs = ((x, y) for x in sender.addresses for y in receiver.addresses if a != b)
            for x, y in pairs:
                net.forget()
                if ip_address(x).version == ip_address(y).version and opens(net, service, x, y):
                    found.add(f"{a} -> {b}")
    return found


EXAMPLE = Cloud(
    pods=PODS,
    groups={
        "acme/web": (
            allow("in tcp/12489 from operator/nagios"),
            allow("in tcp/12489 from operator/cacti"),
            allow("in tcp/80-90 from 0.0.0.0/0"),
            allow("in icmp/8,0 from operator/nagios"),
        ),
        "acme/default": (),
        "operator/nagios": (),
        "operator/cacti": (allow("out tcp/12489 to acme/web"), allow("out udp/161 to 10.0.0.0/8")),
    },
    vms={
        "web1": Guest("hv1", ("acme/web",), ("10.1.0.11", "fd00:1::11")),
        "web2": Guest("hv2", ("acme/web", "acme/default"), ("10.2.0.12", "10.2.0.112", "fd00:2::12")),
        "plain": Guest("hv1", ("acme/default",), ("10.1.0.13", "fd00:1::13")),
        "nagios": Guest("hv1", ("operator/nagios",), ("10.1.0.14", "10.1.0.114", "fd00:1::14")),
        "cacti": Guest("hv2", ("operator/cacti",), ("10.2.0.15", "fd00:2::15")),
    },
)
WEB = ("web1", "web2")
ACCEPTED = (("10.1.0.14", "10.1.0.11"), ("10.1.0.14", "10.2.0.12"), ("10.2.0.15", "10.1.0.11"))


class TestExample:
    """The mission's example: two groups of another account may open one port, on both hypervisors, in both pods."""

    def test_the_rule(self) -> None:
        assert reachable(EXAMPLE, "tcp/12489") == {f"{a} -> {b}" for a in ("nagios", "cacti") for b in WEB}

    @pytest.mark.parametrize("service", ["tcp/12488", "tcp/12490", "udp/12489", "udp/161", "gre", "sctp/12489"])
    def test_nothing_else(self, service: str) -> None:
        assert reachable(EXAMPLE, service) == set()

    @pytest.mark.parametrize(("port", "open_"), [(79, False), (80, True), (90, True), (91, False)])
    def test_a_cidr_means_one_family_and_the_egress_rules_hold(self, port: int, open_: bool) -> None:
        callers = {"plain": WEB, "nagios": WEB, "web1": ("web2",), "web2": ("web1",)}
        expected = {f"{a} -> {b}" for a, others in callers.items() for b in others}
        assert reachable(EXAMPLE, f"tcp/{port}") == (expected if open_ else set())

    def test_a_named_group_means_icmp_of_its_family(self) -> None:
        expected = {f"nagios -> {b}" for b in WEB}
        assert reachable(EXAMPLE, "icmp/8,0") == expected

    def test_outside(self) -> None:
        net = Net(EXAMPLE)
        assert opens(net, "tcp/80", OUTSIDE, "10.2.0.112")
        assert not opens(net, "tcp/12489", OUTSIDE, "10.2.0.12")
        assert not opens(net, "tcp/80", OUTSIDE6, "fd00:1::11")
        assert opens(net, "udp/4000", "10.1.0.13", OUTSIDE)
        assert not opens(net, "udp/4000", "10.2.0.15", OUTSIDE)
        assert opens(net, "udp/53", "10.2.0.15", RESOLVER)

    def test_revoking_ends_nothing_and_lets_nothing_new_in(self) -> None:
        net = Net(EXAMPLE)
        for src, dst in ACCEPTED:
            assert opens(net, "tcp/12489", src, dst)
        net.become(replace(EXAMPLE, groups=EXAMPLE.groups | {"acme/web": ()}))
        for src, dst in ACCEPTED:
            syn = first_packet(EXAMPLE, "tcp/12489", src, dst)
            assert send(net, syn.follow_up("PA"), src) == {EXAMPLE.owner(dst)}
            assert send(net, Packet.tcp(*syn.ends, 12489, sport=40001), src) == set()


ICMP = Cloud(
    pods=PODS,
    groups={
        "a/six": (allow("in icmp/128,0 from ::/0"),),
        "a/any": (allow("in icmp/13,-1 from b/x"), allow("in icmp/128,-1 from b/x")),
        "b/x": (),
    },
    vms={
        "six": Guest("hv1", ("a/six",), ("10.1.0.11", "fd00:1::11")),
        "any": Guest("hv2", ("a/any",), ("10.1.0.12", "fd00:1::12")),
        "x": Guest("hv1", ("b/x",), ("10.1.0.13", "fd00:1::13")),
    },
)


def test_icmp_types_and_codes() -> None:
    net = Net(ICMP)
    assert opens(net, "icmp/128,0", "fd00:1::13", "fd00:1::11")
    assert not opens(net, "icmp/8,0", "10.1.0.13", "10.1.0.11")
    assert opens(net, "icmp/13,0", "10.1.0.13", "10.1.0.12")
    assert opens(net, "icmp/128,0", "fd00:1::13", "fd00:1::12")
    assert not opens(net, "icmp/128,0", "fd00:1::11", "fd00:1::12")


EGRESS = Cloud(
    pods=PODS,
    groups={
        "a/open": (allow("in all from 0.0.0.0/0"), allow("in all from ::/0")),
        "a/tied": (allow("out tcp/443 to a/open"),),
        "a/four": (allow("out all to 10.2.0.0/24"),),
    },
    vms={
        "open": Guest("hv2", ("a/open",), ("10.1.0.11", "fd00:1::11")),
        "near": Guest("hv1", ("a/open",), ("10.1.0.12", "fd00:1::12")),
        "tied": Guest("hv1", ("a/tied",), ("10.1.0.13", "fd00:1::13")),
        "four": Guest("hv1", ("a/four",), ("10.1.0.14", "fd00:1::14")),
        "both": Guest("hv1", ("a/four", "a/tied"), ("10.1.0.15", "fd00:1::15")),
        "far": Guest("hv1", ("a/open",), ("10.2.0.16",)),
    },
)


def test_one_egress_rule_closes_both_families() -> None:
    free = {f"{a} -> {b}" for a in ("open", "near", "far") for b in ("open", "near", "far") if a != b}
    secure = {f"{a} -> {b}" for a in ("tied", "both") for b in ("open", "near", "far")}
    assert reachable(EGRESS, "tcp/443") == free | secure | {"four -> far"}
    assert reachable(EGRESS, "tcp/80") == free | {"four -> far", "both -> far"}


# --- random clouds -------------------------------------------------------------------------------------------------

GROUPS = ("a/one", "a/two", "b/one")
ADDRESSES = [f"10.{pod}.0.{n}" for pod in (1, 2) for n in range(11, 17)]
ADDRESSES += [f"fd00:{pod}::{n}" for pod in (1, 2) for n in range(11, 17)]
CIDRS = ("0.0.0.0/0", "::/0", "10.1.0.0/24", "10.1.0.8/29", "10.2.0.12/32", "fd00:2::/64", "fd00:1::10/125")
EDGES = (0, 1, 22, 53, 66, 67, 80, 443, 1023, 1024, 65535)
SERVICES = [f"{proto}/{port}" for proto in ("tcp", "udp") for port in (1, 22, 53, 67, 80, 81, 1024, 65535)]
SERVICES += ["icmp/8,0", "icmp/13,0", "icmp/128,0", "gre", "sctp/80", "sctp/22"]


@st.composite
def services(draw: st.DrawFn) -> str:
    protocol = draw(st.sampled_from(["tcp", "tcp", "udp", "icmp", "sctp", "gre", "all"]))
    if protocol == "icmp":
        kind = draw(st.sampled_from([-1, 8, 13, 128]))
        return f"icmp/{kind},{-1 if kind < 0 else draw(st.sampled_from([-1, 0, 3]))}"
    if protocol in ("gre", "all"):
        return protocol
    first, last = sorted(draw(st.tuples(st.sampled_from(EDGES), st.sampled_from(EDGES))))
    return f"{protocol}/{first}-{last}"


rules = st.builds(
    lambda way, service, peer: allow(f"{way} {service} to {peer}"),
    st.sampled_from(["in", "in", "out"]),
    services(),
    st.sampled_from([*GROUPS, *CIDRS]),
)


def _addresses(pod: int) -> list[str]:
    return [address for address in ADDRESSES if address.startswith((f"10.{pod}", f"fd00:{pod}"))]


@st.composite
def clouds(draw: st.DrawFn) -> Cloud:
    groups = {name: tuple(draw(st.lists(rules, max_size=3, unique=True))) for name in GROUPS}
    free = {pod: list(draw(st.permutations(_addresses(pod)))) for pod in (1, 2)}
    vms = {}
    for number in range(draw(st.integers(2, 5))):
        pod = draw(st.sampled_from([1, 2]))
        own = tuple(free[pod].pop() for _ in range(draw(st.integers(1, 3))) if free[pod])
        host = draw(st.sampled_from(["hv1", "hv2"]))
        if own:
            member_of = draw(st.lists(st.sampled_from(GROUPS), min_size=1, max_size=2, unique=True))
            promised = draw(promises(number, pod))
            vms[f"vm{number}"] = Guest(host, tuple(member_of), own, *promised)
    return Cloud(PODS, groups, vms)


@st.composite
def promises(draw: st.DrawFn, number: int, pod: int) -> tuple[tuple[str, ...], ...]:
    """What a VM may be promised beside its addresses; clusters are of the VMs of a pod."""
    alone = [f"10.{pod}.0.{80 + number}", f"fd00:{pod}::8{number}", f"10.8.{number}.0/24", f"fd00:8:{number}::/64"]
    nested = [f"10.{pod}.0.{60 + number}", f"fd00:{pod}::6{number}", f"10.7.{number}.0/24"]
    clusters = [f"10.{pod}.0.70", f"fd00:{pod}::70"]
    few = [draw(st.lists(st.sampled_from(kind), max_size=2, unique=True)) for kind in (alone, nested, clusters)]
    return tuple(map(tuple, few))


SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def attempts(cloud: Cloud, *, most: int = 40) -> st.SearchStrategy[list[tuple[str, str, str]]]:
    """Services between ends that can talk: of one family, not both outside, not both some VM's (or shared with it)."""
    behind = sorted({str(ip_network(text)[5 if "/" in text else 0]) for vm in cloud.vms.values() for text in vm.behind})
    ends = [*behind, OUTSIDE, OUTSIDE6, RESOLVER]
    holders = {end: set(cloud.holders(end)) for end in ends}
    apart = [(x, y) for x in ends for y in ends if (holders[x] or holders[y]) and not holders[x] & holders[y]]
    pairs = [(x, y) for x, y in apart if version(x) == version(y)]
    one = st.tuples(st.sampled_from(SERVICES), st.sampled_from(pairs)).filter(lambda it: _exists(it[0], it[1][0]))
    return st.lists(one.map(lambda it: (it[0], *it[1])), min_size=1, max_size=most)


def version(address: str) -> int:
    return ip_address(address).version


def _exists(service: str, address: str) -> bool:
    return not service.startswith("icmp/") or (service == "icmp/128,0") == (version(address) == 6)


@SETTINGS
@given(cloud=clouds(), data=st.data())
def test_random_clouds(cloud: Cloud, data: st.DataObject) -> None:
    """What the walkers let pass is what the semantics promise: for VMs of both hypervisors and hosts outside."""
    net = Net(cloud)
    for service, src, dst in data.draw(attempts(cloud)):
        net.forget()
        assert opens(net, service, src, dst) == may_open(cloud, service, src, dst), f"{service} {src} -> {dst}"


@SETTINGS
@given(cloud=clouds(), data=st.data())
def test_fragments_pass_where_whole_packets_do(cloud: Cloud, data: st.DataObject) -> None:
    net = Net(cloud)
    for service, src, dst in data.draw(attempts(cloud, most=15)):
        pieces = first_packet(cloud, service, src, dst, size=3000).fragments()
        if len(pieces) > 1:
            net.forget()
            reached = send(net, data.draw(st.permutations(pieces)), src)
            allowed = may_open(cloud, service, src, dst)
            assert reached == ({cloud.owner(dst) or "outside"} if allowed else set()), f"{service} {src} -> {dst}"


@SETTINGS
@given(cloud=clouds(), later=clouds(), data=st.data())
def test_changed_rules_matter_to_new_connections_only(cloud: Cloud, later: Cloud, data: st.DataObject) -> None:
    """Whatever was accepted goes on in both directions; whatever is new is held against the new rules.

    Not SCTP: OVS's userspace conntrack does not tell its connections apart, so the rules judge each packet.
    """
    net = Net(cloud)
    tried = {one: opens(net, *one) for one in data.draw(attempts(cloud, most=10)) if not one[0].startswith("sctp")}
    after = replace(cloud, groups=later.groups)
    net.become(after)
    for (service, src, dst), accepted in tried.items():
        first = first_packet(cloud, service, src, dst)
        if accepted:
            assert send(net, first.follow_up("PA"), src) == {cloud.owner(dst) or "outside"}
            assert answered(net, first, src, dst)
        elif may_open(after, service, src, dst):
            assert opens(net, service, src, dst), "what was refused before left something behind"
    for service, src, dst in tried:
        net.forget()
        assert opens(net, service, src, dst) == may_open(after, service, src, dst)


@SETTINGS
@given(cloud=clouds(), data=st.data())
def test_nobody_speaks_for_another(cloud: Cloud, data: st.DataObject) -> None:
    """A VM that writes another's address or MAC into a frame reaches nobody, whatever the rules."""
    net = Net(cloud)
    for service, src, dst in data.draw(attempts(cloud)):
        others = [name for name in cloud.vms if name not in cloud.holders(src)]
        if not others:
            continue
        liar = data.draw(st.sampled_from(others))
        first = first_packet(cloud, service, src, dst)
        own = End(cloud.mac(liar), first.ends[0].ip)
        assert net.send(first, liar) == set(), "another's MAC and address"
        assert net.send(between(own, first.ends[1], first), liar) == set(), "another's address"
