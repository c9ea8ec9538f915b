# SPDX-License-Identifier: Apache-2.0
"""The API over a database in memory: the store's own replica, and writes that go straight into it."""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import webob

from sgctl.api.catalogue import catalogue
from sgctl.api.execute import Executor
from sgctl.api.settings import Settings
from sgctl.api.webapp import PATH, Application
from sgctl.errors import Stale
from sgctl.model import TABLES, Account, Group, Host, Key, User
from sgctl.quotas import Quotas
from sgctl.signing import signature
from sgctl.store import Absent, Change, Condition, Delete, Insert, Replica, Update

NOW = 1_800_000_000.0


class Memory:
    """What the API needs of a database. Unique indexes are not its business; the functional tests have a real one.

    before_next_write: what somebody else does just before the next write.
    """

    def __init__(self) -> None:
        self.replica = Replica(TABLES)
        self.writes = 0
        self.before_next_write: Callable[[], None] | None = None

    def write(self, changes: Sequence[Change], guards: Sequence[Condition] = (), *, comment: str = "") -> None:
        others, self.before_next_write = self.before_next_write, None
        if others is not None:
            others()
        for guard in guards:
            if isinstance(guard, Absent):
                if self.replica.find(guard.kind, **{guard.column: guard.value}):
                    raise Stale(f"{guard.kind.TABLE} {guard.value}")
                continue
            row = self.replica.get(guard.kind, guard.id)
            if row is None or any(getattr(row, name) != value for name, value in guard.values.items()):
                raise Stale(f"{guard.kind.TABLE} {guard.id}")
        news: dict[Any, dict[str, Any]] = {kind: {} for kind in TABLES}
        for change in changes:
            match change:
                case Insert(record):
                    news[type(record)][record.id] = record
                case Update(kind, id, values):
                    row = self.replica.get(kind, id)
                    assert row is not None
                    news[kind][id] = replace(row, **values)
                case Delete(kind, id):
                    news[kind][id] = None
        self.replica.announce(self.replica.absorb(news))
        self.writes += 1


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: its status, X-Description, the one key of its body and what is under it."""

    status: int
    description: str
    key: str
    content: dict[str, Any]


class Client:
    """Calls commands with somebody's key, or without."""

    def __init__(self, application: Application, account: Account, user: User, key: Key) -> None:
        self._application = application
        self.account, self.user, self.key = account, user, key

    def call(self, command: str, **params: object) -> Answer:
        """A signed GET request."""
        return self.request({"command": command, **{name: str(value) for name, value in params.items()}})

    def request(self, params: dict[str, str], *, method: str = "GET") -> Answer:
        """A request with these parameters, signed."""
        signed = {"response": "json", **params, "apiKey": self.key.api_key}
        signed["signature"] = signature(signed, self.key.secret)
        return self.raw(urlencode(signed), method=method)

    def raw(self, query: str, *, method: str = "GET", path: str = PATH) -> Answer:
        """A request with just this query string or form."""
        if method == "POST":
            content_type = "application/x-www-form-urlencoded"
            http = webob.Request.blank(path, method=method, body=query.encode(), content_type=content_type)
        else:
            http = webob.Request.blank(f"{path}?{query}", method=method)
        response = http.get_response(self._application)
        assert response.content_type == "application/json"
        ((key, content),) = json.loads(response.body).items()
        return Answer(response.status_int, response.headers.get("X-Description", ""), key, content)

    def ok(self, command: str, **params: object) -> Any:
        """The content of a successful answer; of an asynchronous command the result of its job."""
        answer = self.call(command, **params)
        assert answer.status == 200, answer
        if "jobid" not in answer.content or command == "queryAsyncJobResult":
            return answer.content
        job = self.call("queryAsyncJobResult", jobid=answer.content["jobid"]).content
        assert job["jobstatus"] == 1, job
        return job["jobresult"]

    def refused(self, command: str, **params: object) -> tuple[int, str]:
        """Code and text of a refusal, be it the answer's or the job's."""
        answer = self.call(command, **params)
        content = answer.content
        if "jobid" in content:
            job = self.call("queryAsyncJobResult", jobid=content["jobid"]).content
            assert job["jobstatus"] == 2, job
            assert job["jobresultcode"] == 530
            content = job["jobresult"]
        else:
            assert answer.status == content["errorcode"], answer
        return content["errorcode"], content["errortext"]


class Cloud:
    """An API with accounts, a zone, a pod with IPv4 and IPv6, and two hosts."""

    def __init__(self, **settings: Any) -> None:
        self.memory = Memory()
        self._numbers = itertools.count(1)
        ticks = itertools.count()
        self._executor = Executor(
            self.memory,  # type: ignore[arg-type]
            catalogue(),
            Settings(**settings),
            clock=lambda: NOW + next(ticks) / 1000,
        )
        self.application = Application(self._executor, catalogue())
        self.admin = self.account("admin", 1)
        self.hosts = [Host(id=str(uuid4()), name=f"h{number}", seen=int(NOW * 1000)) for number in (1, 2)]
        self.memory.write([Insert(host) for host in self.hosts])

    def limit(self, quotas: Quotas) -> None:
        """Have other quotas from now on."""
        self._executor.settings = replace(self._executor.settings, quotas=quotas)

    def account(self, name: str, kind: int = 0) -> Client:
        """A new account and a client with its key."""
        account = Account(id=str(uuid4()), name=name, name_key=name.casefold(), type=kind)
        group = Group(id=str(uuid4()), account=account.id, name="default", name_key="default")
        user = User(id=str(uuid4()), account=account.id, username=name)
        key = Key(id=str(uuid4()), user=user.id, api_key=f"key of {name}", secret=f"secret of {name}")
        self.memory.write([Insert(row) for row in (account, group, user, key)])
        return Client(self.application, account, user, key)

    def zone(self) -> Any:
        """A new zone."""
        name = f"zone{next(self._numbers)}"
        params = {"dns1": "192.0.2.1", "internaldns1": "192.0.2.2", "networktype": "Basic"}
        return self.admin.ok("createZone", name=name, **params)["zone"]

    def pod(self, zone: Any, *, size: int = 100, ipv6: bool = False) -> Any:
        """A new pod with room for so many VMs."""
        n = next(self._numbers)
        servers = {"startip": f"10.{n}.0.2", "endip": f"10.{n}.0.9", "dhcpservers": f"10.{n}.0.2"}
        subnet = {"gateway": f"10.{n}.0.1", "netmask": "255.255.255.0"}
        pod = self.admin.ok("createPod", name=f"pod{n}", zoneid=zone["id"], **subnet, **servers)["pod"]
        span = {"startip": f"10.{n}.0.10", "endip": f"10.{n}.0.{9 + size}"}
        if ipv6:
            span |= {"ip6cidr": f"fd00:{n}::/64", "ip6gateway": f"fd00:{n}::1"}
            span |= {"startipv6": f"fd00:{n}::10", "endipv6": f"fd00:{n}::ffff"}
        self.admin.ok("createVlanIpRange", podid=pod["id"], **span)
        return pod


def deploy_params(client: Client, zone: Any, **params: object) -> dict[str, object]:
    """What deployVirtualMachine needs."""
    template = client.ok("listTemplates", templatefilter="all")["template"][0]["id"]
    offering = client.ok("listServiceOfferings")["serviceoffering"][0]["id"]
    return {"templateid": template, "serviceofferingid": offering, "zoneid": zone["id"], **params}


def deploy(client: Client, zone: Any, **params: object) -> Any:
    """A new VM."""
    return client.ok("deployVirtualMachine", **deploy_params(client, zone, **params))["virtualmachine"]
