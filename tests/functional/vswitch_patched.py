# SPDX-License-Identifier: Apache-2.0
"""A LocalSwitch in a fully monkey-patched process: prints the ports, and what prepare answers first and last."""

import sys

import eventlet

eventlet.monkey_patch()

from sgctl.vswitch import BridgeSettings, LocalSwitch  # noqa: E402
from tests.functional.vswitch_sandbox import eventually  # noqa: E402

local = LocalSwitch(sys.argv[1], "br0")
local.start()
eventually(lambda: local.insync and all(port.ofport for port in local.snapshot().ports))
print(*(port.name for port in local.snapshot().ports))
settings = BridgeSettings(controller="tcp:127.0.0.1:7", tables={0: "CLASSIFIER"})
print(bool(local.prepare(settings)))
print(eventually(lambda: not local.prepare(settings)) and bool(local.prepare(settings)))
local.stop()
