# SPDX-License-Identifier: Apache-2.0
"""Lists of what this cloud does not have, which clients ask for all the same: always empty."""

from sgctl.api.command import Answer, Call, command
from sgctl.api.listing import objects
from sgctl.api.owners import LISTING, OWNED_LISTING


def _nothing(call: Call) -> Answer:
    return objects(call, [])


list_public_addresses = command(
    "listPublicIpAddresses", "Lists public addresses; there are none.", *OWNED_LISTING, answer="publicipaddress"
)(_nothing)
list_balancers = command(
    "listLoadBalancerRules", "Lists load balancers; there are none.", *OWNED_LISTING, answer="loadbalancerrule"
)(_nothing)
list_balancer_instances = command(
    "listLoadBalancerRuleInstances",
    "Lists the VMs of a load balancer; there are none.",
    *OWNED_LISTING,
    answer="loadbalancerruleinstance",
)(_nothing)
list_global_balancers = command(
    "listGlobalLoadBalancerRules",
    "Lists global load balancers; there are none.",
    *OWNED_LISTING,
    answer="globalloadbalancerrule",
)(_nothing)
list_port_forwarding = command(
    "listPortForwardingRules", "Lists port forwardings; there are none.", *OWNED_LISTING, answer="portforwardingrule"
)(_nothing)
list_ip_forwarding = command(
    "listIpForwardingRules", "Lists address forwardings; there are none.", *OWNED_LISTING, answer="ipforwardingrule"
)(_nothing)
list_volumes = command("listVolumes", "Lists volumes; there are none.", *OWNED_LISTING, answer="volume")(_nothing)
list_tags = command("listTags", "Lists tags; there are none.", *OWNED_LISTING, answer="tag")(_nothing)
list_projects = command("listProjects", "Lists projects; there are none.", *LISTING, answer="project")(_nothing)
list_key_pairs = command(
    "listSSHKeyPairs", "Lists SSH key pairs; there are none.", *OWNED_LISTING, answer="sshkeypair"
)(_nothing)
list_affinity_groups = command(
    "listAffinityGroups", "Lists affinity groups; there are none.", *OWNED_LISTING, answer="affinitygroup"
)(_nothing)
list_snapshots = command(
    "listSnapshots", "Lists snapshots; there are none.", *OWNED_LISTING, answer="snapshot"
)(_nothing)
list_firewall_rules = command(
    "listFirewallRules", "Lists firewall rules; there are none.", *OWNED_LISTING, answer="firewallrule"
)(_nothing)
