# SPDX-License-Identifier: Apache-2.0
"""The cloud's API as its users see it: an account's keys, signed calls, and the `sgctl` command line."""

import configparser
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devstack.lab.namespace import Namespace
from sgctl.cli.access import Access
from sgctl.cli.client import ApiClient, job_of

PROGRAMS = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the cloud and the machine (a namespace) from which it uses the API."""

    name: str
    access: Access
    desk: Namespace

    def call(self, command: str, **parameters: str) -> dict[str, Any]:
        """The answer's content, after the job if there is one; the client's ApiError if it is refused."""
        client = ApiClient(self.access)
        with self.desk.entered():
            answer = client.call(command, parameters)
            job = job_of(answer)
            return answer if job is None else client.result(job, lambda _: None)

    def all(self, command: str, key: str, **parameters: str) -> list[dict[str, Any]]:
        """The objects of a list command (up to 500, the default page)."""
        found = self.call(command, **parameters).get(key, [])
        return list(found)

    @property
    def environment(self) -> dict[str, str]:
        """What the `sgctl` command needs to act for this account."""
        access = self.access
        return {
            "CLOUDSTACK_ENDPOINT": access.endpoint, "CLOUDSTACK_KEY": access.key, "CLOUDSTACK_SECRET": access.secret,
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(self.desk.lab.directory / "cache"),
        }  # fmt: skip

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line as a user types it into a shell; status and what it said."""
        return subprocess.run(
            self.desk.command("sh", "-c", line), env={**os.environ, **self.environment}, check=False, timeout=60,
            capture_output=True, text=True,
        )  # fmt: skip


def first_admin(file: Path, desk: Namespace) -> Account:
    """The root admin of a new cloud, from the file that sgctl-manager has written."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(file.read_text())
    keys = parser["cloudstack"]
    return Account("admin", Access(keys["endpoint"], keys["key"], keys["secret"]), desk)
