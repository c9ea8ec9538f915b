# SPDX-License-Identifier: Apache-2.0
"""What the program never does: run a shell, evaluate text, load objects, trust text in logs, depend on anything."""

from __future__ import annotations

import ast
import configparser
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgctl.manager.logs import FORMAT, OneLine

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for package in ("flows", "sgctl") for path in (ROOT / package).rglob("*.py"))
FORBIDDEN = {
    "eval", "exec", "os.system", "os.popen", "os.execl", "os.spawnl", "pickle.load", "pickle.loads", "marshal.loads",
    "shelve.open", "yaml.load", "yaml.unsafe_load", "subprocess.getoutput", "subprocess.getstatusoutput",
    "tempfile.mktemp",
}  # fmt: skip
RUNNERS = {"subprocess.run", "subprocess.Popen", "subprocess.check_output", "subprocess.check_call", "subprocess.call"}

#: The SG database's server and its tools, ovs-ofctl, openssl.
STARTERS = {"dbfile.py", "dbserver.py", "openflow/ofctl.py", "db/pki.py", "db/contents.py", "db/status.py"}
EVERYTHING = {"Exception", "BaseException"}
TOLD = re.compile(r"\braise\b|on_error\(|fatal\(|_on_fault\(|LOG\.exception\(")
#: Threads whose functions tell their errors themselves; all others are started by `Services.spawn`, or are `Thread`s,
#: whose errors end the process (`sgctl.manager.launcher`).
GUARDED = {
    "sgctl/services.py: eventlet.spawn(guarded)",
    "sgctl/openflow/app.py: hub.spawn(self._contend, event.datapath)",
}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_shell_and_no_text_that_is_run(path: Path) -> None:
    for name, call in calls(path):
        assert name not in FORBIDDEN, f"{path}:{call.lineno}"
        if name in RUNNERS:
            assert not any(keyword.arg in ("shell", "executable", None) for keyword in call.keywords), call.lineno
            assert not isinstance(call.args[0], ast.Constant | ast.JoinedStr | ast.BinOp), f"{path}:{call.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_swallowed(path: Path) -> None:
    """Whoever catches everything raises it again, tells who decides, or says it; nobody starts a thread unwatched."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler) and (node.type is None or ast.unparse(node.type) in EVERYTHING):
            said = " ".join(ast.unparse(one) for one in node.body)
            assert TOLD.search(said), f"{path}:{node.lineno}"
    for name, call in calls(path):
        if name in ("eventlet.spawn", "eventlet.spawn_n", "hub.spawn", "GreenPool"):
            assert f"{path.relative_to(ROOT)}: {ast.unparse(call)}" in GUARDED, f"{path}:{call.lineno}"


def test_only_these_start_programs() -> None:
    """No port costs a process: an agent asks the switch by its sockets, and ovs-ofctl only for what people read."""
    found = {str(path.relative_to(ROOT / "sgctl")) for path in SOURCES if "import subprocess" in path.read_text()}
    assert found == STARTERS


@pytest.mark.parametrize("text", ["a\r\n2026 forged", "a\x1b[2J", "\x00a", "a\u2028b", "a\u202egnp", "\x9b1m"])
def test_text_from_outside_does_no_harm_in_logs(text: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "port %s", (text,), None)
    assert OneLine(FORMAT).format(record).isprintable()
    try:
        raise ValueError(text)
    except ValueError:
        record.exc_info = sys.exc_info()
    lines = OneLine(FORMAT).format(record).split("\n")
    assert lines[1].startswith("Traceback") and all(line.isprintable() for line in lines)


def test_what_we_depend_on_is_pinned() -> None:
    """Each library has bounds in setup.cfg, and one version that was tried in sgctl/constraints.txt."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    required = setup["options"]["install_requires"].split("\n")
    assert [line for line in required if line and not re.fullmatch(r"[\w.-]+ >=[\d.]+,<\d[\d.]*", line)] == []
    lines = (ROOT / "sgctl" / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    names = {re.sub(r"[._-]+", "-", name).lower() for name in pins}
    assert {line.split()[0].lower().replace(".", "-") for line in required if line} <= names
