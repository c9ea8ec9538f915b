# SPDX-License-Identifier: Apache-2.0
"""API servers as an operator starts them, and the `cs` client from PyPI to speak with them."""

import configparser
import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from cs import CloudStack, CloudStackApiException

from sgctl.contradictions import contradictions
from sgctl.model import Address, Member, Nic, Vm, member_id
from sgctl.signing import signature
from sgctl.store import Database
from tests.functional.ports import free_port

PROGRAM = Path(sys.executable).with_name("sgctl-manager")
DEADLINE = 60.0


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for something to be true."""
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {DEADLINE} s"
        time.sleep(0.02)
    return value


class Server:
    """A sgctl-manager that runs the API only, on a database of its own or on `db`; `prefix` runs it: setpriv …"""

    def __init__(self, directory: Path, *options: str, db: str = "", prefix: Sequence[str] = ()) -> None:
        self.directory, self.options, self.db, self.port = directory, options, db, free_port()
        self._prefix = prefix
        directory.mkdir(exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def remote(self) -> str:
        """Where another server finds the database."""
        return self.db or f"unix:{self.directory}/sg.sock"

    @property
    def endpoint(self) -> str:
        """The API's URL."""
        scheme = "https" if "--api-cert" in self.options else "http"
        return f"{scheme}://127.0.0.1:{self.port}/client/api"

    @property
    def log(self) -> str:
        """What it has said since its last start."""
        return (self.directory / "log").read_text()

    def start(self) -> Self:
        """Start it, and do not wait."""
        options = ["--state-dir", str(self.directory), "--api-port", str(self.port), "--host", self.directory.name]
        options += [*self.options, *(["--db", self.db] if self.db else [])]
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen([*self._prefix, PROGRAM, *options, "sgctl.api"], stdout=log, stderr=log)
        return self

    def ready(self) -> Self:
        """Wait until it serves."""
        until(lambda: "the API is at" in self.log or self._ended(), "API server")
        assert not self._ended(), self.log
        return self

    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    @property
    def memory(self) -> int:
        """Bytes of main memory that the process has."""
        assert self._process is not None
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def stop(self, sig: int = signal.SIGTERM) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(sig)
            self._process.wait(DEADLINE)
            self._process = None

    def __enter__(self) -> Self:
        return self.start().ready()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def admin(self) -> CloudStack:
        """A client for the root admin, by what is in admin.ini."""
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(self.directory / "admin.ini")
        assert parser["cloudstack"]["endpoint"] == self.endpoint
        return client(self.endpoint, parser["cloudstack"]["key"], parser["cloudstack"]["secret"])


def client(endpoint: str, key: str, secret: str) -> CloudStack:
    """A `cs` client that waits for jobs without delay."""
    return CloudStack(endpoint=endpoint, key=key, secret=secret, poll_interval=0.01, timeout=DEADLINE)


class Caller:
    """A client that costs little: one connection, one thread."""

    def __init__(self, port: int, user: CloudStack) -> None:
        self._user = user
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)

    def call(self, command: str, **params: str) -> tuple[int, Any]:
        """Status and content of an answer."""
        signed = {"command": command, "response": "json", "apiKey": self._user.key, **params}
        signed["signature"] = signature(signed, self._user.secret)
        self._connection.request("GET", f"/client/api?{urlencode(signed)}")
        response = self._connection.getresponse()
        (content,) = json.loads(response.read()).values()
        return response.status, content

    def ok(self, command: str, **params: str) -> Any:
        """The content of an answer that must be a success."""
        status, content = self.call(command, **params)
        assert status == 200, content
        return content

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


_NUMBERS = itertools.count(1)


def account(admin: CloudStack, endpoint: str, name: str = "") -> CloudStack:
    """A new account, and a client for it."""
    name = name or f"account{next(_NUMBERS)}-{os.getpid()}"
    person = {"email": "a@example.org", "firstname": "A", "lastname": "B", "password": "-"}
    user = admin.createAccount(accounttype=0, username=name, **person)["account"]["user"][0]
    keys = admin.registerUserKeys(id=user["id"])["userkeys"]
    return client(endpoint, keys["apikey"], keys["secretkey"])


def at(server: Server, user: CloudStack) -> CloudStack:
    """The same user at another server."""
    return client(server.endpoint, user.key, user.secret)


def catch_up(admin: CloudStack) -> None:
    """Let the server that this root admin asks know all that others have answered: its own write comes after that."""
    until(lambda: _writes(admin), "a server to know its admin")


def _writes(admin: CloudStack) -> bool:
    name = f"caught up {next(_NUMBERS)}"
    try:
        admin.createSecurityGroup(name=name)
    except CloudStackApiException as error:
        assert error.error["errorcode"] == 401, error
        return False
    admin.deleteSecurityGroup(name=name)
    return True


def pod(admin: CloudStack, number: int, *, size: int) -> Any:
    """A zone with one pod that has room for so many VMs; the zone."""
    zone = admin.createZone(
        name=f"zone{number}", dns1="192.0.2.1", internaldns1=f"10.{number}.0.2", networktype="Basic"
    )["zone"]
    subnet = {"gateway": f"10.{number}.0.1", "netmask": "255.255.0.0"}
    servers = {"startip": f"10.{number}.0.2", "endip": f"10.{number}.0.9"}
    pod = admin.createPod(name="pod1", zoneid=zone["id"], **subnet, **servers)["pod"]
    admin.createVlanIpRange(podid=pod["id"], startip=f"10.{number}.1.0", endip=f"10.{number}.1.{size - 1}")
    return zone


def deploy(user: CloudStack, zone: Any, **params: Any) -> Any:
    """A new VM."""
    template = user.listTemplates(templatefilter="all")["template"][0]["id"]
    offering = user.listServiceOfferings()["serviceoffering"][0]["id"]
    fixed = {"zoneid": zone["id"], "templateid": template, "serviceofferingid": offering}
    return user.deployVirtualMachine(**fixed, **params, fetch_result=True)["virtualmachine"]


def check_database(server: Server) -> None:
    """Members are what NICs and addresses say, and no NIC is without a group."""
    with Database(server.remote) as database:
        assert database.wait_insync(30)
        reads = database.replica
        nics = reads.all(Nic)
        expected = {
            Member(id=member_id(group, row.address), group=group, nic=nic.id, address=row.address)
            for nic in nics
            for row in reads.find(Address, nic=nic.id)
            for group in nic.groups
        }
        assert set(reads.all(Member)) == expected
        assert list(contradictions(reads)) == []
        assert all(nic.groups for nic in nics)
        assert {nic.vm for nic in nics} == {vm.id for vm in reads.all(Vm) if vm.wanted != "Destroyed"}
