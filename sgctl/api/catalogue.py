# SPDX-License-Identifier: Apache-2.0
"""All commands there are: whatever the modules of `sgctl.api.commands` declare."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from sgctl.api import commands
from sgctl.api.command import Command


@cache
def catalogue() -> tuple[Command, ...]:
    """The commands by name."""
    return tuple(sorted(_declared(), key=lambda command: command.name))


def _declared() -> Iterator[Command]:
    for module in iter_modules(commands.__path__):
        for value in vars(import_module(f"{commands.__name__}.{module.name}")).values():
            if isinstance(value, Command):
                yield value
