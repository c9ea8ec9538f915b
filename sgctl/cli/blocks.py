# SPDX-License-Identifier: Apache-2.0
"""What a result is laid out as before anything draws it: tables, fields of one object, lines of text."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under column heads; cells may have several lines."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Fields:
    """One object: names and values."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Text:
    """Lines as they are."""

    text: str


Block = Table | Fields | Text


def visible(text: str) -> str:
    """`text` with control characters but newlines made visible: what comes from afar must not steer the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)
