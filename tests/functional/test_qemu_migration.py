# SPDX-License-Identifier: Apache-2.0
"""Two real guests, one of which is live-migrated by QEMU between two hypervisors while they talk."""

from __future__ import annotations

from itertools import pairwise

import pytest

from devstack.lab import Lab
from devstack.lab.cloud import Cloud, Order
from devstack.lab.hypervisor import Hypervisor
from devstack.lab.namespace import wait_for
from devstack.lab.qemu import KERNEL, QemuGuest, initramfs
from tests.functional.moving import moving_cloud
from tests.functional.promised import allow, revoke


def guest(cloud: Cloud, name: str, group: str, hypervisor: Hypervisor, server: str = "") -> tuple[QemuGuest, str]:
    """A guest of the tenant's, booting, and its address."""
    answer = cloud.deploy(Order(cloud.accounts["tenant"], name, hypervisor, cloud.pod(1), (group,)))
    card = answer["nic"][0]
    address = str(card["ipaddress"])
    image = cloud.lab.directory / "initramfs.gz"
    if not image.exists():
        initramfs(cloud.lab.directory)
    words = {"address": f"{address}/24"} | ({"server": server} if server else {})
    made = QemuGuest(cloud.lab, name, str(card["id"]), str(card["macaddress"]), image, hypervisor, words)
    return made, address


def echoed(client: QemuGuest) -> list[int]:
    """The numbers that have come back to the client."""
    return [int(line.split()[1]) for line in client.lines() if line.startswith("BACK ") and len(line.split()) == 2]


@pytest.mark.timeout(400)
def test_a_real_guest_moves(lab: Lab) -> None:
    if not (KERNEL / "vmlinuz").exists():
        pytest.fail("there is no kernel for guests: run `make setup`")
    with moving_cloud(lab) as cloud:
        first, second = cloud.hypervisors
        tenant = cloud.create_account("tenant", ("server", "client"))
        rules = allow(tenant, "server", "tcp/5000", cidr="0.0.0.0/0")
        server, address = guest(cloud, "server", "server", first)
        server.wait_ready()
        client, _ = guest(cloud, "client", "client", first, server=address)
        client.wait_ready()
        wait_for("the guests talk", lambda: len(echoed(client)) > 20, timeout=60, step=0.1)
        revoke(tenant, rules)
        server.prepare(second)
        cloud.wait_port(second, "server", "standby")
        before = len(echoed(client))
        wait_for("they go on meanwhile", lambda: len(echoed(client)) > before + 10, timeout=60, step=0.1)
        server.migrate()
        cloud.wait_port(second, "server", "active")
        cloud.wait_port(first, "server", "standby")
        server.processes[0].close()
        moved = len(echoed(client))
        wait_for("they go on afterwards", lambda: len(echoed(client)) > moved + 20, timeout=60, step=0.1)
        numbers = echoed(client)
        assert all(after == one + 1 for one, after in pairwise(numbers))
        assert "ENDED" not in client.lines()
