# SPDX-License-Identifier: Apache-2.0
"""The DevStack plugin, sourced as DevStack does, with DevStack's own helpers replaced by recorders."""

import subprocess
from pathlib import Path

import pytest
from oslo_config import cfg

from sgctl.config import OPTIONS

PLUGIN = Path(__file__).parents[2] / "devstack"
HELPERS = """
set -eu
for helper in define_plugin enable_service install_package setup_develop run_process stop_process sudo; do
    eval "function $helper { echo $helper \\"\\$@\\" >>calls; }"
done
function is_service_enabled { [[ " $ENABLED " == *" $1 "* ]]; }
function iniadd { [[ -s $1 ]] || echo "[$2]" >"$1"; echo "$3 = $4" >>"$1"; }
function iniset { iniadd "$@"; }
source "$PLUGIN/settings"
"""
SETTINGS = {
    "PLUGIN": str(PLUGIN),
    "ENABLED": "sgctl-manager",
    "DEST": "/opt/stack",
    "DATA_DIR": "/opt/stack/data",
    "HOST_IP": "192.0.2.1",
    "STACK_USER": "stack",
    "SGCTL_UPLINKS": "eth1 eth2",
    "PATH": "/usr/bin:/bin",
}


def source(directory: Path, *phase: str, **settings: str) -> list[str]:
    """The helpers that the plugin calls in a phase."""
    script = f'{HELPERS}\nsource "$PLUGIN/plugin.sh" {" ".join(phase)}\n'
    environment = {**SETTINGS, "SGCTL_CONF": str(directory / "sgctl.conf"), **settings}
    (directory / "calls").write_text("")
    subprocess.run(["bash", "-c", script], cwd=directory, env=environment, check=True)
    calls = (directory / "calls").read_text().splitlines()
    assert calls[:2] == ["define_plugin sgctl", "enable_service sgctl-manager"]
    return calls[2:]


def test_install(tmp_path: Path) -> None:
    calls = source(tmp_path, "stack", "install")
    assert calls == ["install_package openvswitch-switch", "setup_develop /opt/stack/sgctl"]


def test_configure_the_first_node(tmp_path: Path) -> None:
    source(tmp_path, "stack", "post-config")
    lines = (tmp_path / "sgctl.conf").read_text().splitlines()
    assert lines[2:] == [
        "ovsdb_connection = unix:/run/openvswitch/db.sock",
        "bridge = br-int",
        "uplink = eth1",
        "uplink = eth2",
        "db_listen = ptcp:6641:192.0.2.1",
        "state_dir = /opt/stack/data/sgctl",
        "api_host = 192.0.2.1",
        "api_port = 8080",
    ]


def test_configure_another_node(tmp_path: Path) -> None:
    source(tmp_path, "stack", "post-config", SGCTL_DB="tcp:192.0.2.1:6641")
    text = (tmp_path / "sgctl.conf").read_text()
    assert "\ndb = tcp:192.0.2.1:6641\n" in text
    assert "db_listen" not in text


def test_the_configuration_is_what_the_manager_reads(tmp_path: Path) -> None:
    source(tmp_path, "stack", "post-config")
    read = cfg.ConfigOpts()
    read.register_cli_opts(OPTIONS)
    read(["--config-file", str(tmp_path / "sgctl.conf")], project="sgctl")
    assert read.uplink == ["eth1", "eth2"]
    assert (read.bridge, read.db_listen, read.api_host) == ("br-int", "ptcp:6641:192.0.2.1", "192.0.2.1")


def installed(directory: Path, name: str) -> Path:
    program = directory / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program


def test_start(tmp_path: Path) -> None:
    program = installed(tmp_path, "sgctl-manager")
    calls = source(tmp_path, "stack", "extra", PATH=f"{tmp_path}:/usr/bin:/bin")
    assert calls == [
        "sudo ovs-vsctl --may-exist add-br br-int -- set bridge br-int fail_mode=secure",
        "sudo ovs-vsctl --may-exist add-port br-int eth1",
        "sudo ovs-vsctl --may-exist add-port br-int eth2",
        f"run_process sgctl-manager {program} --config-file {tmp_path}/sgctl.conf sgctl.agent sgctl.api  root",
    ]


def test_unstack_and_clean(tmp_path: Path) -> None:
    program = installed(tmp_path, "sgctl-bridge")
    assert source(tmp_path, "unstack") == ["stop_process sgctl-manager"]
    assert source(tmp_path, "clean", PATH=f"{tmp_path}:/usr/bin:/bin") == [
        f"sudo {program} --config-file {tmp_path}/sgctl.conf release",
        "sudo ovs-vsctl --if-exists del-controller br-int",
        "sudo ovs-vsctl --if-exists del-fail-mode br-int",
        "sudo rm -rf /etc/sgctl /opt/stack/data/sgctl",
    ]


@pytest.mark.parametrize("phase", [("stack", "pre-install"), ("stack", "test-config")])
def test_other_phases_do_nothing(tmp_path: Path, phase: tuple[str, ...]) -> None:
    assert source(tmp_path, *phase) == []


def test_a_disabled_service_does_nothing(tmp_path: Path) -> None:
    assert source(tmp_path, "stack", "install", ENABLED="") == []
