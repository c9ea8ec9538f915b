# SPDX-License-Identifier: Apache-2.0
"""Where the API is and with whose keys it is called: environment, then a file in the `cs` client's format."""

import configparser
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from sgctl.cli.errors import CliError

HOME_FILE = "~/.cloudstack.ini"
TIMEOUT, JOB_TIMEOUT = 30.0, 600.0
"""Seconds to wait for an answer, and for a job's result."""
EXAMPLE = "http://127.0.0.1:8080/client/api"


@dataclass(frozen=True, slots=True)
class Access:
    """An endpoint and the keys for it; the secret stays out of the repr. Times are in seconds."""

    endpoint: str
    key: str
    secret: str = field(repr=False)
    timeout: float = TIMEOUT
    job_timeout: float = JOB_TIMEOUT
    verify: str = "true"
    """TLS: "true", "false", or the path of a file of trusted certificates."""
    source: str = "the environment"
    """Where the keys were found, for messages."""


@dataclass(frozen=True, slots=True)
class _Source:
    """One place that settings come from."""

    name: str
    values: Mapping[str, str]


def resolve_access(environ: Mapping[str, str], *, config: str | None = None, profile: str | None = None) -> Access:
    """The access that `environ` and the files give.

    What was asked for on the command line (`config`, `profile`) goes before the environment, the file in the home
    directory after it. Key and secret are always taken from the same place, so that they belong together.
    """
    section = profile or environ.get("CLOUDSTACK_REGION") or "cloudstack"
    explicit = config is not None or profile is not None
    environment = _Source("the environment", _from_environment(environ))
    complete = {"endpoint", "key", "secret"} <= environment.values.keys()
    sources = [environment]
    if explicit or not complete:
        path = Path(config or environ.get("CLOUDSTACK_CONFIG") or HOME_FILE).expanduser()
        file = _from_file(path, section, needed=explicit or "CLOUDSTACK_CONFIG" in environ)
        sources = [file, environment] if explicit else [environment, file]
    return _combine(sources)


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    names = ("endpoint", "key", "secret", "timeout", "job_timeout", "verify")
    return {name: value for name in names if (value := environ.get(f"CLOUDSTACK_{name.upper()}", "").strip())}


def _from_file(path: Path, section: str, *, needed: bool) -> _Source:
    """The section of the file; an absent file is an error only if it was `needed`."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"), source=str(path))
    except FileNotFoundError as error:
        if needed:
            raise CliError(f"cannot read {path}: there is no such file") from error
        return _Source(str(path), {})
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}") from error
    except configparser.Error as error:
        raise CliError(f"cannot read {path}: line {_line(error)} is not of the form name = value") from error
    if not parser.has_section(section):
        known = ", ".join(parser.sections()) or "none"
        raise CliError(f"{path} has no section [{section}]; its sections: {known}")
    return _Source(f"{path} [{section}]", {name: value for name, value in parser[section].items() if value})


def _line(error: configparser.Error) -> int:
    """The line of a syntax error; the error's own text would quote the line, and with it perhaps a secret."""
    if errors := getattr(error, "errors", None):
        return int(errors[0][0])
    return int(getattr(error, "lineno", None) or 1)


def _combine(sources: list[_Source]) -> Access:
    keys = next((source for source in sources if "key" in source.values or "secret" in source.values), None)
    endpoint = _first(sources, "endpoint")
    if endpoint is None:
        raise CliError(
            f"no endpoint: set CLOUDSTACK_ENDPOINT (such as {EXAMPLE}), or write `endpoint = {EXAMPLE}` "
            f"to {_file_of(sources)}, or name another file with --config"
        )
    for name in ("key", "secret"):
        if keys is None or name not in keys.values:
            where = keys.name if keys else _file_of(sources)
            raise CliError(f"no {name} for {endpoint}: set CLOUDSTACK_{name.upper()} or `{name} =` in {where}")
    assert keys is not None
    return Access(
        endpoint=_checked_url(endpoint),
        key=keys.values["key"],
        secret=keys.values["secret"],
        timeout=_seconds(_first(sources, "timeout"), "timeout", TIMEOUT),
        job_timeout=_seconds(_first(sources, "job_timeout"), "job_timeout", JOB_TIMEOUT),
        verify=_first(sources, "verify") or "true",
        source=keys.name,
    )


def _first(sources: list[_Source], name: str) -> str | None:
    return next((source.values[name] for source in sources if name in source.values), None)


def _file_of(sources: list[_Source]) -> str:
    """The file among the sources, as the user may be told to write to it."""
    return next((source.name for source in sources if source.name != "the environment"), HOME_FILE)


def _checked_url(text: str) -> str:
    try:
        url = urlsplit(text)
        valid = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        valid = False
    if not valid or not text.isascii() or any(character.isspace() for character in text):
        raise CliError(f"endpoint {text!r} is not an http or https URL such as {EXAMPLE}")
    return text


def _seconds(text: str | None, name: str, default: float) -> float:
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise CliError(f"{name} {text!r} is not a positive number of seconds")
    return value
