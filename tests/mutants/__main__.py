# SPDX-License-Identifier: Apache-2.0
"""Apply each deliberate bug to a copy of the code, and see whether the tests notice.

    python -m tests.mutants [text of a name]...

One line per bug; the exit status is 0 only if every one was caught, and if the tests pass without any.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from time import monotonic

from tests.mutants import ROOT, Mutant, mutants

WORKERS = 2
#: The tests that may catch a bug of a package, the quick ones first.
TESTS = {
    "flows": (
        "flows_behaviour", "flows_state", "flows_ports", "flows_rules", "flows_bundles", "flows_resumed",
        "flows_handover", "flows_meters", "trace_packet", "flows_virtual", "flows_lint", "trace_worlds",
    ),
    "sgctl": (
        "handover", "agent_arrivals", "policy_ports", "policy_rules", "policy_allowances", "reconcile", "policy_worlds",
        "policy_increments", "renewals", "trace_worlds", "flows_handover",
    ),
}  # fmt: skip
SOURCES = ("flows", "sgctl", "tests", "devstack", "setup.cfg")
NOTHING = tuple(Mutant(f"no bug in {file}", file, "import annotations", "import annotations")
                for file in ("flows/pipeline.py", "sgctl/policy.py"))  # fmt: skip
PROFILE = "--hypothesis-profile=mutants"
PASSED, FAILED = 0, 1


def main(texts: list[str]) -> int:
    """The whole run."""
    chosen = [one for one in mutants() if not texts or any(text in one.name for text in texts)]
    with TemporaryDirectory(prefix="sgctl-mutants-") as directory, ThreadPoolExecutor(WORKERS) as pool:
        copies: Queue[Path] = Queue()
        for copy in _copies(Path(directory)):
            copies.put(copy)
        sound = [replace(NOTHING[0], name=f"no bug for {by}", by=by) for by in {one.by for one in chosen if one.by}]
        survivors = sum(pool.map(lambda one: _survives(one, copies), (*NOTHING, *sound, *chosen)))
    print(f"{len(chosen)} bugs, {survivors} wrong" if survivors else f"{len(chosen)} bugs, all caught")
    return 1 if survivors else 0


def _copies(directory: Path) -> Iterator[Path]:
    for number in range(WORKERS):
        copy = directory / str(number)
        for name in SOURCES:
            source = ROOT / name
            copy.mkdir(exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        yield copy


def _survives(mutant: Mutant, copies: Queue[Path]) -> bool:
    """True if the tests do not say what they must: that there is a bug, or that there is none."""
    copy, began = copies.get(), monotonic()
    file = copy / mutant.file
    right = file.read_text()
    try:
        file.write_text(mutant.applied(right))
        status, by = _test(copy, _files(mutant))
    finally:
        file.write_text(right)
        copies.put(copy)
    wrong = status != (PASSED if mutant.old == mutant.new else FAILED)
    print(f"{'WRONG' if wrong else 'ok':5} {monotonic() - began:5.1f} s  {mutant.name}  {by}", flush=True)
    return wrong


def _files(mutant: Mutant) -> list[str]:
    return [mutant.by] if mutant.by else [f"tests/unit/test_{name}.py" for name in TESTS[Path(mutant.file).parts[0]]]


def _test(copy: Path, files: list[str]) -> tuple[int, str]:
    """pytest's exit status, and the test that failed."""
    command = [sys.executable, "-m", "pytest", "-xq", "--tb=no", "-p", "no:cacheprovider", PROFILE, *files]
    # No compiled files: Python tells their age by seconds, and two bugs may come in the same one.
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    summary = [line for line in ran.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if ran.returncode not in (PASSED, FAILED):
        # An import that fails is a catch too.
        return (FAILED if summary else ran.returncode), "; ".join(summary) or ran.stdout[-300:] + ran.stderr[-300:]
    return ran.returncode, summary[0].split(" ", 1)[1][:100] if summary else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
