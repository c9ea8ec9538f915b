# SPDX-License-Identifier: Apache-2.0
"""Random faults for a while: ``python -m tests.faults [--seed N] [--minutes M]``; the seed is printed first.

One line per fault; the exit status is 0 only if every promise was kept, and if the managers have not grown.
"""

from __future__ import annotations

import argparse
import sys
from random import Random
from time import monotonic, time

from devstack.lab import Lab
from tests.faults import catalogue, clock, database
from tests.faults.harness import Harness, harness
from tests.faults.scene import dice, scene
from tests.faults.sequence import FAULTS, shuffled
from tests.faults.usage import Usage

WARM = 12
"""After so many faults everything has happened once and memory should not grow any more."""


def soak(harness: Harness, chance: Random, seconds: float) -> None:
    """Faults until the time is over."""
    usage = Usage(harness.scene)
    ends = monotonic() + seconds
    every = (*FAULTS, *catalogue.MORE, *database.MORE, *clock.CLOCK)
    for number, fault in enumerate(shuffled(every, chance)):
        if monotonic() > ends:
            return
        try:
            harness.run(fault, chance)
        except (AssertionError, TimeoutError) as error:
            error.add_note(f"fault: {fault.name}")
            raise
        if number >= WARM:
            usage.hold()


def main() -> int:
    """The whole run."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Random faults under traffic.")
    parser.add_argument("--seed", type=int, default=int(time()), help="what chance begins with (default: the time)")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default: %(default)s)")
    options = parser.parse_args()
    chance = dice(options.seed)
    with (
        Lab() as lab, scene(lab) as made, clock.own_clocks(made), database.small_disk(made.keeper),
        harness(made) as found,
    ):  # fmt: skip
        soak(found, chance, options.minutes * 60)
    return 0


if __name__ == "__main__":
    sys.exit(main())
