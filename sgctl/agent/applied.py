# SPDX-License-Identifier: Apache-2.0
"""What is in force, as the writer leaves it for those who report and show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flows.flow import Flow
from sgctl.world import Decision, World

NONE = -1
"""The barrier of who has reached none yet."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The world that was decided from, what followed, and the desired flows by cookie, which the switch now holds.

    foreign: cookies in the switch that are not ours.  sequence: the last barrier that has been reached.  current: both
    databases were in sync when it was decided.  number: how many there have been since the agent started, so that who
    looks now and then knows whether one was missed.
    """

    world: World
    decision: Decision
    desired: Mapping[int, Flow]
    foreign: int
    sequence: int
    current: bool
    number: int
