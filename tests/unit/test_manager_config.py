# SPDX-License-Identifier: Apache-2.0
"""Options become settings."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest
from oslo_config import cfg

from sgctl.config import OptionError, Settings, parse
from sgctl.manager.logs import FORMAT, OneLine


def read(*arguments: str) -> Settings:
    conf = cfg.ConfigOpts()
    conf.register_cli_opts([cfg.StrOpt("ofp-listen-host", default="127.0.0.1"), cfg.IntOpt("ofp-tcp-listen-port")])
    conf.register_cli_opts([cfg.StrOpt(name) for name in ("ctl-privkey", "ctl-cert", "ca-certs")])
    conf.register_cli_opts([cfg.IntOpt("ofp-ssl-listen-port")])
    return parse(conf, ["--config-file=/dev/null", *arguments])


def test_defaults() -> None:
    settings = read()
    assert settings.host == socket.gethostname()
    assert (settings.bridge, settings.api_port, settings.admin_port) == ("br-int", 8080, 8081)
    assert settings.apps == ("sgctl.agent", "sgctl.api")
    assert settings.controller == "tcp:127.0.0.1:6653"


def test_applications_and_uplinks_keep_their_order() -> None:
    settings = read("--uplink=b", "--uplink=a", "--uplink=b", "x.y", "z,w")
    assert settings.uplinks == ("b", "a")
    assert settings.apps == ("x.y", "z", "w")


@pytest.mark.parametrize(
    ("connection", "environment", "expected"),
    [
        ("unix:/run/ovs/db.sock", None, "/run/ovs"),
        ("unix:/run/ovs/db.sock", "/else", "/else"),
        ("tcp:127.0.0.1:6640", None, "/run/openvswitch"),
    ],
)
def test_the_switchs_run_directory(
    monkeypatch: pytest.MonkeyPatch, connection: str, environment: str | None, expected: str
) -> None:
    monkeypatch.delenv("OVS_RUNDIR", raising=False)
    if environment:
        monkeypatch.setenv("OVS_RUNDIR", environment)
    assert read(f"--ovsdb-connection={connection}").rundir == Path(expected)


@pytest.mark.parametrize(
    ("host", "controller"),
    [("0.0.0.0", "tcp:127.0.0.1:7"), ("::1", "tcp:[::1]:7"), ("10.0.0.1", "tcp:10.0.0.1:7")],
)
def test_the_bridge_connects_to_where_we_listen(host: str, controller: str) -> None:
    assert read(f"--ofp-listen-host={host}", "--ofp-tcp-listen-port=7").controller == controller


@pytest.mark.parametrize(
    "arguments",
    [["--db=x"], ["--db=tcp:a:1", "--db-listen=ptcp:1"], ["--host= "], ["--bridge="], ["--ovsdb-connection=x"]],
)
def test_options_that_cannot_be_right(arguments: list[str]) -> None:
    with pytest.raises(OptionError):
        read(*arguments)


def test_a_log_line_stays_one_line() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "port %s\r\n2026 forged", ("tap\nERROR",), None)
    assert "\n" not in OneLine(FORMAT).format(record)
