# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the control plane's growth works with both kinds of servers, in small."""

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.functional, pytest.mark.timeout(300)]

SIZE = ("--nics=400", "--agents=2", "--monitors=4", "--repeat=1", "--beats=2")


@pytest.mark.parametrize("where", [(), ("--servers=deployed",), ("--servers=deployed", "--relays=0")], ids=" ".join)
def test_it_measures(where: tuple[str, ...]) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.bench.scale", *SIZE, *where]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["leader"] in {"main", "second", "third"}
    assert found["a server is killed"]["all_s"] > 0
