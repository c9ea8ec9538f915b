# SPDX-License-Identifier: Apache-2.0
"""The same cloud as OVN's southbound database has it, and what an ovn-controller of 23.03 asks for.

It is OVN at its best: each account is a logical switch of its own that no router joins with others, so that a chassis
is interested in the ports of one account instead of in all; and there are two logical flows per port, one per rule.
Where VMs of all accounts reach each other, as in sgctl's cloud, routers join the switches, all are local everywhere,
and a chassis follows all of their ports and flows: `flat_conditions`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from tests.bench.scale_cloud import account_of
from tests.functional.big_cloud import PER_ACCOUNT, PER_HOST, Tables, host, log_record, nic_id
from tests.unit.store_rows import uid

SCHEMA = Path("/usr/share/ovn/ovn-sb.ovsschema")
WATCHED = uid("address set of all")
GROUP = uid("datapath group")
SHARED_FLOWS = 150
"""Logical flows that all logical switches have in common."""


def write_file(path: Path, nics: int) -> None:
    """Make the file of a southbound database with so many ports."""
    subprocess.run(["ovsdb-tool", "create", path, SCHEMA], check=True)
    datapaths = [["uuid", datapath(start)] for start in range(0, nics, PER_ACCOUNT)]
    with path.open("ab") as file:
        file.write(log_record({"SB_Global": {uid("global"): {}}}))
        for number in range(nics // PER_HOST):
            file.write(log_record(_chassis(f"h{number}", number)))
        for start in range(0, nics, PER_ACCOUNT):
            file.write(log_record(_account(start)))
        file.write(log_record({
            "Address_Set": {WATCHED: {"name": "watched_ip4", "addresses": "10.250.0.1"}},
            "Logical_DP_Group": {GROUP: {"datapaths": ["set", datapaths]}},
            "Logical_Flow": {
                uid(f"shared {n}"): _flow(f"reg0 == {n}", table=n % 30) | {"logical_dp_group": ["uuid", GROUP]}
                for n in range(SHARED_FLOWS)
            },
        }))  # fmt: skip


def datapath(start: int) -> str:
    """The logical switch of the account whose first NIC this is."""
    return uid(f"datapath {start}")


def port(number: int) -> str:
    """The row of a port."""
    return uid(f"port binding {number}")


def chassis(name: str) -> str:
    """The row of a hypervisor."""
    return uid(f"chassis {name}")


def address_set(start: int) -> str:
    """The row with the addresses of an account's port group."""
    return uid(f"address set {start}")


def port_group(start: int) -> str:
    """The row with its ports."""
    return uid(f"port group {start}")


def rule(start: int, number: int) -> dict[str, Any]:
    """The logical flow of one more rule of an account."""
    match = f"outport == @group{start} && ip4 && ip4.src == 10.0.0.0/8 && tcp.dst == {number}"
    return _flow(match, table=9) | {"logical_datapath": ["uuid", datapath(start)]}


def _chassis(name: str, number: int) -> Tables:
    encap = uid(f"encap {name}")
    return {
        "Encap": {encap: {"type": "geneve", "ip": str(IPv4Address("172.16.0.1") + number), "chassis_name": name}},
        "Chassis": {chassis(name): {"name": name, "hostname": name, "encaps": ["uuid", encap]}},
        "Chassis_Private": {uid(f"private {name}"): {"name": name, "chassis": ["uuid", chassis(name)]}},
    }


def _account(start: int) -> Tables:
    numbers = range(start, start + PER_ACCOUNT)
    addresses, names = [_address(number) for number in numbers], [nic_id(number) for number in numbers]
    ports = {port(number): _port(start, number) for number in numbers}
    return {
        "Datapath_Binding": {datapath(start): {"tunnel_key": start // PER_ACCOUNT + 1}},
        "Port_Binding": ports,
        "Multicast_Group": {uid(f"flood {start}"): {
            "datapath": ["uuid", datapath(start)], "name": "_MC_flood", "tunnel_key": 32768,
            "ports": ["set", [["uuid", id] for id in ports]],
        }},
        "Port_Group": {port_group(start): {"name": f"group{start}", "ports": ["set", names]}},
        "Address_Set": {address_set(start): {"name": f"group{start}_ip4", "addresses": ["set", addresses]}},
        "Logical_Flow": dict(_flows(start)),
    }  # fmt: skip


def _address(number: int) -> str:
    return str(IPv4Address("10.0.1.0") + number)


def _mac(number: int) -> str:
    return f"02:00:00:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"


def _port(start: int, number: int) -> dict[str, Any]:
    own = f"{_mac(number)} {_address(number)}"
    return {
        "logical_port": nic_id(number), "datapath": ["uuid", datapath(start)], "tunnel_key": number - start + 1,
        "chassis": ["uuid", chassis(host(number))], "mac": own, "port_security": own, "up": True,
    }  # fmt: skip


def _flows(start: int) -> Iterator[tuple[str, dict[str, Any]]]:
    place = {"logical_datapath": ["uuid", datapath(start)]}
    for name in (f"group{start}", "watched"):
        match = f"outport == @group{start} && ip4 && ip4.src == ${name}_ip4 && tcp.dst == 1"
        yield uid(f"flow {start} {name}"), _flow(match, table=9) | place
    for number in range(start, start + PER_ACCOUNT):
        yield uid(f"lookup {number}"), _flow(f"eth.dst == {_mac(number)}", table=25) | place
        yield uid(f"arp {number}"), _flow(f"arp.tpa == {_address(number)} && arp.op == 1", table=19) | place


def _flow(match: str, *, table: int) -> dict[str, Any]:
    return {"pipeline": "ingress", "table_id": table, "priority": 2002, "match": match, "actions": "next;"}


def conditions(number: int) -> dict[str, tuple[list[str], list[Any]]]:
    """What the ovn-controller of a hypervisor has agreed with its server: columns and condition by table."""
    name, local = f"h{number}", [["uuid", datapath(account_of(number))]]
    own = ["uuid", chassis(name)]
    here = [["datapath", "==", one] for one in local]
    ports = [["type", "==", kind] for kind in ("patch", "chassisredirect", "l2gateway", "l3gateway", "external")]
    ports += [["chassis", "==", own], ["additional_chassis", "includes", own], ["requested_chassis", "==", own], *here]
    flows = [["logical_datapath", "==", one] for one in local] + [["logical_dp_group", "==", ["uuid", GROUP]]]
    return {
        "SB_Global": (["nb_cfg", "options"], [True]),
        "Chassis": (["name", "hostname", "encaps", "other_config", "transport_zones"], [True]),
        "Encap": (["type", "ip", "options", "chassis_name"], [True]),
        "Address_Set": (["name", "addresses"], [True]),
        "Port_Group": (["name", "ports"], [True]),
        "Datapath_Binding": (["tunnel_key", "external_ids", "load_balancers"], [True]),
        "Logical_DP_Group": (["datapaths"], [True]),
        "Port_Binding": (_PORT_COLUMNS, ports),
        "Logical_Flow": (_FLOW_COLUMNS, flows),
        "Multicast_Group": (["name", "datapath", "tunnel_key", "ports"], here),
        "MAC_Binding": (["logical_port", "ip", "mac", "datapath"], here),
        "DNS": (["records", "datapaths"], [["datapaths", "includes", ["set", local]]]),
        "Chassis_Private": (["name", "nb_cfg"], [["name", "==", name]]),
    }


def flat_conditions(number: int) -> dict[str, tuple[list[str], list[Any]]]:
    """The same where all logical switches are local, because routers join them."""
    everywhere = ("Port_Binding", "Logical_Flow", "Multicast_Group", "MAC_Binding")
    return {
        table: (columns, [True] if table in everywhere else where)
        for table, (columns, where) in conditions(number).items()
    }


_PORT_COLUMNS = [
    "logical_port", "type", "options", "datapath", "tunnel_key", "parent_port", "tag", "chassis", "additional_chassis",
    "requested_chassis", "mac", "port_security", "nat_addresses", "up",
]  # fmt: skip
_FLOW_COLUMNS = ["logical_datapath", "logical_dp_group", "pipeline", "table_id", "priority", "match", "actions"]
