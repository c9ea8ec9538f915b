# SPDX-License-Identifier: Apache-2.0
"""Puts results on a stream: blocks drawn by `rich`, JSON, YAML.

On a terminal tables have lines and colours and keep to its width. Elsewhere they are bare columns of any width, so
that nothing is cut or folded away from `grep` and `awk`.
"""

import io
import json
import os
from collections.abc import Sequence
from typing import Any, TextIO

from sgctl.cli.blocks import Block, Fields, Table, Text, visible

_UNLIMITED = 1_000_000
_COLOURS = {
    "green": ("Running", "active", "Up", "Enabled", "enabled", "delivered"),
    "red": ("Error", "closed", "Down", "Disconnected", "dropped"),
    "yellow": ("Starting", "Stopping", "Migrating", "standby"),
}
_COLOUR_OF = {word: colour for colour, words in _COLOURS.items() for word in words}


def as_json(value: object, stream: TextIO) -> str:
    """Indented JSON; letters beyond ASCII stay themselves where `stream` can carry them."""
    return json.dumps(value, indent=2, ensure_ascii=not _is_unicode(stream)) + "\n"


def as_yaml(value: object, stream: TextIO) -> str:
    """YAML in block style, keys in the API's order."""
    import yaml

    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=_is_unicode(stream), default_flow_style=False)
    return str(text)


def _is_unicode(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().replace("-", "") == "utf8"


def drawn(blocks: Sequence[Block], stream: TextIO) -> str:
    """`blocks` as text for `stream`, an empty line between two of them."""
    if not any(isinstance(block, Table | Fields) for block in blocks):
        parts = [f"{visible(block.text)}\n" for block in blocks if isinstance(block, Text)]
    else:
        parts = [_drawn_block(block, stream) for block in blocks]
    return "\n".join(parts)


def _drawn_block(block: Block, stream: TextIO) -> str:
    from rich import console

    terminal = stream.isatty()
    target = console.Console(
        file=io.StringIO(),
        force_terminal=terminal,
        width=_width(stream) if terminal else _UNLIMITED,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
    )
    with target.capture() as capture:
        if isinstance(block, Text):
            target.print(visible(block.text), soft_wrap=True)
        else:
            target.print(_rich_table(block, lines=terminal and _is_unicode(stream)))
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def _width(stream: TextIO) -> int:
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return columns or 80


def _rich_table(block: Table | Fields, *, lines: bool) -> Any:
    from rich import box, table

    if isinstance(block, Fields):
        result = table.Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        result.add_column(style="bold", no_wrap=True)
        result.add_column(overflow="fold")
        rows: Sequence[tuple[str, ...]] = block.pairs
    else:
        multiline = any("\n" in cell for row in block.rows for cell in row)
        result = table.Table(
            title=block.title or None,
            title_justify="left",
            title_style="bold",
            header_style="bold",
            box=box.SIMPLE_HEAD if lines else None,
            pad_edge=False,
            padding=(0, 1) if lines else (0, 2, 0, 0),
            show_lines=lines and multiline and len(block.rows) > 1,
        )
        for name in block.columns:
            result.add_column(name, overflow="fold", no_wrap=name in ("id", "ruleid", "name", "state"))
        rows = block.rows
    for row in rows:
        result.add_row(*(_cell(cell) for cell in row))
    return result


def _cell(text: str) -> Any:
    from rich.text import Text as RichText

    return RichText(visible(text), style=_COLOUR_OF.get(text, ""))
