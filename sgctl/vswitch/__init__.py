# SPDX-License-Identifier: Apache-2.0
"""The local switch's own database (Open_vSwitch): who is plugged in, and how our bridge is configured."""

from sgctl.vswitch.bridge import BridgeSettings
from sgctl.vswitch.errors import VSwitchError
from sgctl.vswitch.local import LocalSwitch

__all__ = ["BridgeSettings", "LocalSwitch", "VSwitchError"]
