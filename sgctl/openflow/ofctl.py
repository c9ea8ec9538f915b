# SPDX-License-Identifier: Apache-2.0
"""Flows in words, by ovs-ofctl: for foreign flows and for audits, which need what the fast path does not decode."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

from sgctl.openflow.errors import SwitchError

_LINE = re.compile(
    r"\s*cookie=(?P<cookie>\w+), duration=\S+, table=(?P<table>\d+), n_packets=(?P<packets>\d+), "
    r"n_bytes=(?P<bytes>\d+), (?:\w+_(?:age|timeout)=\d+, )*(?P<rest>.*) actions=(?P<actions>.*)"
)
_PRIORITY = re.compile(r"priority=(\d+),?")
_DEFAULT_PRIORITY = 32768


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFlow:
    """An installed flow in ovs-ofctl's words."""

    cookie: int
    table: int
    priority: int
    match: str
    actions: str
    packets: int
    bytes: int


def dump_flows(target: str, table: int | None = None, *, deadline: float = 10.0) -> list[TextFlow]:
    """The flows of a bridge, `target` being ovs-ofctl's name for it; raises SwitchError."""
    wanted = [] if table is None else [f"table={table}"]
    command = ["ovs-ofctl", "-O", "OpenFlow14", "--no-names", "dump-flows", target, *wanted]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=deadline, check=True)
    except subprocess.CalledProcessError as error:
        raise SwitchError(f"ovs-ofctl cannot read flows of {target}: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SwitchError(f"ovs-ofctl cannot read flows of {target}: {error}") from error
    return [flow for flow in map(_parse, done.stdout.splitlines()) if flow is not None]


def _parse(line: str) -> TextFlow | None:
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    priority = _PRIORITY.search(found["rest"])
    return TextFlow(
        cookie=int(found["cookie"], 0),
        table=int(found["table"]),
        priority=int(priority[1]) if priority else _DEFAULT_PRIORITY,
        match=_PRIORITY.sub("", found["rest"]).strip(" ,"),
        actions=found["actions"],
        packets=int(found["packets"]),
        bytes=int(found["bytes"]),
    )
