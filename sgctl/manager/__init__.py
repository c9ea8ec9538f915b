# SPDX-License-Identifier: Apache-2.0
"""sgctl-manager, the ryu-manager of this project: runs os-ken applications, by default the agent and the API.

This module is the only one that knows which hub drives them: eventlet, with the whole standard library patched before
anything else is imported. os-ken's own default hub never reports a dead switch.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

from sgctl.collector import uncollected


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; 0 then, 1 on an error."""
    # Keys are in the state directory: nothing there is for others to read.
    os.umask(0o077)
    with uncollected():
        _choose_hub()
        from sgctl.manager.launcher import launch

    return launch(sys.argv[1:] if arguments is None else arguments)


def _choose_hub() -> None:
    os.environ["OSKEN_HUB_TYPE"] = "eventlet"
    # Nothing here is looked up in the DNS, and eventlet's own resolver takes 15 MiB and a fifth of a second to import.
    os.environ["EVENTLET_NO_GREENDNS"] = "yes"
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    import eventlet

    eventlet.monkey_patch()
