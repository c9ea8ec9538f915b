# SPDX-License-Identifier: Apache-2.0
"""The API: CloudStack's query API for a security-group fabric, over the SG database.

Read `command` (what a command is), one of `commands` (such as `groups`), `execute` (how it runs), `webapp` (how it is
reached). Of all this only `app` needs os-ken, which is why the application is looked up when somebody asks for it.
"""

from typing import Any

_APPLICATION = "ApiApp"


def __getattr__(name: str) -> Any:
    if name != _APPLICATION:
        raise AttributeError(name)
    from sgctl.api.app import ApiApp

    return ApiApp


def __dir__() -> list[str]:
    return [*globals(), _APPLICATION]
