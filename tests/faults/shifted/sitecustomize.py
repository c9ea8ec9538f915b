# SPDX-License-Identifier: Apache-2.0
"""For a process that has this directory in PYTHONPATH: its time of day is off by what a file says, at any moment.

Python imports this before anything else, so nobody has taken `time.time` for himself yet. Monotonic time goes on as
ever, as it does in Linux when somebody sets the clock.
"""

import os
import time
from pathlib import Path

_FILE = Path(os.environ["SGCTL_CLOCK_FILE"])
_right = time.time


def _shifted() -> float:
    return _right() + float(_FILE.read_text())


time.time = _shifted
time.time_ns = lambda: round(_shifted() * 1e9)
