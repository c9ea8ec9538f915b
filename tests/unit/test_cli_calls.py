# SPDX-License-Identifier: Apache-2.0
"""Commands of the API through `sgctl`, against a server that speaks the API's envelopes."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.cli_server import APIS, Api, api, param, serving

PENDING = {"jobid": "job-1", "jobstatus": 0, "jobresultcode": 0}
ZONE = {"id": "z-1", "name": "zone1", "networktype": "Basic", "allocationstate": "Enabled", "tags": []}


def done(**result: Any) -> dict[str, Any]:
    return {"jobid": "job-1", "jobstatus": 1, "jobresultcode": 0, "jobresulttype": "object", "jobresult": result}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Api]:
    with serving(tmp_path) as served:
        yield served


# What is sent


def test_the_missions_example_is_sent_as_it_is_typed(cloud: Api) -> None:
    rules = [
        {"ruleid": f"r-{name}", "protocol": "tcp", "startport": 12489, "endport": 12489, "tags": []}
        | {"account": "operator", "securitygroupname": name}
        for name in ("nagios", "cacti")
    ]
    group = {"id": "g-1", "name": "web", "account": "shop", "ingressrule": rules, "egressrule": []}
    cloud.job("authorizeSecurityGroupIngress", PENDING, done(securitygroup=group))

    line = (
        "authorize securitygroupingress securitygroupname=web account=operator "
        "usersecuritygrouplist=nagios,cacti protocol=tcp startport=12489"
    )
    result = cloud.run(*line.split())

    assert (result.status, result.err) == (0, "")
    assert cloud.asked("authorizeSecurityGroupIngress") == [
        {
            "securitygroupname": "web",
            "account": "operator",
            "usersecuritygrouplist": "nagios,cacti",
            "protocol": "tcp",
            "startport": "12489",
        }
    ]
    assert "tcp 12489  operator/cacti   r-cacti" in result.out
    assert "tcp 12489  operator/nagios  r-nagios" in result.out


def test_map_syntax_is_sent_as_it_is_typed(cloud: Api) -> None:
    cloud.job("authorizeSecurityGroupIngress", done(success=True))
    params = {"usersecuritygrouplist[0].account": "operator", "usersecuritygrouplist[0].group": "na gios ~*[é"}
    cloud.run("authorize", "securitygroupingress", *(f"{name}={value}" for name, value in params.items()))
    assert cloud.asked("authorizeSecurityGroupIngress") == [params]


@pytest.mark.parametrize("words", ["list zones", "list Zones", "LIST ZONES", "listZones", "listzones"])
def test_the_catalogue_gives_the_true_name(cloud: Api, words: str) -> None:
    cloud.answer("listZones", {"count": 1, "zone": [ZONE]})
    assert cloud.run(*words.split()).status == 0
    assert cloud.calls[-1] == ("listZones", {})


def test_a_command_that_only_the_api_knows(cloud: Api) -> None:
    cloud.answer("listApis", {"count": 1, "api": [api("paintShedInBlueColour")]})
    cloud.answer("paintShedInBlueColour", {"success": True})
    assert cloud.run("paint", "shedinbluecolour").out == "done\n"


@pytest.mark.parametrize("name", ["command", "apiKey", "SIGNATURE", "response", "expires"])
def test_the_clients_own_parameters_cannot_be_given(cloud: Api, name: str) -> None:
    result = cloud.run("list", "zones", f"{name}=x")
    assert result.status == 2
    assert name in result.err and cloud.calls == []


# The catalogue


def test_the_catalogue_is_asked_for_once(cloud: Api) -> None:
    cloud.answer("listZones", {"count": 1, "zone": [ZONE]})
    cloud.run("list", "zones")
    cloud.run("list", "zones")
    assert [name for name, _ in cloud.calls] == ["listApis", "listZones", "listZones"]


@pytest.mark.parametrize("content", ["", "[", "{}", "[1]", '[{"nom": 1}]', "null"])
def test_a_broken_cache_is_replaced(cloud: Api, tmp_path: Path, content: str) -> None:
    cloud.answer("listZones", {})
    cloud.run("list", "zones")
    (cache,) = (tmp_path / "sgctl").iterdir()
    cache.write_text(content)
    assert cloud.run("list", "zones").status == 0
    assert len(cloud.asked("listApis")) == 2


def test_a_cache_that_cannot_be_written_is_done_without(cloud: Api, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cloud.answer("listZones", {})
    assert cloud.run("list", "zones", XDG_CACHE_HOME=str(tmp_path / "file")).status == 0


def test_a_newer_api_is_noticed_when_a_command_or_parameter_is_unknown(cloud: Api) -> None:
    cloud.answer("listZones", {})
    cloud.run("list", "zones")
    cloud.answer("listApis", {"count": 2, "api": [api("listZones", param("colour")), api("listSheds")]})
    cloud.answer("listSheds", {})
    assert cloud.run("list", "zones", "colour=blue").status == 0
    assert cloud.run("list", "sheds").status == 0
    assert len(cloud.asked("listApis")) == 2


def test_without_listapis_the_built_in_names_serve(cloud: Api) -> None:
    cloud.answer("listApis", {"errortext": "not for you"}, status=401)
    cloud.job("authorizeSecurityGroupIngress", done(success=True))
    assert cloud.run("authorize", "securitygroupingress", "anything=goes").status == 0


def test_a_command_that_listapis_leaves_out_is_sent_and_the_api_decides(cloud: Api) -> None:
    result = cloud.run("create", "zone", "name=z")
    assert result.status == 1
    assert "error 401: The given command createZone does not exist" in result.err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("list zoness", "did you mean `list zones`?"),
        ("authorise securitygroupingress", "did you mean `authorize securitygroupingress`"),
        ("list unicorns", "`sgctl help list` lists what can follow"),
        ("frobnicate", "`sgctl help` lists all"),
    ],
)
def test_an_unknown_command(cloud: Api, words: str, hint: str) -> None:
    result = cloud.run(*words.split())
    assert result.status == 2
    assert f"there is no command `{words}`; " in result.err and hint in result.err


def test_a_misspelt_parameter_is_refused_as_the_api_would_ignore_it(cloud: Api) -> None:
    result = cloud.run("authorize", "securitygroupingress", "securitygroupname=web", "protocoll=tcp")
    assert result.status == 2
    assert result.err == (
        "sgctl: error: `authorize securitygroupingress` has no parameter protocoll; did you mean protocol?\n"
    )
    assert cloud.asked("authorizeSecurityGroupIngress") == []


# Jobs


def test_a_job_is_waited_for(cloud: Api) -> None:
    cloud.job("authorizeSecurityGroupIngress", PENDING, PENDING, done(success=True))
    result = cloud.run("authorize", "securitygroupingress", "securitygroupname=web")
    assert (result.status, result.out, result.err) == (0, "done\n", "")
    assert cloud.asked("queryAsyncJobResult") == [{"jobid": "job-1"}] * 3


def test_a_failed_job_is_a_failure(cloud: Api) -> None:
    failure = {"errorcode": 431, "errortext": "Unable to find security group web"}
    failed = {**PENDING, "jobstatus": 2, "jobresultcode": 530, "jobresult": failure}
    cloud.job("authorizeSecurityGroupIngress", PENDING, failed)
    result = cloud.run("authorize", "securitygroupingress", "securitygroupname=web", "-o", "json")
    assert (result.status, result.out) == (1, "")
    assert result.err == "sgctl: error 431: Unable to find security group web\n"


def test_no_wait_prints_the_job(cloud: Api) -> None:
    cloud.answer("authorizeSecurityGroupIngress", {"jobid": "job-1"})
    result = cloud.run("authorize", "securitygroupingress", "securitygroupname=web", "--no-wait")
    assert (result.status, result.out) == (0, "jobid  job-1\n")


def test_a_job_that_outlasts_the_patience(cloud: Api) -> None:
    cloud.job("authorizeSecurityGroupIngress", PENDING)
    result = cloud.run("authorize", "securitygroupingress", "securitygroupname=web", "--job-timeout", "0.2")
    assert result.status == 1
    assert "job job-1 has not ended after 0.2 s" in result.err
    assert "`sgctl query asyncjobresult jobid=job-1`" in result.err


def test_asking_for_a_job_shows_its_state(cloud: Api) -> None:
    cloud.answer("queryAsyncJobResult", PENDING)
    assert cloud.run("query", "asyncjobresult", "jobid=job-1", "-o", "json").json == PENDING


# Failures


def test_a_refusal_by_the_api(cloud: Api) -> None:
    text = "Unable to execute API command createsecuritygroup due to missing parameter name"
    cloud.answer("createSecurityGroup", {"errortext": text}, status=431)
    result = cloud.run("create", "securitygroup")
    assert (result.status, result.out, result.err) == (1, "", f"sgctl: error 431: {text}\n")


def test_wrong_keys(cloud: Api) -> None:
    result = cloud.run("list", "zones", CLOUDSTACK_SECRET="wrong")
    assert result.status == 1
    assert "error 401: unable to verify user credentials" in result.err
    assert "check the key and the secret in the environment" in result.err


def test_control_characters_do_not_reach_the_terminal(cloud: Api) -> None:
    cloud.answer("listZones", {"errortext": "\x1b[31mred\x07"}, status=431)
    assert cloud.run("list", "zones").err == "sgctl: error 431: \\x1b[31mred\\x07\n"


def test_nobody_there(tmp_path: Path) -> None:
    with serving(tmp_path) as gone:
        pass
    result = gone.run("list", "zones")
    assert result.status == 1
    assert f"cannot reach {gone.url}/client/api: connection refused" in result.err


def test_a_wrong_path_is_told_from_a_refusal(cloud: Api) -> None:
    result = cloud.run("list", "zones", CLOUDSTACK_ENDPOINT=f"{cloud.url}/api")
    assert result.status == 1
    assert f"{cloud.url}/api answered 404, but not as CloudStack's API does" in result.err


# Forms of the result


def test_an_empty_list_leaves_stdout_empty(cloud: Api) -> None:
    cloud.answer("listZones", {})
    result = cloud.run("list", "zones")
    assert (result.status, result.out, result.err) == (0, "", "nothing found\n")


def test_a_list_as_a_table(cloud: Api) -> None:
    cloud.answer("listZones", {"count": 1, "zone": [ZONE]})
    assert cloud.run("list", "zones").out == (
        "name   networktype  allocationstate  id\n"
        "zone1  Basic        Enabled          z-1\n"
    )  # fmt: skip


@pytest.mark.parametrize("argv", [["filter=id,name"], ["filter= id , name "]])
def test_filter_chooses_columns(cloud: Api, argv: list[str]) -> None:
    cloud.answer("listZones", {"count": 1, "zone": [ZONE]})
    assert cloud.run("list", "zones", *argv).out == "id   name\nz-1  zone1\n"
    assert cloud.run("list", "zones", *argv, "-o", "json").json == {
        "count": 1,
        "zone": [{"id": "z-1", "name": "zone1"}],
    }
    assert cloud.asked("listZones") == [{}, {}]


@pytest.mark.parametrize("output", ["table", "json"])
def test_a_filter_for_what_no_object_has_is_told(cloud: Api, output: str) -> None:
    cloud.answer("listZones", {"count": 1, "zone": [ZONE]})
    done = cloud.run("list", "zones", "filter=id,nmae", "-o", output)
    assert done.status == 0
    assert done.err == f"filter: nothing here has nmae; there are {', '.join(ZONE)}\n"
    assert cloud.run("list", "zones", "filter=id,name", "-o", output).err == ""


def test_filter_on_a_single_object(cloud: Api) -> None:
    cloud.answer("createSecurityGroup", {"securitygroup": {"id": "g-1", "name": "web", "ingressrule": []}})
    assert cloud.run("create", "securitygroup", "name=web", "filter=id").out == "id  g-1\n"


@pytest.mark.parametrize(
    "text", ["plain", "no", "1.0", "- x", "a: b # c", "'", '"', "line\nbreak", "ä€😀", "", " ", "null", "0x1", "@"]
)
def test_json_and_yaml_carry_every_value(cloud: Api, text: str) -> None:
    content = {"count": 1, "zone": [{**ZONE, "name": text, "n": 1, "f": True, "none": None}]}
    cloud.answer("listZones", content)
    assert cloud.run("list", "zones", "-o", "json").json == content
    assert yaml.safe_load(cloud.run("list", "zones", "--output", "yaml").out) == content


def test_a_list_longer_than_a_page_is_fetched_to_its_end(cloud: Api) -> None:
    groups = [{"id": str(number), "name": f"g{number}"} for number in range(5)]

    def page(params: dict[str, str]) -> tuple[int, dict[str, Any]]:
        start = (int(params.get("page", 1)) - 1) * 2
        return 200, {"count": 5, "securitygroup": groups[start : start + 2]}

    cloud.answers["listSecurityGroups"] = page
    result = cloud.run("list", "securitygroups", "-o", "json")
    assert result.json == {"count": 5, "securitygroup": groups}
    assert cloud.asked("listSecurityGroups") == [{}, {"page": "2", "pagesize": "2"}, {"page": "3", "pagesize": "2"}]


def test_a_list_that_shrinks_meanwhile_ends(cloud: Api) -> None:
    cloud.answers["listSecurityGroups"] = lambda params: (
        (200, {"count": 5}) if "page" in params else (200, {"count": 5, "securitygroup": [{"name": "a"}]})
    )
    result = cloud.run("list", "securitygroups")
    assert result.status == 0
    assert result.err == "1 of 5 shown; page=N pagesize=M shows others\n"


def test_a_page_says_that_there_is_more(cloud: Api) -> None:
    cloud.answer("listSecurityGroups", {"count": 3, "securitygroup": [{"name": "a"}, {"name": "b"}]})
    result = cloud.run("list", "securitygroups", "page=1", "pagesize=2")
    assert result.err == "2 of 3 shown; page=N pagesize=M shows others\n"


# Help


def test_help_on_a_command_lists_its_parameters_required_first(cloud: Api) -> None:
    lines = cloud.run("help", "create", "securitygroup").out.splitlines()
    assert lines[0] == "sgctl create securitygroup key=value ...    (createSecurityGroup)"
    assert lines[-2].split()[:3] == ["name", "string", "required"]
    assert lines[-1].split()[:2] == ["description", "string"]
    assert cloud.run("create", "securitygroup", "--help").out.splitlines() == lines


def test_help_on_a_verb_lists_its_commands(cloud: Api) -> None:
    out = cloud.run("help", "list").out
    listed = [entry["name"] for entry in APIS if entry["name"].startswith("list")]
    assert [line.split()[1] for line in out.splitlines()[1:]] == sorted(name[4:].lower() for name in listed)


@pytest.mark.parametrize("own", ["flows", "ports", "trace", "explain", "drops", "costs", "help", "completion"])
def test_help_on_the_commands_own(cloud: Api, own: str) -> None:
    assert cloud.run("help", own).out.startswith(f"sgctl {own}")
    assert own in cloud.run("help").out


def test_help_needs_no_api(tmp_path: Path) -> None:
    with serving(tmp_path) as gone:
        pass
    assert "authorize securitygroupingress" in gone.run("help", "authorize").out
    bare = gone.run("help", "authorize", CLOUDSTACK_ENDPOINT="", CLOUDSTACK_KEY="")
    assert "authorize securitygroupegress" in bare.out


def test_help_on_a_command_of_others(cloud: Api) -> None:
    result = cloud.run("help", "create", "zone")
    assert (result.status, result.err) == (1, "sgctl: error: the API does not offer createZone to this account\n")


def test_help_on_what_is_not_there(cloud: Api) -> None:
    result = cloud.run(*shlex.split("help list zonez"))
    assert (result.status, result.out) == (2, "")
    assert "did you mean `list zones`" in result.err
