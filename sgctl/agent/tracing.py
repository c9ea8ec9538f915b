# SPDX-License-Identifier: Apache-2.0
"""`/admin/trace`: a packet described by a query, walked through the desired flows, told in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from flows.explain import explain
from flows.flow import Flow
from flows.inputs import Allowed, Bridge, Ip, Port, Virtual
from flows.packet import End, Packet
from flows.stages.virtual import holders
from flows.trace import Ambiguous, Switch, Walk
from sgctl.addresses import parse_mac
from sgctl.agent.applied import Applied
from sgctl.agent.views import Json, numbered
from sgctl.errors import SgctlError
from sgctl.openflow.compare import Entry, same
from sgctl.rules import PROTOCOLS
from sgctl.world import PortState

KEYS = ("in_port", "src", "dst", "proto", "sport", "dport", "type", "code", "src_mac", "dst_mac", "state")
STATES = ("new", "established", "reply")
#: A MAC that nobody has, for ends whose MAC does not matter.
UNKNOWN_MAC = 0x02_00_00_FE_FE_FE


class QueryError(SgctlError):
    """The packet is not described well."""


def trace(applied: Applied, query: Mapping[str, str], learned: Sequence[Entry] = ()) -> Json:
    """What would happen to the packet that `query` describes, where the switch has `learned` these flows; raises
    QueryError."""
    if unknown := sorted(query.keys() - set(KEYS)):
        raise QueryError(f"no key {unknown[0]}; keys: {', '.join(KEYS)}")
    asked = _Asked(applied, query)
    switch = Switch(applied.desired.values(), ports=numbered(applied))
    for flow in _heard(applied, learned):
        switch.learn(flow)
    port, packet = asked.port, asked.packet()
    try:
        switch.preset(packet, asked.choice("state", STATES, "new"))
        walk = switch.walk(packet, port)
    except Ambiguous as error:
        raise QueryError(str(error)) from error
    except ValueError as error:
        raise QueryError(f"state: {error}") from error
    return _told(applied, walk)


def _heard(applied: Applied, learned: Sequence[Entry]) -> Iterator[Flow]:
    """What the switch has learned of where virtual MACs are."""
    for unit in applied.decision.units.values():
        if isinstance(unit, Virtual):
            for flow in holders(unit):
                if any(same(flow, entry) for entry in learned):
                    yield flow


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query, read against what is known."""

    applied: Applied
    query: Mapping[str, str]

    @property
    def port(self) -> int:
        """The OpenFlow number of the port that the packet comes in by."""
        name = self._needed("in_port")
        if name == "uplink":
            bridge = self.applied.decision.units["bridge"]
            assert isinstance(bridge, Bridge)
            if not bridge.uplinks:
                raise QueryError("in_port: the bridge has no uplink")
            return bridge.uplinks[0]
        port = self._port_state(name)
        if port.ofport is None:
            raise QueryError(f"in_port: port {name} has no OpenFlow number")
        return port.ofport

    def packet(self) -> Packet:
        """The packet itself."""
        src, dst = self._ip("src"), self._ip("dst")
        if src.version != dst.version:
            raise QueryError("src and dst must be of one family")
        a, b = End(self._source_mac(src), src), End(self._destination_mac(dst), dst)
        proto = self.query.get("proto", "tcp").lower()
        match proto:
            case "tcp" | "6":
                flags = "S" if self.query.get("state", "new") == "new" else "A"
                return Packet.tcp(a, b, self._number("dport", 80), sport=self._number("sport", 40000), flags=flags)
            case "udp" | "17":
                return Packet.udp(a, b, self._number("dport", 53), sport=self._number("sport", 40000))
            case "sctp" | "132":
                return Packet.sctp(a, b, self._number("dport", 80), sport=self._number("sport", 40000))
            case "icmp" | "icmp6" | "icmpv6" | "1" | "58":
                return Packet.icmp(a, b, self._number("type", 8, 255), self._number("code", 0, 255))
            case "arp":
                return self._arp(a, dst)
            case "nd":
                return self._solicitation(a, dst)
        return Packet.ip(a, b, self._protocol(proto), bytes(16))

    def _arp(self, a: End, target: Ip) -> Packet:
        if not isinstance(target, IPv4Address):
            raise QueryError("arp is for IPv4 addresses")
        return Packet.arp(a, target)

    def _solicitation(self, a: End, target: Ip) -> Packet:
        if not isinstance(target, IPv6Address):
            raise QueryError("nd is for IPv6 addresses")
        return Packet.solicitation(a, target, lladdr=a.mac)

    def _protocol(self, name: str) -> int:
        number = int(name) if name.isascii() and name.isdigit() else PROTOCOLS.get(name, -1)
        if not 0 <= number <= 255:
            raise QueryError(f"proto: no protocol {name!r}")
        return number

    def choice(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        """One of some words."""
        value = self.query.get(key, default)
        if value not in allowed:
            raise QueryError(f"{key}: must be one of {', '.join(allowed)}")
        return value

    def _needed(self, key: str) -> str:
        if not self.query.get(key):
            raise QueryError(f"{key} is missing")
        return self.query[key]

    def _ip(self, key: str) -> Ip:
        try:
            return ip_address(self._needed(key))
        except ValueError as error:
            raise QueryError(f"{key}: {error}") from error

    def _number(self, key: str, default: int, highest: int = 65535) -> int:
        value = self.query.get(key)
        if value is None:
            return default
        if not (value.isascii() and value.isdigit() and int(value) <= highest):
            raise QueryError(f"{key}: must be a number up to {highest}")
        return int(value)

    def _port_state(self, name: str) -> PortState:
        for port in self.applied.decision.ports:
            if port.name == name:
                return port
        names = ", ".join(port.name for port in self.applied.decision.ports)
        raise QueryError(f"in_port: no port {name}; ports: uplink, {names}")

    def _mac(self, key: str) -> int | None:
        value = self.query.get(key)
        if value is None:
            return None
        try:
            parts = [int(part, 16) for part in value.split(":")]
            return int.from_bytes(bytes(parts), "big") if len(parts) == 6 else parse_mac(value) or _bad(key)
        except ValueError:
            return _bad(key)

    def _source_mac(self, src: Ip) -> int:
        own = self._mac("src_mac")
        name = self._needed("in_port")
        if own is None and name != "uplink":
            port = self._port_state(name)
            own = _promised_mac(src, port.allowed) or parse_mac(port.mac or "")
        return own if own is not None else UNKNOWN_MAC

    def _destination_mac(self, dst: Ip) -> int:
        asked = self._mac("dst_mac")
        if asked is not None:
            return asked
        units = self.applied.decision.units.values()
        ports = [one for one in units if isinstance(one, Port)]
        own = next((one.mac for one in ports if dst in one.addresses), None)
        if own is None:
            holders = (one for one in ports if any(dst in each.network for each in one.allowed))
            own = next((_promised_mac(dst, one.allowed) or one.mac for one in holders), UNKNOWN_MAC)
        return own


def _promised_mac(address: Ip, allowed: Iterable[Allowed]) -> int:
    """The MAC of the guest inside a VM that uses an address; 0: there is none."""
    return next((one.mac for one in allowed if address in one.network), 0)


def _bad(key: str) -> int:
    raise QueryError(f"{key}: not a MAC address")


def _told(applied: Applied, walk: Walk) -> Json:
    names = numbered(applied)
    where = ", ".join(names.get(number, f"port {number}") for number in walk.outputs) or None
    steps = [asdict(step) for step in explain(walk, ports=names)]
    return {"verdict": walk.verdict, "where": where, "reason": walk.reason, "steps": steps}
