# SPDX-License-Identifier: Apache-2.0
"""How fast the same switch takes the same flows from its own tool, in the same run."""

from __future__ import annotations

import re
import statistics
import time

from tests.bench.hypervisor import BRIDGE, Hypervisor

SPARE = "br-floor"
REPEAT = 3
_METER = re.compile(r"meter:\d+,")


def floor(hypervisor: Hypervisor) -> dict[str, float]:
    """Milliseconds of `ovs-ofctl --bundle` for all flows of the bridge, on an empty bridge of the same switch."""
    sandbox = hypervisor.sandbox
    file = hypervisor.directory / "flows.txt"
    lines = sandbox.ofctl("dump-flows", BRIDGE, "--no-stats", "--no-names").splitlines()
    # Meters are not flows; without them the tool has a little less to do.
    flows = [_METER.sub("", line.strip()) for line in lines if "actions=" in line]
    file.write_text("\n".join(flows) + "\n")
    sandbox.add_bridge(SPARE)
    walls = []
    for _ in range(REPEAT):
        sandbox.ofctl("del-flows", SPARE)
        started = time.perf_counter()
        sandbox.ofctl("add-flows", SPARE, "--bundle", str(file))
        walls.append(time.perf_counter() - started)
    sandbox.run("ovs-vsctl", f"--db={sandbox.connection}", "del-br", SPARE)
    return {"floor ms": 1000 * statistics.median(walls)}
