# SPDX-License-Identifier: Apache-2.0
"""What one run of the command works with: the line that was typed, the environment, and the two streams."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TextIO

from sgctl.cli.access import TIMEOUT, Access, resolve_access
from sgctl.cli.arguments import Invocation
from sgctl.cli.blocks import Block
from sgctl.cli.catalogue import Directory, cache_path
from sgctl.cli.client import ApiClient
from sgctl.cli.screen import as_json, as_yaml, drawn

PATIENCE = 0.3
"""Seconds that may pass before progress is shown."""


@dataclass(frozen=True)
class Session:
    """The command's surroundings; results go to `out`, everything else to `err`."""

    invocation: Invocation
    environ: Mapping[str, str]
    out: TextIO
    err: TextIO

    @cached_property
    def access(self) -> Access:
        """Endpoint and keys, with the times of the command line."""
        line = self.invocation
        access = resolve_access(self.environ, config=line.config, profile=line.profile)
        return replace(
            access, timeout=line.timeout or access.timeout, job_timeout=line.job_timeout or access.job_timeout
        )

    @cached_property
    def client(self) -> ApiClient:
        """The API."""
        return ApiClient(self.access)

    @cached_property
    def directory(self) -> Directory:
        """The commands of the API."""
        return Directory(self.client, cache_path(self.environ, self.access))

    @property
    def timeout(self) -> float:
        """Seconds to wait for an answer where no keys are needed."""
        return self.invocation.timeout or TIMEOUT

    def show(self, value: Mapping[str, Any], blocks: Callable[[], Sequence[Block]]) -> None:
        """Print `value` as JSON or YAML, or the `blocks` it is laid out as."""
        if self.invocation.output == "json":
            self.out.write(as_json(value, self.out))
        elif self.invocation.output == "yaml":
            self.out.write(as_yaml(value, self.out))
        else:
            self.out.write(drawn(blocks(), self.out))

    def note(self, text: str) -> None:
        """Tell something that is not part of the result."""
        self.err.write(f"{text}\n")


class Progress:
    """How long a job has been running, on one line of a terminal; nothing elsewhere."""

    def __init__(self, stream: TextIO, what: str) -> None:
        self._stream = stream
        self._what = what
        self._shown = False

    def __call__(self, passed: float) -> None:
        """Show that `passed` seconds have gone."""
        if passed >= PATIENCE and self._stream.isatty():
            self._shown = True
            frame = "|/-\\"[int(time.monotonic() * 4) % 4]
            self._stream.write(f"\r\x1b[K{frame} {self._what} ({passed:.0f} s)")
            self._stream.flush()

    def clear(self) -> None:
        """Leave the line empty."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
