# SPDX-License-Identifier: Apache-2.0
"""`make demo` and `make lab` do what they say, as a user runs them."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.lab.namespace import wait_for

ROOT = Path(__file__).parents[2]


def run(*argv: str | Path, timeout: float = 280) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, argv)], cwd=ROOT, check=False, timeout=timeout, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_demo() -> None:
    done = run(sys.executable, "-m", "devstack.demo")
    assert done.returncode == 0, done.stdout
    assert "usersecuritygrouplist=nagios,cacti protocol=tcp startport=12489" in done.stdout
    assert re.search(r"all [1-9]\d+ observations are as expected", done.stdout)


@pytest.fixture(scope="module")
def standing_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The short command of a lab that has been left running."""
    directory = tmp_path_factory.mktemp("lab")
    module = (sys.executable, "-m", "devstack.lab", "--directory", directory)
    done = run(*module, "up")
    assert done.returncode == 0, done.stdout
    assert "Enter a VM" in done.stdout
    yield directory / "lab"
    done = run(*module, "down")
    assert (done.returncode, done.stdout) == (0, "the lab is gone\n")
    assert run(*module, "status").returncode == 1
    assert run(*module, "down").stdout == "no lab is running\n"
    assert [file.name for file in directory.iterdir()] == ["lock"]


def address(lab: Path, name: str) -> str:
    lines = run(lab, "status").stdout.splitlines()
    return next(line for line in lines if line.startswith(f"{name} ")).split()[1].partition("/")[0]


def test_a_rule_typed_in_the_standing_lab_opens_a_port(standing_lab: Path) -> None:
    probe = ("exec", "nagios1", "nc", "-zw1", "web1", "12489")
    assert run(standing_lab, *probe).returncode == 1
    typed = run(
        standing_lab, "as", "shop", "sgctl", "authorize", "securitygroupingress", "securitygroupname=web",
        "account=operator", "usersecuritygrouplist=nagios,cacti", "protocol=tcp", "startport=12489",
    )  # fmt: skip
    assert typed.returncode == 0, typed.stdout
    wait_for("the port to be open", lambda: run(standing_lab, *probe).returncode == 0)


def test_a_vm_has_its_own_name_and_resolver(standing_lab: Path) -> None:
    script = "hostname; getent ahostsv4 db1 | head -1"
    name, found = run(standing_lab, "exec", "db1", "sh", "-c", script).stdout.splitlines()
    assert name == "db1"
    assert found.split()[0] == address(standing_lab, "db1")
    assert "nameserver 10.1.0.2" not in Path("/etc/resolv.conf").read_text()


def test_the_hypervisors_say_what_they_do(standing_lab: Path) -> None:
    ports = run(standing_lab, "exec", "hv1", "sgctl", "ports")
    assert ports.returncode == 0, ports.stdout
    assert "web1" in ports.stdout
    assert "web2" not in ports.stdout


def test_unknown_names_are_refused(standing_lab: Path) -> None:
    done = run(standing_lab, "exec", "nobody", "true")
    assert done.returncode == 1
    assert "there is no nobody; there are web1" in done.stdout
    second = run(sys.executable, "-m", "devstack.lab", "--directory", standing_lab.parent, "up")
    assert "a lab is running already" in second.stdout
