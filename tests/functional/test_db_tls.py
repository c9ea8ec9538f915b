# SPDX-License-Identifier: Apache-2.0
"""TLS everywhere, and what an agent may write where the database listens to agents.

The `ovs` package knows one identity per process. This one is a server's (`SELF`); clients with another are programs.
"""

import json
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sgctl.db.app import set_roles
from sgctl.db.talk import Talk, TalkError
from sgctl.dbserver import DatabaseServer
from sgctl.model import Group, Host
from sgctl.store import Database, Insert
from sgctl.tls import Tls
from tests.functional.agent_rig import Rig
from tests.functional.api_servers import Server, until
from tests.functional.db_nodes import Node, cluster, tool
from tests.functional.db_pki import Pki, options
from tests.functional.ports import free_port
from tests.functional.store_server import ACME, BASE, HERE, WEB
from tests.functional.vswitch_sandbox import eventually
from tests.unit.store_rows import uid
from tests.unit.worlds import world

#: Several databases on a machine that may be busy with other tests.
pytestmark = pytest.mark.timeout(300)

ROWS = (*BASE, *HERE.machine(ACME, WEB, host="elsewhere"))
VM, NIC, ADDRESS, *_ = ROWS[len(BASE) :]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def self_(pki: Pki) -> Tls:
    return pki.server("db1")


@pytest.fixture(scope="module")
def h1(pki: Pki) -> Tls:
    return pki.host("h1")


class Guarded:
    """A stand-alone server with a port for agents."""

    def __init__(self, directory: Path, tls: Tls) -> None:
        port = free_port()
        self.remote = f"ssl:127.0.0.1:{port}"
        self.server = DatabaseServer(directory, agents=f"pssl:{port}:127.0.0.1", tls=tls)

    def as_agent(self, tls: Tls, operation: dict[str, Any], database: str = "SG") -> str:
        """Transact by the agents' port."""
        return as_agent(self.remote, tls, operation, database)


def as_agent(remote: str, tls: Tls, operation: dict[str, Any], database: str = "SG") -> str:
    """A transaction's error, empty if there is none."""
    request = json.dumps([database, operation])
    command = ["ovsdb-client", "--no-leader-only", *tls.options(), "transact", remote, request]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return next((one["error"] for one in json.loads(ended.stdout) if one and "error" in one), "")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, self_: Tls) -> Iterator[Guarded]:
    found = Guarded(tmp_path_factory.mktemp("sg"), self_)
    with found.server, Database(found.server.remote) as database, Talk(found.server.remote) as talk:
        assert database.wait_insync(30)
        database.write([Insert(row) for row in (*ROWS, Host(id=uid("h2"), name="h2"))])
        set_roles(talk)
        yield found


def where(id: str) -> list[Any]:
    return [["_uuid", "==", ["uuid", id]]]


def update(table: str, id: str, **row: Any) -> dict[str, Any]:
    return {"op": "update", "table": table, "where": where(id), "row": row}


HOST_H1 = {"op": "insert", "table": "Host", "uuid": uid("h1"), "row": {"name": "h1", "version": "1"}}
MINE = update("Host", uid("h1"), seen=1, applied=2, version="2", started=3, address="10.0.0.1")
BIND = update("NIC", NIC.id, host="h1", state="up", reason="", since=1)


def test_an_agent_writes_its_host_and_bindings(guarded: Guarded, h1: Tls) -> None:
    for operation in (HOST_H1, MINE, BIND, {"op": "delete", "table": "Host", "where": where(uid("h1"))}):
        assert guarded.as_agent(h1, operation) == ""


@pytest.mark.parametrize(
    "operation",
    [
        update("Host", uid("h2"), seen=1),
        update("Host", uid("h2"), name="h1"),
        {"op": "delete", "table": "Host", "where": where(uid("h2"))},
        {"op": "insert", "table": "Host", "row": {"name": "h3"}},
        update("NIC", NIC.id, mac="02:00:00:00:00:99"),
        update("NIC", NIC.id, groups=["set", []]),
        {"op": "delete", "table": "NIC", "where": where(NIC.id)},
        update("Address", ADDRESS.id, address="10.0.0.99"),
        {"op": "insert", "table": "Group", "row": {"account": ["uuid", ACME.id], "name": "x", "name_key": "x"}},
        {"op": "insert", "table": "Rule", "row": {"group": ["uuid", WEB.id], "direction": "ingress"}},
        {"op": "insert", "table": "Member", "row": {"group": ["uuid", WEB.id], "nic": ["uuid", NIC.id]}},
        {"op": "delete", "table": "RBAC_Role", "where": []},
        {"op": "update", "table": "RBAC_Permission", "where": [], "row": {"authorization": ""}},
    ],
    ids=lambda operation: f"{operation['op']}-{operation['table']}",
)
def test_an_agent_writes_nothing_else(guarded: Guarded, h1: Tls, operation: dict[str, Any]) -> None:
    assert guarded.as_agent(h1, operation) == "permission error"


def test_an_agent_cannot_give_itself_another_role(guarded: Guarded, h1: Tls) -> None:
    operation = {"op": "update", "table": "Connection", "where": [], "row": {"role": ""}}
    assert guarded.as_agent(h1, operation, database="SG_Local") == "permission error"


def test_before_anything_is_allowed_nothing_is(tmp_path: Path, self_: Tls, h1: Tls) -> None:
    fresh = Guarded(tmp_path, self_)
    with fresh.server:
        assert fresh.as_agent(h1, HOST_H1) == "permission error"


def test_strangers_get_no_connection(guarded: Guarded, tmp_path: Path, h1: Tls) -> None:
    other = Pki(tmp_path).host("h1")
    for mine in (other, Tls(key=other.key, cert=other.cert, ca=h1.ca)):
        command = ["ovsdb-client", *mine.options(), "--timeout=3", "list-dbs", guarded.remote]
        assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_a_hypervisors_certificate_does_not_make_a_server(tmp_path: Path, self_: Tls, h1: Tls) -> None:
    with Node(tmp_path / "thief", *options(h1), kind="ssl") as thief, Database(thief.remote, tls=self_) as client:
        assert not client.wait_insync(2)
        with pytest.raises(TalkError):
            Talk(thief.remote)
        command = ["ovsdb-client", *self_.options(), "--timeout=3", "list-dbs", thief.remote]
        assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_a_cluster_and_its_api_speak_tls_only(tmp_path: Path, self_: Tls) -> None:
    with cluster(tmp_path, *options(self_), kind="ssl") as three:
        api_options = (*options(self_), "--api-cert", self_.cert, "--api-key", self_.key)
        with Server(tmp_path / "api", *api_options, db=three.remotes) as api:
            trust = ssl.create_default_context(cafile=self_.ca)
            with pytest.raises(urllib.error.HTTPError) as answer:
                urllib.request.urlopen(api.endpoint, context=trust, timeout=60)
            assert answer.value.code in (400, 401)
            with Database(three.remotes, tls=self_) as database:
                assert database.wait_insync(30)
                assert database.replica.one(Group, name="default") is not None
            assert "leader" in tool("status", f"--db={three.remotes}", *options(self_))
            copy = str(tmp_path / "copy.db")
            tool("backup", f"--db={three.remotes}", *options(self_), copy)
            assert "nothing" in tool("restore", f"--db={three.remotes}", *options(self_), copy)


def test_every_member_of_a_cluster_checks_agents(tmp_path: Path, self_: Tls, h1: Tls) -> None:
    """All three write down the role at the same time, and find it there."""
    with cluster(tmp_path, *options(self_), kind="ssl", agents=True) as three:
        for node in three.nodes:
            until(lambda: as_agent(node.agents_remote, h1, HOST_H1) == "", "the role")  # noqa: B023
            for operation in (MINE, BIND | {"where": []}):
                assert as_agent(node.agents_remote, h1, operation) == ""
            stranger = {"op": "insert", "table": "Host", "row": {"name": "h2"}}
            assert as_agent(node.agents_remote, h1, stranger) == "permission error"
            assert as_agent(node.agents_remote, h1, {"op": "delete", "table": "Host", "where": []}) == ""


class TlsRig(Rig):
    """The agent's rig, with a database that has a port for agents."""

    def __enter__(self) -> "TlsRig":
        super().__enter__()
        with Talk(self.server.remote) as talk:
            set_roles(talk)
        return self


def test_an_agent_works_by_tls_within_its_role(pki: Pki, self_: Tls, h1: Tls) -> None:
    """Database and OpenFlow; its --host is what its certificate says, or it can report nothing and says so."""
    port, ofp_port = free_port(), free_port()
    with TlsRig(world({"web1": ("web",)})) as rig:
        own = pki.openflow("h1")
        rig.sandbox.vsctl("set-ssl", own.key, own.cert, own.ca)
        openflow = (f"--ctl-privkey={own.key}", f"--ctl-cert={own.cert}", f"--ca-certs={own.ca}")
        rig.server.stop()
        rig.server = DatabaseServer(rig.directory, agents=f"pssl:{port}:127.0.0.1", tls=self_)
        rig.server.start()
        common = (*options(h1), *openflow, f"--ofp-ssl-listen-port={ofp_port}", f"--db=ssl:127.0.0.1:{port}")
        agent = rig.manager("--host=h1", *common)
        rig.plug("web1", 7)
        rig.wait_nic("web1", "h1", "up")
        assert rig.database.replica.one(Host, name="h1") is not None
        assert f"ssl:127.0.0.1:{ofp_port}" in rig.sandbox.vsctl("get-controller", "br-int")
        assert agent.stop() == 0
        wrong = rig.manager("--host=h9", *common)
        eventually(lambda: "permission error" in wrong.log.read_text())
        assert wrong.process.poll() is None
