# SPDX-License-Identifier: Apache-2.0
"""What a hypervisor's agent does not load: each costs megabytes on every hypervisor, and time at every start."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOAD = """
import sys
from sgctl.manager import _choose_hub
_choose_hub()
import sgctl.manager.launcher, sgctl.agent
print(*sys.modules)
"""
#: The API's, the command line's, and eventlet's DNS resolver with what it takes along.
STRANGERS = {"webob", "routes", "rich", "yaml", "dns", "cryptography", "_openssl", "requests", "scapy"}


def test_an_agent_loads_only_what_it_uses() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", LOAD]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()
    assert "sgctl.agent.writer" in loaded
    assert {name.split(".")[0] for name in loaded} & STRANGERS == set()
    assert [name for name in loaded if name.startswith(("sgctl.api", "sgctl.cli"))] == []
