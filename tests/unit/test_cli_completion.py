# SPDX-License-Identifier: Apache-2.0
"""What the shells are offered, asked directly and through bash and zsh themselves."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgctl.cli.completion import SCRIPTS
from tests.unit.cli_server import SGCTL, Api, serving


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Api]:
    with serving(tmp_path) as served:
        yield served


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sgctl au", ["authorize"]),
        ("sgctl f", ["flows"]),
        ("sgctl authorize ", ["securitygroupingress"]),
        ("sgctl list sec", ["securitygroups"]),
        ("sgctl create securitygroup ", ["name=", "description=", "filter="]),
        ("sgctl create securitygroup name=web ", ["description=", "filter="]),
        ("sgctl -o json create securitygroup NAME=web d", ["description="]),
        ("sgctl list zones available=", ["available=true", "available=false"]),
        ("sgctl authorize securitygroupingress protocol=t", ["protocol=tcp"]),
        ("sgctl authorize securitygroupingress startport=", []),
        ("sgctl list zones -o ", ["table", "json", "yaml"]),
        ("sgctl --pro", ["--profile"]),
        ("sgctl --config ", []),
        ("sgctl help del", ["delete"]),
        ("sgctl help list z", ["zones"]),
        ("sgctl completion ", ["bash", "zsh"]),
        ("sgctl flows ", ["table="]),
        ("sgctl trace src=1 s", ["sport=", "src_mac=", "state="]),
        ("sgctl trace state=e", ["state=established"]),
        ("sgctl list unicorns ", []),
        ("sgctl create securitygroup 'unfinished", []),
    ],
)
def test_candidates(cloud: Api, line: str, expected: list[str]) -> None:
    result = cloud.run("__complete", line)
    assert result.out.splitlines() == expected
    assert (result.status, result.err) == (0, "")


def test_the_api_is_asked_once(cloud: Api) -> None:
    for _ in range(3):
        cloud.run("__complete", "sgctl list ")
    assert cloud.calls == [("listApis", {})]


def test_without_an_api_the_built_in_names_are_offered(tmp_path: Path) -> None:
    with serving(tmp_path) as gone:
        pass
    assert "securitygroups" in gone.run("__complete", "sgctl list ").out.split()
    assert "securitygroups" in gone.run("__complete", "sgctl list ", CLOUDSTACK_ENDPOINT="").out.split()


@pytest.mark.parametrize("words", [[], ["fish"], ["bash", "zsh"]])
def test_completion_for_other_shells(cloud: Api, words: list[str]) -> None:
    assert cloud.run("completion", *words).status == 2


_BASH = """
source <(sgctl completion bash)
compopt() { echo "compopt $*"; }
COMP_LINE=$1 COMP_POINT=${#1}
_sgctl
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sgctl authorize secu", ["securitygroupingress"]),
        ("sgctl create securitygroup n", ["compopt -o nospace", "name="]),
        ("sgctl authorize securitygroupingress protocol=t", ["tcp"]),
        ("sgctl list zones available=", ["true", "false"]),
        ("sgctl nonsense ", [""]),
    ],
)
def test_bash(cloud: Api, line: str, expected: list[str]) -> None:
    environ = {**cloud.environ, "PATH": f"{Path(SGCTL).parent}:{cloud.environ['PATH']}"}
    argv = ["bash", "--norc", "-c", _BASH, "bash", line]
    result = subprocess.run(argv, env=environ, capture_output=True, text=True, check=True, timeout=30)
    assert (result.stdout.splitlines(), result.stderr) == (expected, "")


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_scripts_are_valid(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n", "-c", SCRIPTS[shell]], check=True, timeout=30)
