# SPDX-License-Identifier: Apache-2.0
"""Addresses, networks and MACs from the text of rows, and what operators promise to NICs beside their addresses."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import chain

from flows.inputs import Allowed, Block, Ip, Network

SHORTEST = {4: 16, 6: 48}
"""The shortest prefix of a network that may be promised: all in it count as members of the NIC's groups."""
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)


@lru_cache(maxsize=1 << 14)
def parse_mac(text: str) -> int | None:
    """A unicast MAC address as a number, None if it is not one."""
    text = text.strip().lower()
    value = int(text.replace(":", ""), 16) if _MAC.fullmatch(text) else 0
    return value if value and not value >> 40 & 1 else None


@lru_cache(maxsize=1 << 16)
def parse_address(text: str) -> Ip | None:
    """An address that a VM may have, None if the text is not one."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    unusable = address.is_multicast or address.is_unspecified or address.is_loopback
    return None if unusable or getattr(address, "scope_id", None) else address


@lru_cache(maxsize=1 << 16)
def parse_block(text: str) -> Block | None:
    """An address, or a network of which VMs may have addresses; None if the text is neither, or too much for a VM."""
    if "/" not in text:
        return parse_address(text)
    try:
        network = ip_network(text)
    except ValueError:
        return None
    first, last = network.network_address, network.broadcast_address
    usable = parse_address(str(first)) and parse_address(str(last))
    return network if usable and network.prefixlen >= SHORTEST[network.version] else None


def promised(texts: Iterable[str], own: Collection[Ip], own_mac: int) -> tuple[tuple[Allowed, ...], list[str]]:
    """What these lines (`sgctl.model.allowance_text`) promise to a NIC with these addresses and this MAC, in canonical
    order; and those that make no sense.

    Nothing of it overlaps: what is there already is left out, too.
    """
    good: list[Allowed] = []
    bad: list[str] = []
    for text in sorted(texts):
        one = _allowed(text, own_mac)
        if one is None or any(_overlap(one.network, other) for other in (*own, *(each.network for each in good))):
            bad.append(text)
        else:
            good.append(one)
    good.sort(key=lambda one: (one.network.version, int(one.network.network_address), one.network.prefixlen))
    return tuple(good), bad


def _allowed(text: str, own_mac: int) -> Allowed | None:
    address, *rest = text.split(" ")
    shared = rest[-1:] == ["shared"]
    macs = rest[:-1] if shared else rest
    block, mac = parse_block(address), parse_mac(macs[0]) if macs else 0
    if block is None or mac is None or len(macs) > 1:
        return None
    mac = 0 if mac == own_mac else mac
    network = ip_network(block)
    if shared:
        whole = network.prefixlen == network.max_prefixlen
        return Allowed(network, mac, shared) if whole and (not mac or vrrp_version(mac) == network.version) else None
    return None if vrrp_version(mac) else Allowed(network, mac)


def vrrp_version(mac: int) -> int:
    """For addresses of which IP version a MAC is a virtual one of VRRP (RFC 5798, section 7.3); 0: it is none."""
    return {0x00005E0001: 4, 0x00005E0002: 6}.get(mac >> 8, 0) if mac & 0xFF else 0


def _overlap(network: Network, other: Block) -> bool:
    return network.version == other.version and network.overlaps(ip_network(other))


def block_text(block: Block) -> str:
    """An address, or a network as a CIDR, as rows have it: the network of one address is this address."""
    if isinstance(block, IPv4Network | IPv6Network) and block.prefixlen == block.max_prefixlen:
        return str(block.network_address)
    return str(block)


def words(allowed: Allowed) -> str:
    """What is allowed, for people."""
    mac = f" by {allowed.mac.to_bytes(6, 'big').hex(':')}" if allowed.mac else ""
    return f"{block_text(allowed.network)}{mac}{' (shared)' if allowed.shared else ''}"


class Reach(Collection[str]):
    """Addresses and networks by their texts; an address is in it if it is one of them or in one of them."""

    __slots__ = ("_networks", "_single")

    def __init__(self, texts: Iterable[str] = ()) -> None:
        given = frozenset(texts)
        self._networks = {text: ip_network(text) for text in sorted(given) if "/" in text}
        self._single = given - self._networks.keys()

    def __contains__(self, text: object) -> bool:
        return text in self._single or (bool(self._networks) and self._covers(str(text)))

    def _covers(self, text: str) -> bool:
        address = parse_address(text)
        return address is not None and any(address in network for network in self._networks.values())

    def __iter__(self) -> Iterator[str]:
        return chain(self._single, self._networks)

    def __len__(self) -> int:
        return len(self._single) + len(self._networks)

    @property
    def single(self) -> frozenset[str]:
        """The addresses that are named one by one."""
        return self._single

    def without(self, other: Reach) -> Reach:
        """What is not there word for word."""
        return Reach(text for text in self if text not in other._single and text not in other._networks)
