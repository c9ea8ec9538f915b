# SPDX-License-Identifier: Apache-2.0
"""Options become settings."""

from __future__ import annotations

import logging
import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from oslo_config import cfg

from sgctl.config import SWITCH_OPTIONS, OptionError, Settings, parse, parse_place
from sgctl.db import pki
from sgctl.dbfile import Member
from sgctl.manager.logs import FORMAT, OneLine, shorten
from sgctl.tls import Tls, TlsError


def read(*arguments: str) -> Settings:
    conf = cfg.ConfigOpts()
    conf.register_cli_opts(SWITCH_OPTIONS)
    return parse(conf, ["--config-file=/dev/null", *arguments])


def test_defaults() -> None:
    settings = read()
    assert settings.host == socket.gethostname()
    assert (settings.bridge, settings.api_port, settings.admin_port) == ("br-int", 8080, 8081)
    assert settings.apps == ("sgctl.agent", "sgctl.api")
    assert settings.controller == "tcp:127.0.0.1:6653"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[DEFAULT]\napi-port = 1\n", "there is no option api-port in [DEFAULT]; api_port is one"),
        ("[DEFAULT]\napi_port = 1\ndb_listn = x\n", "there is no option db_listn in [DEFAULT]; db_listen is one"),
        ("[default]\napi_port = 1\n", "there is no option api_port in [default]"),
        ("[DEFAULT]\nx\n", "No ':' or '=' found in assignment"),
    ],
)
@pytest.mark.parametrize("by_directory", [False, True])
def test_a_key_that_is_no_option_is_named(tmp_path: Path, text: str, complaint: str, *, by_directory: bool) -> None:
    file = tmp_path / "some.conf"
    file.write_text(text)
    with pytest.raises(OptionError, match=re.escape(complaint)) as refused:
        read(f"--config-dir={tmp_path}" if by_directory else f"--config-file={file}")
    assert str(file) in str(refused.value)


def test_options_are_named_as_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read("--api-prt=70000")
    assert "--api-port" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("--api-port=70000",), ("--api-port", "70000")])
def test_a_value_that_cannot_be_is_told(arguments: tuple[str, ...]) -> None:
    said = re.escape("--api-port: '70000' is no whole number (min=0, max=65535)")
    with pytest.raises(OptionError, match=said) as refused:
        read(*arguments)
    assert "file" not in str(refused.value)


def test_a_value_of_a_file_is_told_to_be_from_there(tmp_path: Path) -> None:
    file = tmp_path / "some.conf"
    file.write_text("[DEFAULT]\nhost_timeout = soon\n")
    with pytest.raises(OptionError, match=r"--host-timeout: 'soon' is no whole number .*: see the configuration file"):
        read(f"--config-file={file}", "--api-port=1")


def test_an_action_that_there_is_not() -> None:
    with pytest.raises(OptionError, match=re.escape("'give' is none of 'release'")) as refused:
        parse_place("sgctl-bridge", ["release"], ["--config-file=/dev/null", "give"])
    assert "file" not in str(refused.value)


def test_help_shows_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_place("sgctl-bridge", ["release"], ["--help"])
    shown = "".join(capsys.readouterr().out.split())
    assert "(default:br-int)" in shown and "(default:unix:/run/openvswitch/db.sock)" in shown


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


CLUSTER = ("--db-cluster-local=tcp:10.0.0.1:6643", "sgctl.db")
RELAY = ("--db-relay-of=tcp:10.0.0.1:6641", "sgctl.db")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    directory = tmp_path_factory.mktemp("pki")
    pki.init(directory)
    return pki.server(directory, "db1", ())


def identity(tls: Tls) -> list[str]:
    """The options that name it."""
    return [f"--db-ssl-key={tls.key}", f"--db-ssl-cert={tls.cert}", f"--db-ssl-ca={tls.ca}"]


def test_names_of_databases_are_looked_up_once(monkeypatch: pytest.MonkeyPatch, tls: Tls) -> None:
    known = {"sg": ["10.0.0.1", "10.0.0.2"], "six": ["fd00::1"], "10.0.0.9": ["10.0.0.9"]}

    def answers(name: str, port: int, **_: object) -> list[tuple[object, ...]]:
        families = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(families[":" in one], 1, 6, "", (one, port)) for one in known[name] for _ in range(2)]

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    settings = read("--db=tcp:sg:6641,ssl:six:6642,tcp:10.0.0.9:1,ssl:[fd00::2]:2,unix:/a", *identity(tls))
    assert settings.db == (
        "tcp:10.0.0.1:6641,tcp:10.0.0.2:6641,ssl:[fd00::1]:6642,tcp:10.0.0.9:1,ssl:[fd00::2]:2,unix:/a"
    )
    assert read("--ovsdb-connection=tcp:10.0.0.9:6640").ovsdb_connection == "tcp:10.0.0.9:6640"


def test_a_database_of_this_process(tls: Tls) -> None:
    assert read().serves and read("sgctl.db").serves and not read("--db=tcp:10.0.0.1:1").serves
    member = read(*CLUSTER, "--db-cluster-join=tcp:10.0.0.2:6643,tcp:10.0.0.3:6643").db_member
    assert member == Member(local="tcp:10.0.0.1:6643", join=("tcp:10.0.0.2:6643", "tcp:10.0.0.3:6643"))
    assert read(*CLUSTER, "sgctl.agent").serves and read(*RELAY, "sgctl.agent").db_relay_of == "tcp:10.0.0.1:6641"
    assert read(*CLUSTER, "sgctl.api", "--db=tcp:10.0.0.1:6641,tcp:10.0.0.2:6641").serves
    assert read(*identity(tls), "--db-listen-agents=pssl:6642", "--db-listen=pssl:6641").db_tls == tls


def test_keys_must_be_usable(tls: Tls, tmp_path: Path) -> None:
    pki.init(tmp_path)
    other = pki.host(tmp_path, "h1")
    for bad in (replace(tls, key=other.key), replace(tls, ca=tls.key), replace(tls, cert="/none")):
        with pytest.raises(TlsError, match="cannot use"):
            read(*identity(bad))


def test_openflow_by_tls(tls: Tls) -> None:
    given = [f"--ctl-privkey={tls.key}", f"--ctl-cert={tls.cert}", f"--ca-certs={tls.ca}"]
    assert read(*given, "--ofp-ssl-listen-port=7").controller == "ssl:127.0.0.1:7"
    with pytest.raises(OptionError, match="go together"):
        read(*given[:2])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--db=unix:/x", "--db-cluster-local=tcp:10.0.0.1:1"], "--db-cluster-local is for a database of this process"),
        (["--db=unix:/x", "--db-relay-of=unix:/y"], "--db-relay-of is for a database of this process"),
        (["--db=unix:/x", "sgctl.db"], "leave out one of them"),
        (["--db-cluster-join=tcp:10.0.0.1:1", "sgctl.db"], "needs --db-cluster-local"),
        (["--db-cluster-local=tcp:host:1", "sgctl.db"], "must be tcp:IP:PORT"),
        ([*CLUSTER, "--db-cluster-join=ssl:10.0.0.2:1"], "all speak tcp: or all ssl:"),
        ([*CLUSTER, "--db-cluster-join=tcp:10.0.0.1:6643"], "cannot join itself"),
        ([*CLUSTER, "--db-relay-of=tcp:10.0.0.1:6641"], "exclude each other"),
        ([*CLUSTER, "sgctl.api"], "name all members with --db"),
        ([*RELAY, "sgctl.api"], "name all members with --db"),
        (["--db=tcp:10.0.0.1:6641,tcp:s..g:6641"], "--db tcp:s..g:6641: s..g cannot be looked up"),
        (["--db-relay-of=ssl:10.0.0.1", "sgctl.db"], "must be ssl:HOST:PORT"),
        (["--ovsdb-connection=tcp:hv 1:6640"], "must be tcp:HOST:PORT"),
        (["--db-relay-of=x:1", "sgctl.db"], "must start with unix: or tcp: or ssl:"),
        (["--db-listen=tcp:6641:127.0.0.1"], "must start with punix: or ptcp: or pssl:"),
        (["--db-listen-agents=ptcp:6642"], "must start with pssl:"),
        (["--db-listen=pssl:6641"], "needs --db-ssl-key, --db-ssl-cert and --db-ssl-ca"),
        (["--db=ssl:10.0.0.1:6641"], "needs --db-ssl-key"),
        (["--ovsdb-connection=ssl:10.0.0.1:6640"], "needs --db-ssl-key"),
        (["--db-cluster-local=ssl:10.0.0.1:6643", "sgctl.db"], "needs --db-ssl-key"),
        (["--db-ssl-key=/none"], "go together"),
    ],
)
def test_database_options_that_do_not_go_together(arguments: list[str], text: str) -> None:
    with pytest.raises(OptionError, match=re.escape(text)):
        read(*arguments)


def test_a_relay_does_not_check_agents(tls: Tls) -> None:
    with pytest.raises(OptionError, match="relays do not check"):
        read(*RELAY, *identity(tls), "--db-listen-agents=pssl:6642")


@pytest.mark.parametrize(
    "arguments",
    [["--db=x"], ["--db=tcp:10.0.0.1:1", "--db-listen=ptcp:1"], ["--host= "], ["--bridge="], ["--ovsdb-connection=x"]],
)
def test_options_that_cannot_be_right(arguments: list[str]) -> None:
    with pytest.raises(OptionError):
        read(*arguments)


def test_a_log_line_stays_one_line() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "port %s\r\n2026 forged", ("tap\nERROR",), None)
    assert "\n" not in OneLine(FORMAT).format(record)


def test_help_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        read("--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert not end.value.code and "(default: 8080)" in shown and "(default: 5%)" in shown


HUB = "hub: uncaught exception: %s"
REFUSED = "Traceback (most recent call last):\n  File\nssl.SSLCertVerificationError: [SSL] verify failed: self-signed\n"
FAULT = "Traceback (most recent call last):\n  File\nKeyError: 'x'\n"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("os_ken.lib.hub", REFUSED, "a switch is refused by TLS: [SSL] verify failed: self-signed"),
        ("os_ken.lib.hub", FAULT, HUB % FAULT),
        ("sgctl.agent", REFUSED, HUB % REFUSED),
    ],
    ids=["a handshake", "another fault of os-ken's", "of ours"],
)
def test_a_switch_whose_handshake_fails_is_told_of_in_a_sentence(name: str, text: str, said: str) -> None:
    record = logging.LogRecord(name, logging.ERROR, "x", 1, HUB, (text,), None)
    assert shorten(record)
    assert record.getMessage() == said
