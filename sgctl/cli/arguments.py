# SPDX-License-Identifier: Apache-2.0
"""The grammar of the command line: options anywhere, then words, then ``key=value`` parameters."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from sgctl.cli.errors import UsageError

FORMATS = ("table", "json", "yaml")

DESCRIPTION = """\
sgctl VERB NOUN [key=value ...]     any command of the API, written as in CloudMonkey
sgctl flows [table=NAME]            the flows installed on a hypervisor, with owner and rule
sgctl ports                         its ports: NIC, VM, account, state, reason
sgctl ports --all                   the ports of the whole cloud: VM, account, host, state, reason
sgctl hosts                         the hypervisors: state, ports, last seen, how far behind
sgctl wait [key=value ...]          until all that was changed is active on the hypervisors, or on some
sgctl trace [key=value ...]         a packet through its flows, in words
sgctl explain COOKIE                what a flow's cookie stands for
sgctl drops                         why packets were dropped, and how many
sgctl costs                         which policies, rules and groups take the most flows
sgctl help [VERB [NOUN]]            what there is; the parameters of a command
sgctl completion bash|zsh           a completion script for the shell
"""

EPILOG = """\
examples:
  sgctl create securitygroup name=web
  sgctl authorize securitygroupingress securitygroupname=web account=operator \\
        usersecuritygrouplist=nagios,cacti protocol=tcp startport=12489
  sgctl list securitygroups securitygroupname=web      (a single group is shown with the ids of its rules)
  sgctl revoke securitygroupingress id=RULEID
  sgctl list virtualmachines filter=id,name -o json
  sgctl trace in_port=tap1 src=10.1.0.5 dst=10.1.0.6 proto=tcp dport=80

The endpoint and the keys come from CLOUDSTACK_ENDPOINT, CLOUDSTACK_KEY and CLOUDSTACK_SECRET, or from a file in the
format of the `cs` client: ~/.cloudstack.ini or --config FILE. sgctl-manager writes the first administrator's to
admin.ini in its state directory.
"""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One command line, taken apart but not yet understood."""

    words: tuple[str, ...] = ()
    params: dict[str, str] = field(default_factory=dict)
    output: str = "table"
    config: str | None = None
    profile: str | None = None
    timeout: float | None = None
    job_timeout: float | None = None
    wait: bool = True
    admin: str | None = None
    host: str | None = None
    all: bool = False
    version: bool = False
    help: bool = False


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are ours, to be reported like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting."""
        raise UsageError(f"{message} (see `sgctl --help`)")


def seconds(text: str) -> float:
    """A positive number of seconds."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def parser() -> argparse.ArgumentParser:
    """The options, all of which may stand anywhere on the line."""
    result = _Parser(
        prog="sgctl",
        usage="sgctl [options] VERB NOUN [key=value ...]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    add = result.add_argument
    add("words", nargs="*", help=argparse.SUPPRESS)
    add("-o", "--output", choices=FORMATS, default="table", metavar="FORMAT", help="table (default), json, yaml")
    add("--no-wait", dest="wait", action="store_false", help="print the id of a job, do not wait for its result")
    add("--config", metavar="FILE", help="read endpoint and keys from FILE, not from the environment")
    add("--profile", metavar="NAME", help="section of that file (default: CLOUDSTACK_REGION, else cloudstack)")
    add("--timeout", type=seconds, metavar="S", help="seconds to wait for an answer (default: 30)")
    add("--job-timeout", type=seconds, metavar="S", help="seconds to wait for a job (default: 600)")
    add("--admin", metavar="URL", help="admin endpoint of an agent (default: SGCTL_ADMIN, else http://127.0.0.1:8081)")
    add("--host", metavar="HOST[:PORT]", help="admin endpoint of the agent on HOST, by name or address")
    add("--all", action="store_true", help="with ports: those of the whole cloud, from the API")
    add("--table", metavar="NAME", help="with flows: this table only")
    add("--version", action="store_true", help="print the version")
    add("-h", "--help", action="store_true", help="print this help")
    return result


def split_words(arguments: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Command words and ``key=value`` parameters; words come first, a key comes once."""
    words: list[str] = []
    params: dict[str, str] = {}
    for argument in arguments:
        _check_text(argument)
        key, equals, value = argument.partition("=")
        if not equals and params:
            raise UsageError(f"{argument!r} after the first parameter is not of the form key=value")
        if not equals:
            words.append(argument)
        elif not key:
            raise UsageError(f"{argument!r} names no parameter before the =")
        elif key.lower() in (known.lower() for known in params):
            raise UsageError(f"parameter {key} is given twice")
        else:
            params[key] = value
    return tuple(words), params


def _check_text(argument: str) -> None:
    """Bytes that are no UTF-8 come from the shell as lone surrogates, and cannot be signed."""
    try:
        argument.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{argument!a} is not UTF-8 text") from error


def parse(argv: Sequence[str]) -> Invocation:
    """Take `argv` (without the program's name) apart; UsageError when it does not follow the grammar."""
    found = vars(parser().parse_intermixed_args(list(argv)))
    words, params = split_words(found.pop("words"))
    table = found.pop("table")
    if table is not None:
        if words != ("flows",):
            raise UsageError("--table goes with `sgctl flows`")
        params["table"] = table
    return Invocation(words=words, params=params, **found)
