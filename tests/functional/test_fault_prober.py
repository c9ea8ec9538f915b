# SPDX-License-Identifier: Apache-2.0
"""The fault tests' eyes are open: what must never arrive would be seen if it did."""

from __future__ import annotations

from contextlib import suppress

from devstack.lab import Lab
from devstack.lab.hypervisor import BRIDGE
from devstack.lab.namespace import wait_for
from tests.faults.prober import Prober
from tests.faults.scene import scene


def test_without_guards_every_probe_arrives_where_it_must_not(lab: Lab) -> None:
    with scene(lab) as made:
        prober = Prober(made)
        for hypervisor in made.hypervisors:
            hypervisor.ofctl("add-flow", BRIDGE, "cookie=0x99,table=0,priority=65535,actions=FLOOD")
        missing = {probe.name for probe in prober.probes}

        def all_seen() -> bool:
            missing.difference_update(name for name, _ in prober.arrived())
            return not missing

        with suppress(TimeoutError):
            wait_for("all to arrive", all_seen, timeout=60, step=0.2)
        prober.stop()
        assert not missing
