# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between us and the switch."""

from __future__ import annotations

from collections.abc import Mapping

from flows.flow import Flow
from sgctl.errors import SgctlError


class SwitchError(SgctlError):
    """The switch refused a request."""


class SwitchGone(SwitchError):
    """The connection is lost, or was given up: what the switch has made of a change is known on the next one only."""


class Refused(SwitchError):
    """Flows that cannot be installed, each with the reason; nothing of their bundle is in force."""

    def __init__(self, reasons: Mapping[Flow, str]) -> None:
        flow, reason = next(iter(reasons.items()))
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        super().__init__(f"refused flow {flow}: {reason}{more}")
        self.reasons = dict(reasons)

    @property
    def flows(self) -> tuple[Flow, ...]:
        """The refused flows, in the order they were given."""
        return tuple(self.reasons)
