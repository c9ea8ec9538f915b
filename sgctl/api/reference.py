# SPDX-License-Identifier: Apache-2.0
"""The command reference, from the declarations: ``python -m sgctl.api.reference > sgctl/api/COMMANDS.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from sgctl.api.catalogue import catalogue
from sgctl.api.command import Command, Mode
from sgctl.api.params import Param

_HEAD = """# The commands of the API

Made by `python -m sgctl.api.reference` from the declarations in `sgctl/api/commands`; a test holds it to them.
Requests go to `/client/api`, by GET or POST, signed as CloudStack's are. **Bold** parameters are required, those marked
with † are for root admins. Each command answers `{"<command in lower case>response": {…}}`, what is *async* by a job
whose result `queryAsyncJobResult` tells.
"""
_BARE = {
    "createBarrier": "`hosts`, `milliseconds`, `slowest`",
    "queryAsyncJobResult": "the job itself",
}
"""What is answered where neither an object nor success is."""
_KINDS = {Mode.SYNC: "", Mode.ASYNC: ", async", Mode.ASYNC_CREATE: ", async, with the new object's id at once"}


def reference() -> str:
    """All of it, as Markdown."""
    return "\n".join([_HEAD, *(line for command in catalogue() for line in _command(command))])


def _command(command: Command) -> Iterator[str]:
    who = "Root admins" if command.admin else "Everybody"
    yield f"## {command.name}"
    yield ""
    yield f"{command.description} *{who}{_KINDS[command.mode]}; answer: {_answer(command)}*"
    yield ""
    if command.params:
        yield "| parameter | type | |"
        yield "|---|---|---|"
        yield from (_param(param) for param in command.params)
        yield ""


def _answer(command: Command) -> str:
    plural = "[]" if command.name.startswith("list") and command.name != "listCapabilities" else ""
    return f"`{command.answer}{plural}`" if command.answer else _BARE.get(command.name, "success")


def _param(param: Param) -> str:
    name = f"**{param.name}**" if param.required else param.name
    return f"| {name}{' †' if param.admin else ''} | {param.kind} | {param.description} |"


if __name__ == "__main__":
    sys.stdout.write(reference())
