# SPDX-License-Identifier: Apache-2.0
"""`sgctl hosts`, `ports --all` and `wait` as people read them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sgctl.cli.cloud import KEYS
from tests.unit.cli_server import Api, serving

HOST = {"name": "hv2", "state": "Up", "version": "1", "portsup": 3, "portsclosed": 1, "lastpinged": "now", "lag": 0}
PORT: dict[str, Any] = {
    "virtualmachinename": "web1",
    "account": "shop",
    "hostname": "hv1",
    "hoststate": "Down",
    "state": "up",
    "macaddress": "02:00:00:00:00:01",
    "ipaddresses": ["10.1.0.5", "2001:db8::5"],
    "nicid": "n-1",
}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with serving(tmp_path) as served:
        yield served


def test_hosts(api: Api) -> None:
    late = {**HOST, "name": "hv1", "lag": 2}
    api.answer("listHosts", {"count": 2, "host": [HOST, late]})
    lines = api.run("hosts").out.splitlines()
    assert lines[0].split() == ["name", "state", "version", "up", "closed", "last", "seen", "lag", "address"]
    assert [line.split()[0] for line in lines[1:3]] == ["hv1", "hv2"]
    assert lines[-1] == "1 of 2 hosts are up and have all barriers behind them"
    assert api.run("hosts", "state=Up", "-o", "json").json["count"] == 2
    assert api.asked("listHosts")[-1] == {"state": "Up"}


def test_ports_of_the_whole_cloud_page_by_page(api: Api) -> None:
    unbound = {"virtualmachinename": "a", "account": "shop", "state": "unbound", "nicid": "n-2"}
    pages = {"": [PORT], "2": [unbound]}
    api.answers["listPorts"] = lambda params: (200, {"count": 2, "port": pages[params.get("page", "")]})
    lines = api.run("ports", "--all").out.splitlines()
    assert lines[1].split()[:3] == ["a", "shop", "unbound"]
    assert lines[2].split()[:5] == ["web1", "shop", "hv1", "(Down)", "up"]


def test_wait_tells_how_long_it_took(api: Api) -> None:
    slowest = [{"name": "hv2", "milliseconds": 80}, {"name": "hv1", "milliseconds": 9}]
    result = {"hosts": 2, "milliseconds": 81, "slowest": slowest}
    api.job("createBarrier", {"jobstatus": 0}, {"jobstatus": 1, "jobresult": result})
    assert api.run("wait").out == "active on 2 of 2 hosts after 81 ms; slowest: hv2 80 ms, hv1 9 ms\n"
    assert api.run("wait", "--no-wait").out == "job job-1\n"


def test_wait_fails_with_the_names_of_those_behind(api: Api) -> None:
    error = {"errorcode": 530, "errortext": "in force on 1 of 2 hosts only; not on hv2"}
    api.job("createBarrier", {"jobstatus": 2, "jobresultcode": 530, "jobresult": error})
    done = api.run("wait", "timeout=1")
    assert done.status == 1 and "1 of 2 hosts only; not on hv2" in done.err
    assert api.asked("createBarrier") == [{"timeout": "1"}]


@pytest.mark.parametrize(
    ("argv", "words"),
    [(("flows", "--all"), "--all goes with"), (("hosts", "nme=x"), "no key nme"), (("wait", "now"), "no command")],
)
def test_lines_that_make_no_sense(api: Api, argv: tuple[str, ...], words: str) -> None:
    done = api.run(*argv)
    assert done.status == 2 and words in done.err


def test_keys_are_parameters_whatever_their_case(api: Api) -> None:
    api.answer("listHosts", {})
    api.answer("listPorts", {})
    assert api.run("hosts", "State=Up").status == 0
    assert api.run("ports", "--all", "NICID=n-1").status == 0
    assert (api.asked("listHosts"), api.asked("listPorts")) == ([{"State": "Up"}], [{"NICID": "n-1"}])


@pytest.mark.parametrize("word", ["hosts", "ports", "wait"])
def test_help(api: Api, word: str) -> None:
    assert api.run("help", word).out.startswith(f"sgctl {word} [")


@pytest.mark.parametrize("word", KEYS)
def test_help_names_every_key(api: Api, word: str) -> None:
    told = api.run("help", word).out
    assert [key for key in KEYS[word] if key not in told] == []
