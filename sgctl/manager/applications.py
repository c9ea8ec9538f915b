# SPDX-License-Identifier: Apache-2.0
"""Loading os-ken applications by the names of their modules."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from os_ken.base.app_manager import AppManager

from sgctl.errors import SgctlError


def check(names: Sequence[str]) -> None:
    """Raise SgctlError for a name that no module has."""
    for name in names:
        if not _exists(name):
            raise SgctlError(f"there is no module {name!r} to run")


def load(manager: AppManager, names: Sequence[str]) -> None:
    """Load applications and those that they need; raises SgctlError for a module that has none.

    Errors while a module is imported are its own and pass through.
    """
    manager.load_apps(list(names))
    for name in names:
        if name not in manager.applications_cls:
            raise SgctlError(f"the module {name!r} has no os-ken application")


def _exists(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):
        return False
