# SPDX-License-Identifier: Apache-2.0
"""The systemd units and the sample of a configuration file that the package brings."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from os_ken import cfg as osken
from os_ken.base import app_manager  # noqa: F401 - registers os-ken's options
from oslo_config import cfg

import sgctl
from sgctl.config import SWITCH_OPTIONS, Settings, parse
from sgctl.sample import sample

PACKAGE = Path(sgctl.__file__).parent
UNITS = sorted((PACKAGE / "units").glob("*.service"))
MOST_EXPOSED = "20"
"""Tenths of systemd's measure from 0, safe, to 10."""
analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


def settings(path: Path, *arguments: str) -> Settings:
    """What a manager with this configuration file makes of it."""
    conf = cfg.ConfigOpts()
    conf.register_cli_opts(SWITCH_OPTIONS)
    return parse(conf, [f"--config-file={path}", *arguments])


def command(unit: Path) -> list[str]:
    found = re.search(r"^ExecStart=/usr/bin/env sgctl-manager *(.*)$", unit.read_text(), re.MULTILINE)
    assert found
    return found[1].split()


def test_there_is_a_unit_for_each_part() -> None:
    assert [unit.stem for unit in UNITS] == ["sgctl-agent", "sgctl-api", "sgctl-db", "sgctl-manager"]


@analyze
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_accepts_it_and_finds_it_safe(unit: Path) -> None:
    for check in (["verify"], ["security", "--offline=yes", f"--threshold={MOST_EXPOSED}"]):
        done = subprocess.run(["systemd-analyze", *check, unit], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert check[0] != "verify" or not done.stdout


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_its_command_line_is_understood(unit: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.conf"
    file.write_text("[DEFAULT]\ndb = tcp:10.0.0.1:6641\n" if unit.stem in ("sgctl-agent", "sgctl-api") else "")
    apps = [word for word in command(unit) if not word.startswith("--")]
    assert settings(file, *apps).apps == tuple(apps or ("sgctl.agent", "sgctl.api"))
    files = [word for word in command(unit) if word.startswith("--")]
    part = unit.stem.removeprefix("sgctl-")
    assert files == ([] if part == "manager" else [f"--config-file=/etc/sgctl/{part}.conf"])
    for given in files:
        assert f"AssertPathExists={given.partition('=')[2]}\n" in unit.read_text()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_is_root_only_where_the_switch_is(unit: Path) -> None:
    text = unit.read_text()
    assert ("User=sgctl\n" in text) == (unit.stem in ("sgctl-api", "sgctl-db"))
    assert "CapabilityBoundingSet=\n" in text and "NoNewPrivileges=true\n" in text


def test_the_sample_is_up_to_date() -> None:
    assert (PACKAGE / "sgctl.conf").read_text() == sample(), "python -m sgctl.sample > sgctl/sgctl.conf"


def test_the_sample_has_the_defaults(tmp_path: Path) -> None:
    empty, full = tmp_path / "empty.conf", tmp_path / "full.conf"
    empty.write_text("")
    full.write_text(re.sub(r"^#(\w+ = )", r"\1", sample(), flags=re.MULTILINE))
    assert len(re.findall(r"^\w+ = ", full.read_text(), re.MULTILINE)) > 10
    assert settings(full) == settings(empty)


@pytest.mark.parametrize("name", [option.dest for option in SWITCH_OPTIONS])
def test_os_ken_has_these_options(name: str) -> None:
    assert name in osken.CONF
