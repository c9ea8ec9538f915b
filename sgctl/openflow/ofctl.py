# SPDX-License-Identifier: Apache-2.0
"""Flows in words, by ovs-ofctl: for foreign flows and for audits, which need what the fast path does not decode.

What is done without an agent is done by ovs-ofctl, too: taking sgctl's flows and meters out of a switch.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable
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


def dump_flows(
    target: str, table: int | None = None, cookie: int | None = None, *, deadline: float = 10.0
) -> list[TextFlow]:
    """The flows of a bridge, `target` being ovs-ofctl's name for it, of one table or cookie; raises SwitchError."""
    wanted = [] if table is None else [f"table={table}"]
    wanted += [] if cookie is None else [f"cookie={cookie:#x}/-1"]
    lines = _run("dump-flows", target, *filter(None, [",".join(wanted)]), deadline=deadline).splitlines()
    return [flow for flow in map(_parse, lines) if flow is not None]


def foreign_flows(target: str, ours: Callable[[int], bool]) -> list[str]:
    """The flows with other cookies than ours, as `add_flows` takes them."""
    lines = (line.strip() for line in _run("--no-stats", "dump-flows", target).splitlines())
    found = ((line, re.match(r"cookie=(\w+),", line)) for line in lines if " actions=" in line)
    return [line for line, cookie in found if cookie is None or not ours(int(cookie[1], 0))]


def add_flows(target: str, flows: Iterable[str]) -> None:
    """Add flows in one atomic bundle."""
    _run("--bundle", "add-flows", target, "-", text="".join(f"{flow}\n" for flow in flows))


def delete_flows(target: str, cookie: int, mask: int) -> None:
    """Delete the flows with such a cookie, whatever their tables."""
    _run("del-flows", target, f"cookie={cookie:#x}/{mask:#x}")


def dump_meters(target: str) -> dict[int, str]:
    """The meters by number, as `add_meter` takes them."""
    blocks = re.split(r"^meter=", _run("dump-meters", target), flags=re.MULTILINE)[1:]
    meters = {int(block.split()[0]): ",".join(f"meter={block}".split()) for block in blocks}
    return {number: meter.replace("bands=,", "bands=") for number, meter in meters.items()}


def add_meter(target: str, meter: str) -> None:
    """Add a meter."""
    _run("add-meter", target, meter)


def delete_meter(target: str, number: int) -> None:
    """Delete a meter, with the flows that use it."""
    _run("del-meter", target, f"meter={number}")


def forget_fragment_mode(target: str) -> None:
    """Let the switch match fragments as it does by default."""
    _run("set-frags", target, "normal")


def _run(*arguments: str, text: str | None = None, deadline: float = 10.0) -> str:
    command = ["ovs-ofctl", "-O", "OpenFlow14", "--no-names", *arguments]
    what = f"ovs-ofctl {' '.join(arguments)}"
    try:
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=deadline, check=True).stdout
    except subprocess.CalledProcessError as error:
        raise SwitchError(f"{what} fails: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SwitchError(f"{what} fails: {error}") from error


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
