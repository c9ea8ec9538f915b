# SPDX-License-Identifier: Apache-2.0
"""Puts results on a stream: blocks drawn by `rich`, JSON, YAML.

On a terminal tables have lines and colours and keep to its width. Elsewhere they are bare columns of any width and
every row is one line, so that nothing is hidden from `grep` and `awk`.
"""

import io
import json
import os
from collections.abc import Sequence
from typing import Any, TextIO

from sgctl.cli.blocks import Block, Fields, Table, Text, visible

_UNLIMITED = 1_000_000
_GAP = 2
_FOLDED = ("match", "actions")
"""Columns that may be folded although their cells have no spaces."""
_LEAST_FOLDED = 24
_DISPENSABLE = ("id", "cookie")
"""Columns that a terminal too narrow goes without."""
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
    if all(isinstance(block, Text) for block in blocks):
        parts = [visible(block.text) for block in blocks if isinstance(block, Text)]
    elif stream.isatty():
        width = _width(stream)
        parts = [_rendered(part, stream, width) for block in blocks for part in _fitting(block, width)]
    else:
        parts = [_rendered(_one_line_each(block), stream, _UNLIMITED) for block in blocks]
    return "\n\n".join(parts) + "\n" if parts else ""


def _one_line_each(block: Block) -> Block:
    if isinstance(block, Fields):
        return Fields(tuple((name, _one_line(value)) for name, value in block.pairs))
    if isinstance(block, Table):
        return Table(block.columns, tuple(tuple(map(_one_line, row)) for row in block.rows), block.title)
    return block


def _one_line(text: str) -> str:
    return text.replace("\n", "; " if " " in text else ",")


def _width(stream: TextIO) -> int:
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return columns or 80


def _fitting(block: Block, width: int) -> list[Block]:
    """`block` so that it can be read within `width`: a table too wide does without its ids, or becomes records."""
    if not isinstance(block, Table) or _least_width(block) <= width:
        return [block]
    dropped = [name for name in _DISPENSABLE if name in block.columns]
    narrow = _without(block, dropped)
    if dropped and _least_width(narrow) <= width:
        return [narrow, Text(f"({', '.join(dropped)} left out to fit; -o json shows all, filter=NAME,... a choice)")]
    title: list[Block] = [Text(block.title)] if block.title else []
    return title + [Fields(tuple(zip(block.columns, row, strict=True))) for row in block.rows]


def _least_width(block: Table) -> int:
    return sum(_least_widths(block)) + _GAP * (len(block.columns) - 1)


def _least_widths(block: Table) -> list[int]:
    """How narrow each column may become: words and flows may be folded, names and numbers not."""
    least = []
    for index, (name, width) in enumerate(zip(block.columns, _full_widths(block), strict=True)):
        loose = name in _FOLDED or any(" " in row[index] for row in block.rows)
        least.append(min(width, _LEAST_FOLDED) if loose else width)
    return least


def _full_widths(block: Table) -> list[int]:
    from rich.cells import cell_len

    columns = zip(block.columns, *block.rows, strict=True)
    return [max(cell_len(line) for cell in cells for line in visible(cell).split("\n")) for cells in columns]


def _widths(block: Table, width: int) -> list[int]:
    """The columns' widths on a line of `width`: the widest become narrower, none than it may.

    rich would narrow columns that may not be, let them grow back, and cut off what then does not fit the line.
    """
    widths = _full_widths(block)
    excess = sum(widths) + _GAP * (len(widths) - 1) - width
    least = _least_widths(block) if excess > 0 else []
    for _ in range(excess):
        wide = [index for index, full in enumerate(widths) if full > least[index]]
        if not wide:
            break
        widths[max(wide, key=widths.__getitem__)] -= 1
    return widths


def _without(block: Table, names: Sequence[str]) -> Table:
    kept = [index for index, name in enumerate(block.columns) if name not in names]
    rows = tuple(tuple(row[index] for index in kept) for row in block.rows)
    return Table(tuple(block.columns[index] for index in kept), rows, block.title)


def _rendered(block: Block, stream: TextIO, width: int) -> str:
    from rich import console

    terminal = stream.isatty()
    target = console.Console(
        file=io.StringIO(),
        force_terminal=terminal,
        width=width,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
    )
    with target.capture() as capture:
        if isinstance(block, Text):
            target.print(visible(block.text), soft_wrap=True)
        elif isinstance(block, Fields):
            target.print(_rich_fields(block))
        else:
            if block.title:
                target.print(visible(block.title), style="bold", soft_wrap=True)
            target.print(_rich_table(block, width, lines=terminal and _is_unicode(stream)))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _rich_fields(block: Fields) -> Any:
    from rich import table

    result = table.Table(box=None, show_header=False, pad_edge=False, padding=(0, _GAP, 0, 0))
    result.add_column(style="bold", no_wrap=True)
    result.add_column(overflow="fold")
    for name, value in block.pairs:
        result.add_row(_cell(name), _cell(value))
    return result


def _rich_table(block: Table, width: int, *, lines: bool) -> Any:
    from rich import box, table

    result = table.Table(
        header_style="bold",
        box=box.SIMPLE_HEAD if lines else None,
        show_edge=False,
        pad_edge=False,
        padding=(0, _GAP - 1 if lines else _GAP, 0, 0),
        show_lines=lines and len(block.rows) > 1 and any("\n" in cell for row in block.rows for cell in row),
    )
    for name, own in zip(block.columns, _widths(block, width), strict=True):
        result.add_column(name, overflow="fold", width=own)
    for row in block.rows:
        result.add_row(*(_cell(cell) for cell in row))
    return result


def _cell(text: str) -> Any:
    from rich.text import Text as RichText

    return RichText(visible(text), style=_COLOUR_OF.get(text, ""))
