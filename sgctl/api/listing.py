# SPDX-License-Identifier: Apache-2.0
"""Pages of lists, as CloudStack cuts them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from sgctl.api.command import Call, Object, Page
from sgctl.api.errors import invalid
from sgctl.model import Record

T = TypeVar("T", bound=Record)

MAX_PAGE = 500
_BREATH = 200


def breathing(rows: Iterable[T]) -> Iterator[T]:
    """The same rows; now and then others of this process, perhaps an agent, get their turn."""
    for number, row in enumerate(rows, 1):
        if number % _BREATH == 0:
            time.sleep(0)
        yield row


def page(call: Call, rows: Iterable[T], view: Callable[[T], Object | str]) -> Page:
    """The page of `rows` that the call asks for, in the order in which they were made, or of their names."""
    start, end = bounds(call)
    ordered = sorted(rows, key=_order)
    return Page(len(ordered), [view(row) for row in breathing(ordered[start:end])])


def objects(call: Call, items: list[Object]) -> Page:
    """A page of objects that are no rows."""
    start, end = bounds(call)
    return Page(len(items), items[start:end])


def bounds(call: Call) -> tuple[int, int | None]:
    """From which object to which (exclusive, None: to the end) the page goes."""
    number, size = call.args.integer("page"), call.args.integer("pagesize")
    if number is None and size is None:
        return 0, MAX_PAGE
    if number is None and size == -1:
        return 0, None
    if number is None:
        raise invalid('"page" parameter is required when "pagesize" is specified')
    if size is None:
        raise invalid('"pagesize" parameter is required when "page" is specified')
    if number < 1 or not 1 <= size <= MAX_PAGE:
        raise invalid(f"page must be at least 1 and pagesize between 1 and {MAX_PAGE}")
    return (number - 1) * size, number * size


def mentions(call: Call, *values: str) -> bool:
    """Whether the call's keyword is in one of `values`, whatever the case; without keyword it is."""
    keyword = call.args.text("keyword").casefold()
    return not keyword or any(keyword in value.casefold() for value in values)


def selected(call: Call, **values: str) -> bool:
    """Whether each of `values` is what the parameter of that name asks for, if given; ids, names and states."""
    for name, value in values.items():
        asked = call.args.text(name)
        if asked and asked.casefold() != value.casefold():
            return False
    return True


def _order(row: Record) -> tuple[int, str, str]:
    return getattr(row, "created", 0), getattr(row, "name", ""), row.id
