# SPDX-License-Identifier: Apache-2.0
"""Entry point of `sgctl`: which part of the command a line is for, and how it ends.

Exit status: 0 done, 1 the call failed, 2 the command line is wrong, 130 interrupted, 141 the reader went away.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from sgctl.cli import admin, calls, cloud, completion, guide
from sgctl.cli.arguments import Invocation, parse, parser
from sgctl.cli.blocks import visible
from sgctl.cli.errors import CliError, UsageError
from sgctl.cli.session import Session

INTERRUPTED = 130
BROKEN_PIPE = 141


def main() -> int:
    """Run the process's own command line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    return run(sys.argv[1:], os.environ, sys.stdout, sys.stderr)


def run(argv: Sequence[str], environ: Mapping[str, str], out: TextIO, err: TextIO) -> int:
    """Run `argv` (without the program's name); the exit status."""
    try:
        _dispatch(argv, environ, out, err)
        out.flush()
    except CliError as error:
        print(f"sgctl: {visible(str(error))}", file=err)
        return error.status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _discard(out)
        return BROKEN_PIPE
    return 0


def _dispatch(argv: Sequence[str], environ: Mapping[str, str], out: TextIO, err: TextIO) -> None:
    if argv[:1] == ["__complete"]:
        completion.complete(Session(Invocation(), environ, out, err), " ".join(argv[1:]))
        return
    line = parse(argv)
    session = Session(line, environ, out, err)
    first, rest = line.words[:1], line.words[1:]
    if line.version:
        out.write(f"sgctl {_version()}\n")
    elif line.help and not line.words:
        out.write(parser().format_help())
    elif line.help:
        guide.run(session, line.words)
    elif not first:
        raise UsageError("no command given; `sgctl --help` shows how to go on")
    elif first == ("help",):
        guide.run(session, rest)
    elif first == ("completion",):
        completion.script(session, rest)
    elif cloud.asked(session):
        cloud.run(session)
    elif line.all:
        raise UsageError("--all goes with `sgctl ports`")
    elif first[0] in admin.COMMANDS:
        admin.run(session)
    else:
        calls.run(session)


def _version() -> str:
    from importlib.metadata import version

    return version("sgctl")


def _discard(out: TextIO) -> None:
    """What is still buffered for a reader that has gone: Python would complain about it at exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
    except (OSError, ValueError):
        return


if __name__ == "__main__":
    sys.exit(main())
