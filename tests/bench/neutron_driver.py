# SPDX-License-Identifier: Apache-2.0
"""Neutron's security group agent on its own OVS firewall driver; runs in the Python of Neutron's venv, not in sgctl's.

`python neutron_driver.py SOCKET OVSDB PORT`: connects to the unix socket, on which `tests.bench.neutron` sends one JSON
object per line, and answers each when Neutron's call has returned. In place of the Neutron server a `Cloud` answers
the agent's one RPC. Everything else is Neutron's: agent, driver, bridge class, os-ken connection, ovs-ofctl.

Left out, in Neutron's favour: the server, its RPC, the loop that looks for new ports every two seconds, the privilege
separation daemon (this runs as root), and conntrack(8), which knows nothing of a userspace datapath.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

BRIDGE, VLAN = "br-int", 7
WEB, SOURCES = "web", "sources"


class Cloud:
    """What the Neutron server would tell of the devices, groups, rules and members."""

    def __init__(self) -> None:
        self.devices: dict[str, dict[str, Any]] = {}
        self.rules: list[dict[str, Any]] = [
            {"ethertype": kind, "direction": "egress"} for kind in ("IPv4", "IPv6")
        ]  # fmt: skip
        self.members: set[tuple[str, str]] = set()

    def add_device(self, device: str, mac: str, address: str) -> None:
        """A port in the group `web`."""
        self.devices[device] = {
            "device": device, "id": device, "admin_state_up": True, "device_owner": "compute:bench",
            "network_id": "net", "fixed_ips": [address], "mac_address": mac, "port_security_enabled": True,
            "allowed_address_pairs": [], "security_groups": [WEB], "security_group_rules": [],
            "security_group_source_groups": [SOURCES], "security_group_remote_address_groups": [], "status": "ACTIVE",
        }  # fmt: skip

    @staticmethod
    def rule(protocol: str, port: int, **peer: str) -> dict[str, Any]:
        """An ingress rule; `peer` is its source_ip_prefix or remote_group_id."""
        ports = {"port_range_min": port, "port_range_max": port}
        return {"ethertype": "IPv4", "direction": "ingress", "protocol": protocol, **ports, **peer}

    def security_group_info_for_devices(self, _context: object, devices: list[str]) -> dict[str, Any]:
        """The RPC."""
        return {
            "devices": {device: dict(self.devices[device]) for device in devices},
            "security_groups": {WEB: list(self.rules)},
            "sg_member_ips": {SOURCES: {"IPv4": set(self.members)}},
        }


class Driver:
    """Does what is asked through the socket; each method is one command."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._cloud = Cloud()

    def main(self, bridge_classes: dict[str, Any], register_signal: object = None) -> None:
        """In place of `ovs_neutron_agent.main`, which has the same arguments."""
        try:
            self._serve(bridge_classes)
        finally:
            os._exit(0)  # os-ken ends no other way from here.

    def _serve(self, bridge_classes: dict[str, Any]) -> None:
        from neutron.agent.securitygroups_rpc import SecurityGroupAgentRpc
        from oslo_config import cfg

        self._bridge = bridge_classes["br_int"](BRIDGE, datapath_type="dummy")
        self._bridge.create(secure_mode=True)
        self._bridge.setup_controllers(cfg.CONF)
        self._bridge.setup_default_table()
        self._agent = SecurityGroupAgentRpc(context=None, plugin_rpc=self._cloud, integration_bridge=self._bridge)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._path)
        for line in connection.makefile("r"):
            command = json.loads(line)
            getattr(self, command.pop("do"))(**command)
            connection.sendall(b"{}\n")

    def tag(self, *, names: list[str]) -> None:
        """What the agent writes into the switch's database when it finds new ports."""
        tagged = {"tag": str(VLAN), "network_type": "vxlan", "segmentation_id": "77", "physical_network": "None"}
        with self._bridge.ovsdb.transaction(check_error=True) as transaction:
            for name in names:
                columns = (("tag", VLAN), ("other_config", tagged))
                transaction.add(self._bridge.ovsdb.db_set("Port", name, *columns))

    def cold(self, *, devices: list[list[str]], rules: list[list[Any]], members: list[list[str]]) -> None:
        """All of it at once."""
        for device in devices:
            self._cloud.add_device(*device)
        self._cloud.rules += [Cloud.rule("tcp", port, source_ip_prefix=source) for port, source in rules if source]
        self._cloud.rules += [Cloud.rule("tcp", port, remote_group_id=SOURCES) for port, source in rules if not source]
        self._cloud.members = {(address, mac) for address, mac in members}
        self._agent.prepare_devices_filter([device for device, _, _ in devices])

    def rule(self, *, protocol: str, port: int, source: str, come: bool) -> None:
        """A rule comes or goes."""
        rule = Cloud.rule(protocol, port, source_ip_prefix=source)
        (self._cloud.rules.append if come else self._cloud.rules.remove)(rule)
        self._agent.security_groups_rule_updated([WEB])

    def member(self, *, address: str, mac: str, come: bool) -> None:
        """A member comes or goes."""
        (self._cloud.members.add if come else self._cloud.members.discard)((address, mac))
        self._agent.security_groups_member_updated([SOURCES])

    def know(self, *, device: str, mac: str, address: str) -> None:
        """The server has a new port."""
        self._cloud.add_device(device, mac, address)

    def plugged(self, *, device: str, name: str) -> None:
        """A port is there."""
        self.tag(names=[name])
        self._agent.prepare_devices_filter([device])

    def unplugged(self, *, device: str) -> None:
        """A port has gone."""
        self._agent.remove_devices_filter([device])
        del self._cloud.devices[device]


def _configure(connection: str, port: int) -> None:
    from neutron import privileged
    from neutron.common import config as common
    from neutron.conf.agent import common as agent
    from neutron.conf.agent import securitygroups_rpc
    from neutron.plugins.ml2.drivers.openvswitch.agent import ovs_neutron_agent  # noqa: F401, registers options
    from oslo_config import cfg

    common.register_common_config_options()
    securitygroups_rpc.register_securitygroups_opts()
    agent.register_root_helper(cfg.CONF)
    cfg.CONF(args=[], project="neutron", default_config_files=[])
    switch = {
        "ovsdb_connection": connection, "of_listen_address": "127.0.0.1", "of_listen_port": port,
        "of_request_timeout": 120, "ovsdb_timeout": 60, "integration_bridge": BRIDGE,
    }  # fmt: skip
    for name, value in switch.items():
        cfg.CONF.set_override(name, value, group="OVS")
    for name, value in {"firewall_driver": "openvswitch", "enable_security_group": True}.items():
        cfg.CONF.set_override(name, value, group="SECURITYGROUP")
    privileged.default.set_client_mode(False)


def _without_conntrack() -> None:
    from neutron.agent.common import utils as common
    from neutron.agent.linux import utils

    execute = utils.execute

    def most(command: list[str], *arguments: Any, **options: Any) -> Any:
        return "" if command[0] == "conntrack" else execute(command, *arguments, **options)

    utils.execute = common.execute = most


def run(path: str, connection: str, port: int) -> None:
    """Serve until the connection ends."""
    _configure(connection, port)
    _without_conntrack()
    from neutron.plugins.ml2.drivers.openvswitch.agent import ovs_neutron_agent
    from neutron.plugins.ml2.drivers.openvswitch.agent.openflow.native import main as openflow

    openflow.init_config()
    ovs_neutron_agent.main = Driver(path).main
    openflow.main()


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], int(sys.argv[3]))
