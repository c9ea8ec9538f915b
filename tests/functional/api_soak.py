# SPDX-License-Identifier: Apache-2.0
"""Mixed requests without end, honest and hostile: ``python -m tests.functional.api_soak [REQUESTS] [SEED]``.

Several clients, a root admin among them, read, write and send rubbish at once. No answer may be a 500 or say "internal
error", none may take long, and the log may have no traceback. Then, while the cloud stays as it is, as many requests
again may not make the process grow.
"""

import argparse
import contextlib
import random
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cs import CloudStack, CloudStackApiException

from sgctl.api.catalogue import catalogue
from tests.functional.api_servers import Caller, Server, account, pod

CLIENTS = 4
ANSWERS = {200, 401, 413, 430, 431, 530, 531, 532, 533, 535, 536}
SLOWEST = 10.0
GROWTH = 1.03
"""The process may grow by this factor in the last two thirds of the requests that change nothing."""
_COMMANDS = tuple(catalogue())
_RUBBISH = (
    "", "-1", "0", "1", "true", "x" * 255, "x" * 300, "安" * 255, "a\r\nSet-Cookie: b", "\x00", "%00%ff", "10.0.0.0/33",
    "10.51.1.7", "::1", "fd00::/8", "9" * 40, "-" * 20, "[", "a[0].b", "\u2028", "../../etc",
    "7cc5c9e0-dd26-5b95-8df3-d973291584de",
)  # fmt: skip
_RAW = (
    b"GET /client/api?command=listZones&name=%ff&name=\xfe HTTP/1.1\r\n\r\n",
    b"POST /client/api HTTP/1.1\r\nContent-Length: 5\r\n\r\nab",
    b"POST /client/api HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    b"POST /client/api HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\na",
    b"GET /client/api HTTP/1.1\r\n" + b"X: y\r\n" * 3000,
    b"GET /client/api?a=" + b"b" * 200_000,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /client/api?comm",
)


class Client:
    """One thread's requests: groups, rules and VMs of one account, and rubbish."""

    def __init__(self, server: Server, user: Any, seed: str, place: dict[str, str]) -> None:
        self.random = random.Random(seed)
        self.server, self.caller, self.place = server, Caller(server.port, user), place
        self.statuses: Counter[int] = Counter()
        self.slowest = 0.0
        self.failures: list[str] = []

    def run(self, requests: int) -> None:
        """Do that many."""
        actions: list[Callable[[], Any]] = [
            self.authorize, self.authorize, self.revoke, self.create, self.delete, self.deploy, self.destroy,
            self.regroup, self.page, self.list, self.list, self.rubbish, self.rubbish, self.rubbish,
            self.unknown,
        ]  # fmt: skip
        for number in range(requests):
            self.raw() if number % 500 == 499 else self.random.choice(actions)()
        self.caller.close()

    def call(self, command: str, **params: str) -> Any:
        start = time.monotonic()
        status, content = self.caller.call(command, **params)
        self.slowest = max(self.slowest, time.monotonic() - start)
        self.statuses[status] += 1
        if status not in ANSWERS or content.get("errortext") == "internal error":
            self.failures.append(f"{command} {params}: {status} {content}"[:500])
        return content

    def name(self) -> str:
        return f"g{self.random.randrange(8)}"

    def create(self) -> None:
        self.call("createSecurityGroup", name=self.name(), description="d" * self.random.randrange(200))

    def delete(self) -> None:
        self.call("deleteSecurityGroup", name=self.name())

    def authorize(self) -> None:
        port = str(self.random.randrange(1, 20))
        way = self.random.choice(("Ingress", "Egress"))
        who = self.random.choice(({"cidrlist": "10.0.0.0/8,::/0"}, {"usersecuritygrouplist": self.name()}))
        rule = {"protocol": "tcp", "startport": port, "endport": port, **who}
        self.call(f"authorizeSecurityGroup{way}", securitygroupname=self.name(), **rule)

    def revoke(self) -> None:
        groups = self.call("listSecurityGroups", securitygroupname=self.name()).get("securitygroup", [])
        for rule in [rule for group in groups for rule in group["ingressrule"]][:2]:
            self.call("revokeSecurityGroupIngress", id=rule["ruleid"])

    def vms(self) -> list[Any]:
        return list(self.call("listVirtualMachines", page="1", pagesize="5").get("virtualmachine", ()))

    def deploy(self) -> None:
        if len(self.vms()) < 5:
            self.call("deployVirtualMachine", **self.place)

    def destroy(self) -> None:
        for vm in self.vms()[4:]:
            self.call("destroyVirtualMachine", id=vm["id"], expunge=self.random.choice(("true", "false")))

    def regroup(self) -> None:
        for vm in self.vms()[:1]:
            self.call("updateVirtualMachine", id=vm["id"], securitygroupnames=f"default,{self.name()}")
            self.call("addIpToNic", nicid=vm["nic"][0]["id"])
            for row in vm["nic"][0]["secondaryip"][:2]:
                self.call("removeIpFromNic", id=row["id"])

    def list(self) -> None:
        self.call("listSecurityGroups")

    def page(self) -> None:
        page, size = self.random.randrange(-1, 4), self.random.randrange(-1, 9)
        self.call("listSecurityGroups", page=str(page), pagesize=str(size))

    def rubbish(self) -> None:
        command = self.random.choice(_COMMANDS)
        if command.name != "registerUserKeys":
            names = [param.name for param in command.params] + ["nonsense", "a[b", "page", "pagesize"]
            chosen = self.random.sample(names, min(len(names), self.random.randrange(6)))
            if self.random.random() < 0.5:
                chosen = list(dict.fromkeys([*chosen, *(param.name for param in command.params if param.required)]))
            self.call(command.name, **{name: self.random.choice(_RUBBISH) for name in chosen})

    def unknown(self) -> None:
        """A command that is not there, ever another one: nothing of it may be kept."""
        self.call(f"{self.random.choice(_COMMANDS).name}{self.random.randrange(10**9)}")

    def raw(self) -> None:
        """Bytes that are no request, or not all of one; the server may hang up at any time."""
        try:
            with socket.create_connection(("127.0.0.1", self.server.port), timeout=1) as sock:
                sock.sendall(self.random.choice((*_RAW, quote(self.name()).encode(), self.random.randbytes(300))))
                sock.recv(100)
        except OSError:
            self.statuses[0] += 1


def _all(jobs: list[Callable[[], None]]) -> None:
    """Do all at once."""
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _look(client: CloudStack, requests: int) -> None:
    """Requests that change nothing, half of them refused: one lacks a parameter, one is unknown, ever another."""
    for number in range(requests // 4):
        client.listSecurityGroups(pagesize=20, page=1)
        client.listZones()
        for name in ("createSecurityGroup", f"listZones{id(client)}{number}{time.monotonic_ns()}"):
            with contextlib.suppress(CloudStackApiException):
                getattr(client, name)()


def soak(directory: Path, requests: int, seed: int) -> str:
    """Do it; a report. AssertionError if something is not as it should be."""
    with Server(directory, "--job-keep", "1") as server:
        admin = server.admin()
        zone = pod(admin, 51, size=200)
        user = account(admin, server.endpoint)
        place = {
            "zoneid": zone["id"],
            "templateid": user.listTemplates(templatefilter="all")["template"][0]["id"],
            "serviceofferingid": user.listServiceOfferings()["serviceoffering"][0]["id"],
        }
        users = [admin, user, *(account(admin, server.endpoint) for _ in range(CLIENTS - 2))]
        sizes: list[int] = []
        total: Counter[int] = Counter()
        slowest, start = 0.0, time.monotonic()
        for part in range(3):
            clients = [Client(server, one, f"{seed} {part} {n}", place) for n, one in enumerate(users)]
            _all([partial(one.run, requests // 3 // CLIENTS) for one in clients])
            total += sum((one.statuses for one in clients), Counter())
            slowest = max(slowest, *(one.slowest for one in clients))
            failures = [text for one in clients for text in one.failures]
            assert not failures, failures[:5]
        seconds = time.monotonic() - start
        for _ in range(3):
            _all([partial(_look, one, requests // 3 // CLIENTS) for one in users])
            sizes.append(server.memory)
        assert "Traceback" not in server.log
        assert admin.listDomains()["count"] == 1
    megabytes = ", ".join(f"{size / 1e6:.0f}" for size in sizes)
    report = f"{sum(total.values())} requests in {seconds:.0f} s, slowest {slowest:.2f} s: {dict(total)}"
    report += f"; megabytes after each third of those that change nothing: {megabytes}"
    assert slowest < SLOWEST, report
    assert sizes[-1] < sizes[0] * GROWTH, report
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m tests.functional.api_soak", description=__doc__)
    parser.add_argument("requests", type=int, nargs="?", default=100_000, help="how many (default: %(default)s)")
    parser.add_argument("seed", type=int, nargs="?", default=1, help="what chance begins with (default: %(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sgctl-soak-") as temporary:
        print(soak(Path(temporary), given.requests, given.seed))
