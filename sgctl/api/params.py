# SPDX-License-Identifier: Apache-2.0
"""Parameters of commands: their declarations, and typed values from what a client sent."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from sgctl.api.errors import Code, EarlyError, absent

Entry: TypeAlias = dict[str, str]
Value: TypeAlias = str | int | bool | list[str | Entry]

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_ENTRY = re.compile(r"(?P<name>[^\[\]]+)\[(?P<index>[0-9]{1,9})\]\.?(?P<key>[^\[\]]+)", re.ASCII)
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
MAX_TEXT = 255


class Kind(StrEnum):
    """The types of parameters, by the names that listApis gives them."""

    TEXT = "string"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    ID = "uuid"
    LIST = "list"
    MAP = "map"


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter: `admin` ones do not exist for users.  `ids`: the items of a list are ids."""

    name: str
    kind: Kind
    description: str
    required: bool = False
    admin: bool = False
    length: int = MAX_TEXT
    ids: bool = False


def text(name: str, description: str, *, required: bool = False, admin: bool = False, length: int = MAX_TEXT) -> Param:
    """A string of at most `length` characters."""
    return Param(name, Kind.TEXT, description, required, admin, length)


def integer(name: str, description: str, *, required: bool = False) -> Param:
    """A whole number."""
    return Param(name, Kind.INTEGER, description, required)


def boolean(name: str, description: str, *, admin: bool = False) -> Param:
    """``true`` or ``false``."""
    return Param(name, Kind.BOOLEAN, description, admin=admin)


def ident(name: str, description: str, *, required: bool = False, admin: bool = False) -> Param:
    """The id of an object."""
    return Param(name, Kind.ID, description, required, admin)


def texts(name: str, description: str) -> Param:
    """Strings, separated by commas."""
    return Param(name, Kind.LIST, description)


def idents(name: str, description: str) -> Param:
    """Ids, separated by commas."""
    return Param(name, Kind.LIST, description, ids=True)


def table(name: str, description: str) -> Param:
    """Entries ``name[0].key=value``; as an extension also, or instead, a plain list."""
    return Param(name, Kind.MAP, description)


class Args:
    """The values of a command's parameters; an empty value counts as not given."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str, default: str = "") -> str:
        """A string or an id."""
        value = self._values.get(name, default)
        return value if isinstance(value, str) else default

    def integer(self, name: str) -> int | None:
        """A number, None if not given."""
        value = self._values.get(name)
        return value if isinstance(value, int) else None

    def flag(self, name: str, default: bool = False) -> bool:
        """A truth value."""
        value = self._values.get(name, default)
        return value if isinstance(value, bool) else default

    def texts(self, name: str) -> list[str]:
        """The items of a list, or the plain ones of a map, without repetitions."""
        value = self._values.get(name, [])
        items = value if isinstance(value, list) else []
        return list(dict.fromkeys(item for item in items if isinstance(item, str)))

    def entries(self, name: str) -> list[Entry]:
        """The entries of a map, in the order of their indexes."""
        value = self._values.get(name, [])
        items = value if isinstance(value, list) else []
        return [item for item in items if isinstance(item, dict)]


def parse(params: Iterable[Param], given: Mapping[str, str], *, command: str, admin: bool) -> Args:
    """The values of `params` in `given` (lower-case names); others are ignored, as CloudStack does."""
    maps = _maps(given)
    values: dict[str, Value] = {}
    for param in params:
        if param.admin and not admin:
            continue
        value = given.get(param.name, "").strip()
        entries = maps.get(param.name, {}) if param.kind is Kind.MAP else {}
        if entries:
            values[param.name] = [*_items(param, value), *(_entry(param, entries[index]) for index in sorted(entries))]
        elif value:
            values[param.name] = _value(param, value)
        elif param.required:
            name = command.lower()
            raise EarlyError(
                Code.PARAMETER, f"Unable to execute API command {name} due to missing parameter {param.name}"
            )
    return Args(values)


def _maps(given: Mapping[str, str]) -> dict[str, dict[int, Entry]]:
    maps: dict[str, dict[int, Entry]] = {}
    for name, value in given.items():
        if "[" not in name:
            continue
        found = _ENTRY.fullmatch(name)
        if not found:
            raise EarlyError(Code.MALFORMED, f"Unable to decode parameter {printable(name)}")
        entries = maps.setdefault(found["name"], {})
        entries.setdefault(int(found["index"]), {})[found["key"]] = value
    return maps


def _value(param: Param, value: str) -> Value:
    match param.kind:
        case Kind.INTEGER:
            return _integer(param, value)
        case Kind.BOOLEAN:
            return _boolean(param, value)
        case Kind.ID:
            return _id(param, value)
        case Kind.LIST | Kind.MAP:
            return list(_items(param, value))
        case _:
            return checked(param, value)


def _items(param: Param, value: str) -> Iterator[str]:
    for item in filter(None, map(str.strip, value.split(","))):
        yield _id(param, item) if param.ids else checked(param, item)


def _entry(param: Param, entry: Entry) -> Entry:
    return {key: checked(param, value.strip()) for key, value in entry.items()}


def _integer(param: Param, value: str) -> int:
    if not _INTEGER.fullmatch(value):
        raise _bad(param, f"{printable(value)} is no whole number")
    return int(value)


def _boolean(param: Param, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise _bad(param, f"{printable(value)} is neither true nor false")
    return value.lower() == "true"


def _id(param: Param, value: str) -> str:
    try:
        return str(UUID(value))
    except ValueError:
        raise absent(param.name, printable(value)) from None


def checked(param: Param, value: str) -> str:
    """`value` if it is not too long and has no characters that would damage a log line or a file."""
    if len(value) > param.length:
        raise _bad(param, f"it has more than {param.length} characters")
    if not value.isascii() or not value.isprintable():
        bad = next((char for char in value if unicodedata.category(char) in _UNPRINTABLE), None)
        if bad is not None:
            raise _bad(param, f"it contains the character U+{ord(bad):04X}")
    return value


def _bad(param: Param, why: str) -> EarlyError:
    return EarlyError(Code.PARAMETER, f"Invalid parameter {param.name}: {why}")


def printable(value: str, *, length: int = 80) -> str:
    """What may be shown of a value that was not checked: its beginning, in printable ASCII."""
    return value[:length].encode("ascii", "backslashreplace").decode("ascii").translate(_CONTROLS)


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127)}
