# SPDX-License-Identifier: Apache-2.0
"""Shell completion: scripts for bash and zsh that hand the line to ``sgctl __complete``, and its answers."""

import shlex
from collections.abc import Iterable
from dataclasses import replace

from sgctl.cli import admin, cloud
from sgctl.cli.arguments import FORMATS
from sgctl.cli.catalogue import BUILT_IN, Catalogue, Command
from sgctl.cli.errors import CliError, UsageError
from sgctl.cli.guide import OWN
from sgctl.cli.session import Session

PATIENCE = 2.0
"""Seconds that a line being typed may wait for the API, once per endpoint."""

_BASH = r"""# bash completion of sgctl: source <(sgctl completion bash)
_sgctl() {
    local line=${COMP_LINE:0:COMP_POINT}
    local word=${line##*[[:space:]]}
    mapfile -t COMPREPLY < <(sgctl __complete "$line" 2>/dev/null)
    # bash begins a new word after each = and completes only what follows it
    if [[ $word == *=* && $COMP_WORDBREAKS == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*=}"}"}")
    fi
    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
    return 0
}
complete -o default -F _sgctl sgctl
"""

_ZSH = r"""# zsh completion of sgctl: source <(sgctl completion zsh), after compinit
_sgctl() {
    local -a found keys
    found=("${(@f)$(sgctl __complete "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    keys=(${(M)found:#*=})
    found=(${found:#*=})
    (( $#keys )) && compadd -S '' -- $keys
    (( $#found )) && compadd -- $found
}
compdef _sgctl sgctl
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH}

_OPTIONS = (
    "--output", "--no-wait", "--config", "--profile", "--timeout", "--job-timeout", "--admin", "--host", "--all",
    "--table", "--version", "--help",
)  # fmt: skip
_VALUED = ("-o", "--output", "--config", "--profile", "--timeout", "--job-timeout", "--admin", "--host", "--table")
_PROTOCOLS = ("all", "ah", "esp", "gre", "icmp", "sctp", "tcp", "udp")
_VALUES = {
    "protocol": _PROTOCOLS,
    "proto": ("arp", "icmp", "icmp6", "nd", "sctp", "tcp", "udp"),
    "state": ("established", "new", "reply"),
    "networktype": ("Basic",),
    "templatefilter": ("all", "executable", "featured", "self"),
}


def script(session: Session, words: tuple[str, ...]) -> None:
    """Print the script for the shell that `words` name."""
    if len(words) != 1 or words[0] not in SCRIPTS:
        raise UsageError("usage: sgctl completion bash|zsh")
    session.out.write(SCRIPTS[words[0]])


def complete(session: Session, line: str) -> None:
    """Print what may stand at the end of `line`, one per output line."""
    *before, current = _split(line)
    for candidate in candidates(session, before[1:], current):
        session.out.write(f"{candidate}\n")


def _split(line: str) -> list[str]:
    """The words of an unfinished line; the last is the one being typed, perhaps empty."""
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    return [*words, ""] if not words or line[-1:].isspace() else words


def candidates(session: Session, before: list[str], current: str) -> list[str]:
    """What may follow `before` and begins with `current`."""
    if before and before[-1] in ("-o", "--output"):
        return _beginning(FORMATS, current)
    if before and before[-1] in _VALUED:
        return []
    if current.startswith("-"):
        return _beginning(_OPTIONS, current)
    words, given = _positional(before)
    return _beginning(_next(session, words, given, current), current)


def _positional(before: list[str]) -> tuple[list[str], set[str]]:
    """The command's words and the names of its parameters among what was typed."""
    words: list[str] = []
    given: set[str] = set()
    for previous, word in zip(["", *before], before, strict=False):
        if word.startswith("-") or previous in _VALUED:
            continue
        if "=" in word:
            given.add(word.partition("=")[0].lower())
        else:
            words.append(word)
    return words, given


def _next(session: Session, words: list[str], given: set[str], current: str) -> Iterable[str]:
    if words[:1] == ["completion"]:
        return SCRIPTS
    if words[:1] and words[0] in OWN and words[0] != "help":
        keys = {"trace": admin.TRACE_KEYS, "flows": ("table",), **cloud.KEYS}
        return _keys_or_values(keys.get(words[0], ()), given, current)
    catalogue = _catalogue(session)
    if words[:1] == ["help"]:
        words = words[1:]
        return _nouns(catalogue, words) if words else [*OWN, *catalogue.verbs()]
    if not words:
        return [*OWN, *catalogue.verbs()]
    command = catalogue.find(words)
    if command is None or (len(words) == 1 and command.noun):
        return _nouns(catalogue, words)
    return _of_command(command, given, current)


def _nouns(catalogue: Catalogue, words: list[str]) -> list[str]:
    return [command.noun for command in catalogue.of_verb(words[0]) if command.noun] if len(words) == 1 else []


def _of_command(command: Command, given: set[str], current: str) -> list[str]:
    booleans = {param.name for param in command.params if param.type == "boolean"}
    name = current.partition("=")[0]
    if "=" in current and name in booleans:
        return [f"{name}=true", f"{name}=false"]
    names = [param.name for param in sorted(command.params, key=lambda param: (not param.required, param.name))]
    return _keys_or_values([*names, "filter"], given, current)


def _keys_or_values(names: Iterable[str], given: set[str], current: str) -> list[str]:
    name, equals, _ = current.partition("=")
    if equals:
        return [f"{name}={value}" for value in _VALUES.get(name, ())]
    return [f"{other}=" for other in names if other.lower() not in given]


def _beginning(values: Iterable[str], current: str) -> list[str]:
    return [value for value in values if value.startswith(current)]


def _catalogue(session: Session) -> Catalogue:
    """The commands, without a wait that the typist would notice more than once."""
    try:
        quick = replace(session.invocation, timeout=PATIENCE)
        return replace(session, invocation=quick).directory.remembered()
    except CliError:
        return BUILT_IN
