# SPDX-License-Identifier: Apache-2.0
"""Requests as they arrive: signatures, parameters, envelopes, pages, and what must not shake the server."""

import logging
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sgctl.api import reference as reference_module
from sgctl.api.catalogue import catalogue
from sgctl.api.command import Command
from sgctl.api.errors import EarlyError
from sgctl.api.params import Kind, parse
from sgctl.signing import signature
from tests.unit.api_memory import NOW, Client, Cloud

REFUSAL = "unable to verify user credentials and/or request signature"


@pytest.fixture(scope="module")
def cloud() -> Cloud:
    return Cloud()


@pytest.fixture(scope="module")
def admin(cloud: Cloud) -> Client:
    return cloud.admin


def signed(client: Client, params: dict[str, str], *, literal: str = "") -> str:
    params = {"response": "json", "apiKey": client.key.api_key, **params}
    return urlencode({**params, "signature": signature(params, client.key.secret, literal=literal)}, quote_via=quote)


@pytest.mark.parametrize("literal", ["", "~", "[]", "~[]"])
def test_clients_may_leave_some_characters_alone(admin: Client, literal: str) -> None:
    query = signed(admin, {"command": "listZones", "keyword": "a b*c~d[e]ä&=+"}, literal=literal)
    assert admin.raw(query).status == 200
    assert admin.raw(query, method="POST").status == 200


def test_names_of_parameters_in_any_case(admin: Client) -> None:
    params = {"COMMAND": "listZones", "Response": "json", "APIKEY": admin.key.api_key, "KeyWord": "x"}
    query = urlencode({**params, "Signature": signature(params, admin.key.secret)})
    assert admin.raw(query).status == 200


@pytest.mark.parametrize(
    "query",
    [
        "command=listZones",
        "command=listZones&apiKey=key+of+admin",
        "command=listZones&apiKey=key+of+admin&signature=AAAA",
        "command=listZones&apiKey=key+of+admin&signature=%C3%A4",
        "command=listZones&apiKey=key+of+nobody&signature=AAAA",
        "command=nonsense&apiKey=key+of+nobody&signature=AAAA",
        "",
    ],
)
def test_wrong_credentials(admin: Client, query: str) -> None:
    answer = admin.raw(query)
    assert (answer.status, answer.description) == (401, REFUSAL)
    assert answer.content["errorcode"] == 401
    assert answer.content["errortext"] == REFUSAL


def test_a_changed_request_is_refused(admin: Client) -> None:
    query = signed(admin, {"command": "listZones", "name": "a"})
    assert admin.raw(query.replace("name=a", "name=b")).status == 401
    assert admin.raw(query + "&listall=true").status == 401


def expiry(seconds: float, form: str = "%Y-%m-%dT%H:%M:%S+0000") -> str:
    return (datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=seconds)).strftime(form)


@pytest.mark.parametrize(
    ("version", "expires", "status"),
    [
        ("3", expiry(60), 200),
        ("3", expiry(60, "%Y-%m-%dT%H:%M:%SZ"), 200),
        ("3", expiry(60 - 7200, "%Y-%m-%dT%H:%M:%S-0200"), 200),
        ("3", expiry(-60), 401),
        ("3", expiry(60 - 7200), 401),
        ("3", "", 401),
        ("3", "tomorrow", 401),
        ("3", "9999-99-99T00:00:00+0000", 401),
        ("3", "0001-01-01T00:00:00+2359", 401),
        ("2", expiry(-60), 200),
        ("", expiry(-60), 200),
    ],
)
def test_expiry(admin: Client, version: str, expires: str, status: int) -> None:
    query = signed(admin, {"command": "listZones", "signatureVersion": version, "expires": expires})
    assert admin.raw(query).status == status


def test_a_command_that_is_not_there_and_one_that_is_not_the_callers(cloud: Cloud) -> None:
    user = cloud.account("somebody")
    for name in ("nonsense", "createZone", "LISTZONES", ""):
        answer = user.call(name)
        assert (answer.status, answer.key) == (401, "errorresponse")


def test_the_errors_envelope(admin: Client) -> None:
    answer = admin.call("createSecurityGroup")
    text = "Unable to execute API command createsecuritygroup due to missing parameter name"
    assert (answer.status, answer.key, answer.description) == (431, "createsecuritygroupresponse", text)
    assert answer.content == {"uuidList": [], "errorcode": 431, "cserrorcode": 4350, "errortext": text}


LISTS = {command.name for command in catalogue() if command.name.startswith("list")}


@pytest.mark.parametrize("name", sorted(LISTS - {"listApis", "listCapabilities", "listNics"}))
def test_an_empty_list_is_an_empty_object(name: str) -> None:
    answer = Cloud().admin.call(name, keyword="nobody is called so", templatefilter="all")
    assert (answer.status, answer.key, answer.content) == (200, f"{name.lower()}response", {})


def test_every_answer_has_the_right_key(admin: Client) -> None:
    for command in catalogue():
        key = admin.call(command.name).key
        assert key == ("addiptovmnicresponse" if command.name == "addIpToNic" else f"{command.name.lower()}response")


@pytest.mark.parametrize(
    ("params", "count", "names"),
    [
        ({}, 6, ["default", "g0", "g1", "g2", "g3", "g4"]),
        ({"page": 1, "pagesize": 4}, 6, ["default", "g0", "g1", "g2"]),
        ({"page": 2, "pagesize": 4}, 6, ["g3", "g4"]),
        ({"page": 3, "pagesize": 4}, 6, None),
        ({"pagesize": -1}, 6, ["default", "g0", "g1", "g2", "g3", "g4"]),
        ({"keyword": "G1"}, 1, ["g1"]),
        ({"securitygroupname": "g"}, None, None),
    ],
)
def test_pages(params: dict[str, Any], count: int | None, names: list[str] | None) -> None:
    user = Cloud().account("somebody")
    for number in range(5):
        user.ok("createSecurityGroup", name=f"g{number}")
    content = user.ok("listSecurityGroups", **params)
    assert content.get("count") == count
    groups = content.get("securitygroup")
    assert names == (groups and [group["name"] for group in groups])


@pytest.mark.parametrize(
    "params",
    [
        {"pagesize": 5},
        {"page": 1},
        {"page": 1, "pagesize": 501},
        {"page": 1, "pagesize": -1},
        {"page": 0, "pagesize": 1},
        {"page": -1, "pagesize": 1},
        {"page": 1, "pagesize": 0},
        {"page": "x", "pagesize": 1},
        {"page": "9" * 30, "pagesize": 1},
        {"page": "\u0661", "pagesize": 1},
    ],
)
def test_pages_that_do_not_exist(admin: Client, params: dict[str, Any]) -> None:
    assert admin.call("listSecurityGroups", **params).status == 431


def test_a_page_far_away(admin: Client) -> None:
    assert admin.ok("listSecurityGroups", page=10**17, pagesize=500) == {"count": 1}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("command=listZones&name=%FF", 430),
        ("command=listZones&name=a&name=b", 430),
        ("command=listZones&name=a&NAME=b", 430),
        ("&".join(f"a{number}=1" for number in range(3000)), 430),
        ("command=listZones&apiKey=%00&signature=%0D%0A", 401),
    ],
)
def test_parameters_that_cannot_be_read(admin: Client, query: str, status: int) -> None:
    assert admin.raw(query).status == status


@pytest.mark.parametrize(
    "name", ["a[b", "a[0]", "a[x].b", "a[-1].b", "a[0][1].b", "a]0[.b", "usersecuritygrouplist[0]"]
)
def test_maps_that_cannot_be_decoded(admin: Client, name: str) -> None:
    answer = admin.request({"command": "listZones", name: "x"})
    assert (answer.status, answer.content["errortext"]) == (430, f"Unable to decode parameter {name}")


@pytest.mark.parametrize("char", ["\n", "\r", "\0", "\x7f", "\x85", "\u2028", "\u2029"])
def test_characters_that_would_break_a_line(admin: Client, char: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        answer = admin.call("createSecurityGroup", name=f"a{char}b")
    assert answer.status == 431
    assert char not in answer.description
    assert char not in caplog.text.rstrip("\n")


@pytest.mark.parametrize("command", catalogue(), ids=lambda command: command.name)
def test_no_parameter_takes_a_second_line(command: Command) -> None:
    """Of no command: some end in files of others, DHCP's among them. A space, and another language, is no harm."""
    for param in command.params:
        names = [param.name, *([f"{param.name}[0].account"] if param.kind is Kind.MAP else [])]
        for name, line in product(names, ("a\nb", "a\rb", "a\u2028b", "a\0b")):
            with pytest.raises(EarlyError):
                parse([param], {name: line}, command=command.name, admin=True)
        if param.kind is Kind.TEXT and param.length > 3:
            assert parse([param], {param.name: "a ä"}, command=command.name, admin=True).text(param.name) == "a ä"


def test_names_may_be_long_and_of_any_language(admin: Client) -> None:
    name = "安" * 255
    assert admin.ok("createSecurityGroup", name=name)["securitygroup"]["name"] == name
    assert admin.call("createSecurityGroup", name=name + "全").status == 431


def test_bodies_over_the_limit(admin: Client) -> None:
    assert admin.raw("command=listZones&x=" + "a" * (1 << 20), method="POST").status == 413


def test_other_methods_and_paths(admin: Client) -> None:
    assert admin.raw("", method="PUT").status == 405
    assert admin.raw("", path="/").status == 404


def test_the_access_log_has_no_secrets(cloud: Cloud, admin: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        keys = admin.ok("registerUserKeys", id=cloud.account("rotating").user.id)["userkeys"]
    assert "registerUserKeys" in caplog.text
    for secret in (keys["secretkey"], keys["apikey"], admin.key.api_key, admin.key.secret, "signature"):
        assert secret not in caplog.text


PARAMS = sorted({param.name for command in catalogue() for param in command.params})
VALUES = (
    st.text(max_size=30)
    | st.integers().map(str)
    | st.sampled_from(
        ["true", "-1", "0", "tcp", "10.1.0.5", "fd00::/8", "::", "Basic", "0.0.0.0/0", "a,b", ",", "[", "%"]
    )
    | st.uuids().map(str)
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    command=st.sampled_from([command.name for command in catalogue()]),
    params=st.dictionaries(st.sampled_from(PARAMS) | st.text(max_size=10), VALUES, max_size=12),
)
def test_anything_is_answered(
    admin: Client, caplog: pytest.LogCaptureFixture, command: str, params: dict[str, str]
) -> None:
    caplog.clear()
    answer = admin.request({"command": command, **{k: v for k, v in params.items() if k.lower() != "command"}})
    assert answer.status in {200, 401, 430, 431, 530, 531, 532, 533, 536}
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_answered(admin: Client, data: bytes) -> None:
    query = "".join(chr(byte) for byte in data if chr(byte) not in "\r\n#")
    assert admin.raw(quote(query, safe="%&=+[]")).status in {401, 430}


def test_the_reference_is_what_is_declared() -> None:
    assert (Path(reference_module.__file__).with_name("COMMANDS.md")).read_text() == reference_module.reference(), (
        "run `python -m sgctl.api.reference > sgctl/api/COMMANDS.md`"
    )
