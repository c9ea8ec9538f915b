# SPDX-License-Identifier: Apache-2.0
"""Which commands the API has: its own listApis, remembered per endpoint and key.

Command names are case-sensitive on the wire while people type lower-case words, so the catalogue maps one to the
other. It also knows the parameters: the API ignores those it does not know, and a misspelt ``protocol=`` would open
every protocol.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sgctl.cli.access import Access
from sgctl.cli.client import ApiClient
from sgctl.cli.errors import CliError, Unreachable, UsageError
from sgctl.cli.known import KNOWN

_VERB = re.compile(r"[a-z]+")


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a command, as listApis describes it."""

    name: str
    description: str = ""
    type: str = "string"
    required: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the API; without `params` they are not known."""

    name: str
    description: str = ""
    isasync: bool = False
    params: tuple[Param, ...] = ()

    @property
    def verb(self) -> str:
        """The first word that people type."""
        found = _VERB.match(self.name)
        return found.group() if found else self.name

    @property
    def noun(self) -> str:
        """The second word."""
        return self.name[len(self.verb) :].lower()

    @property
    def spelling(self) -> str:
        """The command as it is typed."""
        return f"{self.verb} {self.noun}".strip()

    def unknown(self, params: Iterable[str]) -> list[str]:
        """Those of `params` that the command does not have; the index and key of a map entry do not count."""
        known = {param.name.lower() for param in self.params}
        return [name for name in params if known and name.partition("[")[0].lower() not in known]


class Catalogue:
    """Commands, found by the words that people type."""

    def __init__(self, commands: Iterable[Command]) -> None:
        self.commands = sorted(commands, key=lambda command: (command.verb, command.noun))
        self._by_name = {command.name.lower(): command for command in self.commands}

    def find(self, words: Iterable[str]) -> Command | None:
        """The command that `words` spell, in any case and however the noun is divided."""
        return self._by_name.get("".join(words).lower())

    def verbs(self) -> list[str]:
        """Every first word, once."""
        return sorted({command.verb for command in self.commands})

    def of_verb(self, verb: str) -> list[Command]:
        """The commands that begin with `verb`."""
        return [command for command in self.commands if command.verb == verb.lower()]

    def similar(self, words: Iterable[str]) -> list[Command]:
        """Commands that may have been meant by `words`."""
        names = get_close_matches("".join(words).lower(), self._by_name, n=3, cutoff=0.75)
        return [self._by_name[name] for name in names]


BUILT_IN = Catalogue(Command(name) for name in KNOWN)
"""What is assumed when the API does not tell."""


def cache_path(environ: Mapping[str, str], access: Access) -> Path:
    """The file for the commands of `access`; accounts may call different ones."""
    base = environ.get("XDG_CACHE_HOME") or os.path.join(environ.get("HOME") or "~", ".cache")
    digest = hashlib.sha256(f"{access.endpoint}\n{access.key}".encode()).hexdigest()
    return Path(base).expanduser() / "sgctl" / f"{digest[:16]}.json"


def load(path: Path) -> Catalogue | None:
    """What `save` wrote; None if there is nothing usable."""
    try:
        commands = json.loads(path.read_text(encoding="utf-8"))
        return Catalogue(_command(command) for command in commands)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def save(path: Path, catalogue: Catalogue) -> None:
    """Write the whole file or nothing; a cache that cannot be written is done without."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump([asdict(command) for command in catalogue.commands], file)
        os.replace(file.name, path)
    except OSError:
        return


def fetch(client: ApiClient) -> Catalogue:
    """What the API itself says it has for this account."""
    commands = client.call("listApis", {}).get("api")
    if not isinstance(commands, list) or not commands:
        raise CliError("the API lists no commands")
    try:
        return Catalogue(_command(command) for command in commands)
    except (TypeError, KeyError, AttributeError) as error:
        raise CliError("the API's listApis is not understood") from error


def _command(value: Mapping[str, Any]) -> Command:
    params = tuple(
        Param(
            name=str(param["name"]),
            description=str(param.get("description") or ""),
            type=str(param.get("type") or "string"),
            required=bool(param.get("required")),
        )
        for param in value.get("params") or ()
    )
    return Command(
        name=str(value["name"]),
        description=str(value.get("description") or ""),
        isasync=bool(value.get("isasync")),
        params=params,
    )


class Directory:
    """The catalogue of one endpoint: from the cache while that will do, else from the API."""

    def __init__(self, client: ApiClient, path: Path) -> None:
        self._client = client
        self._path = path

    def current(self) -> Catalogue:
        """The API's own; the remembered one or the built-in if it does not tell."""
        return self._fetch() or load(self._path) or BUILT_IN

    def remembered(self) -> Catalogue:
        """The remembered one; the API is asked only if there is none."""
        return load(self._path) or self._fetch() or BUILT_IN

    def resolve(self, words: tuple[str, ...], params: Iterable[str]) -> Command:
        """The command that `words` name and that has `params`; UsageError says what may have been meant.

        What the cache does not know is looked for in the API itself before it is called wrong: it may be newer.
        """
        remembered = load(self._path)
        command = remembered.find(words) if remembered else None
        if command and not command.unknown(params):
            return command
        catalogue = self._fetch() or remembered or BUILT_IN
        command = catalogue.find(words) or BUILT_IN.find(words)
        if command is None:
            raise UsageError(_no_command(words, catalogue))
        for name in command.unknown(params):
            raise UsageError(_no_param(name, command))
        return command

    def _fetch(self) -> Catalogue | None:
        """The API's own, remembered from now on; None if the API is there but does not tell."""
        try:
            catalogue = fetch(self._client)
        except Unreachable:
            raise
        except CliError:
            return None
        save(self._path, catalogue)
        return catalogue


def _no_command(words: tuple[str, ...], catalogue: Catalogue) -> str:
    verb = catalogue.of_verb(words[0])
    meant = [f"`{command.spelling}`" for command in catalogue.similar(words)]
    text = f"there is no command `{' '.join(words)}`"
    if meant:
        return f"{text}; did you mean {' or '.join(meant)}?"
    if verb:
        return f"{text}; `sgctl help {words[0].lower()}` lists what can follow"
    return f"{text}; `sgctl help` lists all"


def _no_param(name: str, command: Command) -> str:
    names = [param.name for param in command.params]
    meant = get_close_matches(name.lower(), names, n=1)
    hint = f"did you mean {meant[0]}?" if meant else f"`sgctl help {command.spelling}` lists them"
    return f"`{command.spelling}` has no parameter {name}; {hint}"
