# SPDX-License-Identifier: Apache-2.0
"""The sample of a configuration file, ``python -m sgctl.sample > sgctl/sgctl.conf``: every option with its default."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from sgctl.config import OPTIONS, SWITCH_OPTIONS, default_text

WIDTH = 100
HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# Options of sgctl-manager, as `sgctl-manager --help` explains them; all are shown with their defaults.
# One process that is all reads /etc/sgctl/sgctl.conf; sgctl-db.service reads /etc/sgctl/db.conf, sgctl-api.service
# /etc/sgctl/api.conf, sgctl-agent.service /etc/sgctl/agent.conf. Each is a copy of this with what differs.
# Options of lists may be given several times, once per item.

[DEFAULT]
"""

def sample() -> str:
    """The file's text."""
    return HEAD + "".join(_entries())


def _entries() -> Iterator[str]:
    for option in (*OPTIONS, *SWITCH_OPTIONS):
        text = "".join(f"# {line}\n" for line in wrap(option.help, WIDTH))
        yield f"\n{text}#{option.dest} = {default_text(option)}".rstrip() + "\n"


if __name__ == "__main__":
    print(sample(), end="")
