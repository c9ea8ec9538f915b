# SPDX-License-Identifier: Apache-2.0
"""Reading the command line and configuration files strictly: oslo.config ignores keys that no option has."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path

from oslo_config import cfg

from sgctl.errors import SgctlError

PROJECT = "sgctl"
_OPTION = re.compile(r"--[a-z0-9_]+")
_VALUE = re.compile(r"argument (--[a-z0-9-]+): Invalid (\w+)(.*) value: (.*)")
_CHOICES = re.compile(r"\(choices=\[(.*)\]\)")
_KINDS = {"Integer": "whole number", "Port": "whole number", "Boolean": "true or false"}


class OptionError(SgctlError):
    """An option that cannot be right."""


def read(conf: cfg.ConfigOpts, arguments: Sequence[str], program: str, files: Sequence[str] | None = None) -> None:
    """Give the options of `conf` their values; `files`: configuration files if the command line names none.

    Raises OptionError; --help and --version end the process, as an option that there is not does (with a status that
    is not 0).
    """
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            conf(
                args=list(arguments), project=PROJECT, prog=program, version=f"{program} {version(PROJECT)}",
                default_config_files=files,
            )  # fmt: skip
    except (cfg.Error, ValueError) as error:
        raise OptionError(str(error)) from error
    except SystemExit:
        said = _named(complaint.getvalue())
        _raise_of_value(said, arguments)
        sys.stderr.write(said)
        raise
    sys.stderr.write(_named(complaint.getvalue()))


def _named(said: str) -> str:
    """oslo.config names options as configuration files do."""
    return _OPTION.sub(lambda found: found[0].replace("_", "-"), said)


def _raise_of_value(said: str, arguments: Sequence[str]) -> None:
    """Raise OptionError if oslo.config has found that a value cannot be; it calls all of them arguments."""
    if found := _VALUE.fullmatch(said.strip()):
        option, kind, bounds, value = found.groups()
        typed = value in arguments or f"{option}={value}" in arguments
        where = "" if typed else ": see the configuration file"
        if choices := _CHOICES.fullmatch(bounds):
            raise OptionError(f"{value!r} is none of {choices[1]}{where}")
        wanted = f"{_KINDS.get(kind, kind)} {bounds}".strip()
        raise OptionError(f"{option}: {value!r} is no {wanted}{where}")


def check_keys(conf: cfg.ConfigOpts) -> None:
    """Raise OptionError for the first key of a configuration file that is no option."""
    for path in _files(conf):
        sections: dict[str, dict[str, list[str]]] = {}
        cfg.ConfigParser(str(path), sections).parse()
        for section, keys in sections.items():
            known = _known(conf, section)
            for key in keys:
                if key not in known:
                    raise OptionError(f"{path}: there is no option {key} in [{section}]{_meant(key, known)}")


def _files(conf: cfg.ConfigOpts) -> Iterator[Path]:
    yield from map(Path, conf.config_file or ())
    for directory in conf.config_dirs or conf.default_config_dirs:
        yield from sorted(Path(directory).glob("*.conf"))


def _known(conf: cfg.ConfigOpts, section: str) -> list[str]:
    if section == "DEFAULT":
        return list(conf)
    return list(conf[section]) if section in conf else []


def _meant(key: str, known: Sequence[str]) -> str:
    near = get_close_matches(key.replace("-", "_"), known, n=1)
    return f"; {near[0]} is one" if near else ""
