# SPDX-License-Identifier: Apache-2.0
"""A small cloud of network namespaces: pods, a router, DHCP, hypervisors with real Open vSwitch, and VMs.

Read `keeper` and `namespace` first, then `segment` (wires), `hypervisor`, `vm`, `agent` and `devstack.guest` (what
speaks inside a VM), `network` (who can reach whom), and `cloud`, which puts them together with `sgctl-manager`.
"""

from devstack.lab.hypervisor import Hypervisor
from devstack.lab.manager import Manager
from devstack.lab.namespace import CommandFailed, Lab, Namespace
from devstack.lab.network import Network
from devstack.lab.segment import Router, Segment
from devstack.lab.vm import VM

__all__ = ["VM", "CommandFailed", "Hypervisor", "Lab", "Manager", "Namespace", "Network", "Router", "Segment"]
