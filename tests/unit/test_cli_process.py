# SPDX-License-Identifier: Apache-2.0
"""`sgctl` as a process: what it imports, pipes, signals, terminals."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli_server import SGCTL, Api, serving

PENDING = {"jobid": "job-1", "jobstatus": 0}
AUTHORIZE = ("authorize", "securitygroupingress", "securitygroupname=web")


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Api]:
    with serving(tmp_path) as served:
        yield served


def test_the_module_imports_nothing_heavy() -> None:
    code = "import sys, sgctl.cli.main; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout
    heavy = {"rich", "yaml", "eventlet", "os_ken", "ovs", "ovsdbapp", "netaddr", "webob", "oslo_config"}
    assert heavy & {name.partition(".")[0] for name in output.split()} == set()


def test_a_reader_that_goes_away_is_no_error(cloud: Api) -> None:
    zones = [{"id": f"z-{n}", "name": "x" * 100} for n in range(5000)]
    cloud.answer("listZones", {"count": len(zones), "zone": zones})
    with subprocess.Popen(
        [SGCTL, "list", "zones", "-o", "json"], env=cloud.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 141


def test_an_interrupt_ends_the_wait_and_says_how_to_go_on(cloud: Api) -> None:
    cloud.job("authorizeSecurityGroupIngress", PENDING)
    asked = threading.Event()
    answer = cloud.answers["queryAsyncJobResult"]
    cloud.answers["queryAsyncJobResult"] = lambda params: (asked.set(), answer(params))[1]
    # Whoever runs the tests in the background may have them ignore interrupts.
    command = ["env", "--default-signal=INT", SGCTL, *AUTHORIZE]
    with subprocess.Popen(command, env=cloud.environ, stderr=subprocess.PIPE, text=True) as process:
        assert asked.wait(timeout=30)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "job job-1 goes on: `sgctl query asyncjobresult jobid=job-1` asks for its result\n"


def on_a_terminal(cloud: Api, *argv: str, width: int = 80, **environ: str) -> str:
    """What `sgctl` writes when both its streams are a terminal."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    environment = {**cloud.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environ}
    with subprocess.Popen([SGCTL, *argv], env=environment, stdout=follower, stderr=follower):
        os.close(follower)
        output = b""
        try:
            while chunk := os.read(leader, 65536):
                output += chunk
        except OSError:  # Linux reports the end of a terminal as EIO
            pass
    os.close(leader)
    return output.decode()


def test_a_terminal_gets_lines_and_colours(cloud: Api) -> None:
    cloud.answer("listVirtualMachines", {"count": 1, "virtualmachine": [{"name": "web1", "state": "Running"}]})
    output = on_a_terminal(cloud, "list", "virtualmachines")
    assert "─" in output and "\x1b[32mRunning\x1b[0m" in output
    plain = on_a_terminal(cloud, "list", "virtualmachines", NO_COLOR="1")
    assert "\x1b[32m" not in plain


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (120, "name state host groups id NAME Running hv1 web ID default"),
        (70, "name state host groups NAME Running hv1 web default (id left out to fit;"),
        (50, "name NAME state Running host hv1 groups web default id ID"),
    ],
)
def test_a_table_too_wide_loses_its_ids_then_its_columns(cloud: Api, width: int, expected: str) -> None:
    name, identity = "n" * 34, "i" * 36
    groups = [{"id": "g-1", "name": "web"}, {"id": "g-0", "name": "default"}]
    vm = {"name": name, "id": identity, "state": "Running", "hostname": "hv1", "securitygroup": groups}
    cloud.answer("listVirtualMachines", {"count": 1, "virtualmachine": [vm]})
    output = on_a_terminal(cloud, "list", "virtualmachines", width=width, NO_COLOR="1")
    words = re.sub(r"\x1b\[\d*m|─", "", output).replace(name, "NAME").replace(identity, "ID").split()
    assert " ".join(words).startswith(expected)


def test_a_terminal_sees_the_job_run(cloud: Api) -> None:
    done = {"jobid": "job-1", "jobstatus": 1, "jobresult": {"success": True}}
    cloud.job("authorizeSecurityGroupIngress", *[PENDING] * 6, done)
    output = on_a_terminal(cloud, *AUTHORIZE)
    assert "waiting for authorizeSecurityGroupIngress (" in output
    assert output.endswith("\r\x1b[Kdone\r\n")


def test_letters_that_the_terminal_lacks_are_escaped(cloud: Api) -> None:
    cloud.answer("listZones", {"count": 1, "zone": [{"name": "zöne", "id": "1"}]})
    environ = {**cloud.environ, "PYTHONIOENCODING": "ascii"}
    for form in ("table", "json", "yaml"):
        argv = [SGCTL, "list", "zones", "-o", form]
        result = subprocess.run(argv, env=environ, capture_output=True, check=True, timeout=30)
        assert result.stderr == b""
        assert result.stdout.isascii() and b"z\\x" in result.stdout.lower().replace(b"z\\u00", b"z\\x")


def test_version() -> None:
    result = subprocess.run([SGCTL, "--version"], capture_output=True, text=True, check=True, timeout=30)
    assert result.stdout.startswith("sgctl 0.")


@pytest.mark.parametrize(("argv", "status"), [([], 2), (["--help"], 0), (["list", "zones"], 1), (["-x"], 2)])
def test_exit_status(argv: list[str], status: int, tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    result = subprocess.run([SGCTL, *argv], env=environ, capture_output=True, text=True, timeout=30)
    assert result.returncode == status
    assert "Traceback" not in result.stderr and bool(result.stderr) == (status != 0)
