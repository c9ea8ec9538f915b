# SPDX-License-Identifier: Apache-2.0
"""The layers: who may import whom, and how long a file may be."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for package in ("flows", "sgctl") for path in (ROOT / package).rglob("*.py"))
#: What runs in VMs, which start faster without packages.
GUEST = sorted((ROOT / "devstack" / "guest").rglob("*.py"))
OTHERS = sorted(path for directory in ("devstack", "tests") for path in (ROOT / directory).rglob("*.py"))
LONGEST = 400

#: Adapters, each with the library that it alone may import.
ADAPTERS = {"sgctl.openflow": {"os_ken"}, "sgctl.vswitch": {"ovs", "ovsdbapp"}, "sgctl.store": {"ovs", "ovsdbapp"}}
#: Where options and their defaults are declared, and what both adapters of OVSDB stand on.
ALONE = {"sgctl.config": {"oslo_config"}, "sgctl.configfile": {"oslo_config"}, "sgctl.jsonrpc": {"ovs"}}
#: What shells in one process share.
SHARED = ("sgctl.services", "sgctl.health")
#: Shells, which nobody below them may import.
SHELLS = ("sgctl.agent", "sgctl.api", "sgctl.cli", "sgctl.db", "sgctl.manager", "sgctl.release", *SHARED)
OUTSIDE = {"os_ken", "ovs", "ovsdbapp", "eventlet", "webob", "routes", "oslo_config", "prometheus_client", "rich"}


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, packages: tuple[str, ...]) -> str | None:
    return next((package for package in packages if name == package or name.startswith(package + ".")), None)


@pytest.mark.parametrize("path", SOURCES, ids=module)
def test_imports_go_down(path: Path) -> None:
    name = module(path)
    shell, adapter = within(name, SHELLS), within(name, tuple(ADAPTERS))
    for imported in imports(path):
        top = imported.split(".")[0]
        where = f"{name} imports {imported}"
        if name.split(".")[0] == "flows":
            assert top in {"flows", "netaddr", "__future__"} or top in sys.stdlib_module_names, where
        elif shell is None:
            assert within(imported, SHELLS) is None, where
            allowed = ADAPTERS.get(adapter or "", ALONE.get(name, set()))
            assert top not in OUTSIDE - allowed, where
            assert within(imported, tuple(ADAPTERS)) in {None, adapter}, where
        else:
            assert within(imported, SHELLS) in {None, shell, *SHARED} or shell == "sgctl.manager", where


@pytest.mark.parametrize("path", GUEST, ids=module)
def test_guests_need_no_packages(path: Path) -> None:
    for imported in imports(path):
        assert imported.startswith("devstack.guest") or imported.split(".")[0] in sys.stdlib_module_names, imported


@pytest.mark.parametrize("path", SOURCES + OTHERS, ids=module)
def test_files_are_short(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= LONGEST, f"{path.relative_to(ROOT)} has {lines} lines: split it by noun"
