# SPDX-License-Identifier: Apache-2.0
"""The API as a process over a real database: one server, two of them, and ones that die."""

import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from cs import CloudStack, CloudStackApiException

from sgctl.dbserver import DatabaseServer
from sgctl.model import Nic
from sgctl.store import Database, Update
from tests.functional.api_servers import Server, account, at, catch_up, check_database, deploy, pod, until

NOBODY = "7cc5c9e0-dd26-5b95-8df3-d973291584de"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two API servers over one database, started at the same time as far as that goes."""
    directory = tmp_path_factory.mktemp("api")
    first = Server(directory / "one")
    second = Server(directory / "two", db=first.remote)
    try:
        first.start()
        until(lambda: (first.directory / "sg.sock").exists(), "database")
        second.start()
        yield first.ready(), second.ready()
    finally:
        second.stop()
        first.stop()


@pytest.fixture(scope="module")
def admin(servers: tuple[Server, Server]) -> CloudStack:
    """The root admin, by whichever server has made it."""
    owner = next(server for server in servers if (server.directory / "admin.ini").exists())
    return owner.admin()


def all_catch_up(servers: tuple[Server, Server], admin: CloudStack) -> None:
    """Both know what either has been told."""
    for server in servers:
        catch_up(at(server, admin))


def code(error: pytest.ExceptionInfo[CloudStackApiException]) -> int:
    return int(error.value.error["errorcode"])


def test_one_server_makes_the_admin(servers: tuple[Server, Server]) -> None:
    files = [path for server in servers if (path := server.directory / "admin.ini").exists()]
    assert len(files) == 1
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
    assert sum("made the root admin account" in server.log for server in servers) == 1


def test_what_one_server_did_the_other_tells(servers: tuple[Server, Server], admin: CloudStack) -> None:
    here = account(admin, servers[0].endpoint)
    there = at(servers[1], here)
    group = here.createSecurityGroup(name="web")["securitygroup"]
    job = here.authorizeSecurityGroupIngress(
        securitygroupid=group["id"], protocol="tcp", startport=22, endport=22, cidrlist="0.0.0.0/0,::/0"
    )
    result = until(lambda: there_result(there, job["jobid"]), "job")
    assert len(result["jobresult"]["securitygroup"]["ingressrule"]) == 2
    (shown,) = there.listSecurityGroups(id=group["id"])["securitygroup"]
    assert len(shown["ingressrule"]) == 2


def there_result(user: CloudStack, job: str) -> Any:
    """A job's answer, None as long as this server has not heard of it."""
    try:
        return user.queryAsyncJobResult(jobid=job)
    except CloudStackApiException:
        return None


def test_errors_reach_the_client(servers: tuple[Server, Server], admin: CloudStack) -> None:
    user = account(admin, servers[0].endpoint)
    with pytest.raises(CloudStackApiException) as refused:
        user.createZone(name="z")
    assert code(refused) == 401
    with pytest.raises(CloudStackApiException) as refused:
        user.authorizeSecurityGroupIngress(
            securitygroupname="default", cidrlist="0.0.0.0/0", protocol="tcp", startport=9, endport=8, fetch_result=True
        )
    assert "greater than endport" in str(refused.value)
    answer = requests.get(servers[0].endpoint, params={"command": "listZones", "response": "json"}, timeout=60)
    assert (answer.status_code, answer.headers["X-Description"]) == (
        401,
        "unable to verify user credentials and/or request signature",
    )


def test_get_and_post_and_lists_in_pages(servers: tuple[Server, Server], admin: CloudStack) -> None:
    user = account(admin, servers[0].endpoint)
    posting = CloudStack(endpoint=servers[0].endpoint, key=user.key, secret=user.secret, method="post")
    names = {f"group ä~[{number}]*+" for number in range(30)}
    for name in names:
        posting.createSecurityGroup(name=name, description="a\u00a0b & c=d")
    groups = user.listSecurityGroups(fetch_list=True, page=1, pagesize=7)
    assert {group["name"] for group in groups} == names | {"default"}


def test_one_address_is_never_given_twice(servers: tuple[Server, Server], admin: CloudStack) -> None:
    zone = pod(admin, 11, size=40)
    users = [account(admin, server.endpoint) for server in servers for _ in range(2)]
    all_catch_up(servers, admin)

    def try_deploy(number: int) -> str:
        try:
            vm = deploy(users[number % len(users)], zone)
        except CloudStackApiException as error:
            return str(error.error["errorcode"])
        return str(vm["nic"][0]["ipaddress"])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(try_deploy, range(48)))
    given = [answer for answer in answers if "." in answer]
    assert len(given) == len(set(given)) == 40
    assert [answer for answer in answers if "." not in answer] == ["533"] * 8


def test_one_name_is_never_given_twice(servers: tuple[Server, Server], admin: CloudStack) -> None:
    zone = pod(admin, 13, size=40)
    user = account(admin, servers[0].endpoint)
    users = [user, at(servers[1], user)]
    all_catch_up(servers, admin)

    def try_deploy(number: int) -> str:
        try:
            deploy(users[number % 2], zone, name=f"web{number // 4}")
        except CloudStackApiException as error:
            return str(error.error["errortext"])
        return ""

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(try_deploy, range(24)))
    all_catch_up(servers, admin)
    assert sum(not answer for answer in answers) == 6
    assert all("already" in answer for answer in answers if answer)
    assert sorted(vm["name"] for vm in user.listVirtualMachines()["virtualmachine"]) == [f"web{n}" for n in range(6)]


def test_one_of_many_makes_the_group(servers: tuple[Server, Server], admin: CloudStack) -> None:
    user = account(admin, servers[0].endpoint)
    both = [user, at(servers[1], user)]
    all_catch_up(servers, admin)

    def create(number: int) -> bool:
        try:
            both[number % 2].createSecurityGroup(name="WEB" if number % 3 else "web")
        except CloudStackApiException as error:
            assert error.error["errorcode"] == 431
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(24))) == 1


def test_one_of_many_makes_the_user(servers: tuple[Server, Server], admin: CloudStack) -> None:
    both = [admin, at(servers[1], admin)]
    person = {"email": "a@example.org", "firstname": "A", "lastname": "B", "password": "-", "username": "twin"}

    def create(number: int) -> bool:
        try:
            both[number % 2].createAccount(accounttype=0, account=f"account of twin {number}", **person)
        except CloudStackApiException as error:
            assert error.error["errorcode"] == 431
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(12))) == 1


def test_parallel_changes_of_a_nic_leave_the_right_members(servers: tuple[Server, Server], admin: CloudStack) -> None:
    zone = pod(admin, 12, size=100)
    user = account(admin, servers[0].endpoint)
    both = [user, at(servers[1], user)]
    groups = [user.createSecurityGroup(name=f"g{n}")["securitygroup"]["id"] for n in range(4)]
    vm = deploy(user, zone)
    nic = vm["nic"][0]["id"]
    all_catch_up(servers, admin)

    def change(number: int) -> bool:
        try:
            if number % 2:
                both[number // 2 % 2].updateVirtualMachine(id=vm["id"], securitygroupids=groups[number % 4])
            else:
                both[number // 2 % 2].addIpToNic(nicid=nic, fetch_result=True)
        except CloudStackApiException as error:
            assert error.error["errorcode"] == 530, error
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(change, range(40)))
    all_catch_up(servers, admin)
    (shown,) = user.listNics(virtualmachineid=vm["id"])["nic"]
    assert len(shown["secondaryip"]) == sum(done[::2])
    check_database(servers[0])


def test_a_killed_server_loses_nothing_that_it_answered(tmp_path: Path) -> None:
    with Server(tmp_path / "one") as server:
        user = account(server.admin(), server.endpoint, "web")
        answered = []
        with ThreadPoolExecutor(2) as pool:

            def create(number: int) -> str:
                return str(user.createSecurityGroup(name=f"g{number}")["securitygroup"]["name"])

            futures = [pool.submit(create, number) for number in range(400)]
            until(lambda: sum(future.done() for future in futures) > 50, "some groups")
            server.stop(signal.SIGKILL)
            for future in futures:
                try:
                    answered.append(future.result(30))
                except (requests.RequestException, CloudStackApiException):
                    pass
        credentials = (server.directory / "admin.ini").read_text()
        server.start().ready()
        assert (server.directory / "admin.ini").read_text() == credentials
        groups = {group["name"] for group in user.listSecurityGroups(pagesize=-1)["securitygroup"]}
        assert len(answered) > 50
        assert set(answered) <= groups


def host_of(admin: CloudStack, vm: str) -> str:
    """Where a VM is, as a server tells its root admin."""
    (found,) = admin.listVirtualMachines(id=vm, listall=True)["virtualmachine"]
    return str(found.get("hostname", ""))


def test_a_job_that_a_killed_server_worked_on_is_failed(tmp_path: Path) -> None:
    database = DatabaseServer(tmp_path / "db")
    database.directory.mkdir()
    with database, Server(tmp_path / "one", db=database.remote) as server:
        user = account(server.admin(), server.endpoint, "web")
        vm = deploy(user, pod(server.admin(), 13, size=5))
        with Database(database.remote) as agent:
            assert agent.wait_insync(30)
            agent.write([Update(Nic, vm["nic"][0]["id"], {"host": "nowhere", "state": "up"})])
        until(lambda: host_of(server.admin(), vm["id"]) == "nowhere", "the server to know the host")
        job = user.authorizeSecurityGroupIngress(securitygroupname="default", cidrlist="10.0.0.0/8", wait="true")
        assert user.queryAsyncJobResult(jobid=job["jobid"])["jobstatus"] == 0
        server.stop(signal.SIGKILL)
        server.start().ready()
        found = user.queryAsyncJobResult(jobid=job["jobid"])
        assert (found["jobstatus"], found["jobresultcode"]) == (2, 530)
        assert "ended before the job did" in found["jobresult"]["errortext"]
        assert len(user.listSecurityGroups()["securitygroup"][0]["ingressrule"]) == 1


def test_tls(tmp_path: Path) -> None:
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=api"]
    files = ["-keyout", key, "-out", cert, "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*request, *files], check=True, capture_output=True)
    with Server(tmp_path / "one", "--api-cert", cert, "--api-key", key) as server:
        admin = server.admin()
        admin.verify = cert
        with socket.create_connection(("127.0.0.1", server.port)):
            assert admin.listDomains()["count"] == 1
        with pytest.raises(requests.ConnectionError):
            requests.get(server.endpoint.replace("https", "http"), timeout=60)
        assert "Traceback" not in server.log


def test_without_its_database_the_api_still_reads(tmp_path: Path) -> None:
    database = DatabaseServer(tmp_path / "db")
    database.directory.mkdir()
    database.start()
    try:
        with Server(tmp_path / "one", db=database.remote) as server:
            user = account(server.admin(), server.endpoint, "web")
            database.stop()
            assert user.listSecurityGroups()["count"] == 1
            for write in (
                lambda: user.createSecurityGroup(name="db"),
                lambda: user.revokeSecurityGroupIngress(id=NOBODY),
                lambda: user.authorizeSecurityGroupIngress(securitygroupname="default", protocol="x"),
                lambda: user.authorizeSecurityGroupIngress(securitygroupname="default", cidrlist="10.0.0.0/8"),
            ):
                with pytest.raises(CloudStackApiException) as refused:
                    write()
                assert code(refused) in (431, 534)
            database = DatabaseServer(tmp_path / "db")
            database.start()
            until(lambda: created(user, "db"), "a write")
            assert "Traceback" not in server.log
    finally:
        database.stop()


def created(user: CloudStack, name: str) -> bool:
    """Whether a group could be created now."""
    try:
        user.createSecurityGroup(name=name)
    except CloudStackApiException as error:
        assert error.error["errorcode"] == 534
        return False
    return True


def test_an_api_that_has_never_seen_its_database_says_so(tmp_path: Path) -> None:
    remote = f"unix:{tmp_path}/sg.sock"
    server = Server(tmp_path / "api", db=remote).start()
    try:
        until(lambda: "runs sgctl.api" in server.log, "API server")

        def asked() -> float:
            """For how many seconds a client waits to be told so."""
            began = time.monotonic()
            answer = requests.get(f"{server.endpoint}?command=listZones&response=json", timeout=60)
            assert answer.status_code == 534
            assert "database" in answer.json()["errorresponse"]["errortext"]
            return time.monotonic() - began

        asked()
        assert min(asked() for _ in range(3)) < 3, "only the first ones wait"
        with DatabaseServer(tmp_path):
            server.ready()
            assert requests.get(f"{server.endpoint}?command=listZones&response=json", timeout=60).status_code == 401
            server.stop()
    finally:
        server.stop()
