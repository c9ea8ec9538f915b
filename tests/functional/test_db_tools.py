# SPDX-License-Identifier: Apache-2.0
"""`sgctl-db`: copies, schema, status, and what it says when it cannot."""

import json
import subprocess
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from sgctl.db import contents
from sgctl.db.command import main
from sgctl.db.contents import difference
from sgctl.db.status import look
from sgctl.db.talk import Rows, Talk
from sgctl.dbserver import DatabaseServer
from sgctl.model import Cloud, Group, Host, Nic, Row
from sgctl.store import Database, Delete, Insert, Update
from sgctl.store.columns import schema_json
from tests.functional.api_servers import until
from tests.functional.db_nodes import TOOL, Cluster, Node, cluster, tool
from tests.functional.store_server import ACME, BASE, DB, HERE, WEB, connected, held, served
from tests.unit.store_rows import group, uid

#: Several databases on a machine that may be busy with other tests.
pytestmark = pytest.mark.timeout(300)

VERSION = schema_json()["version"]
HOST = Host(id=uid("host"), name="h1", seen=1)
VM, NIC, *REST = HERE.machine(ACME, WEB, host="h1")
ROWS: tuple[Row, ...] = (*BASE, HOST, VM, NIC, *REST, Cloud(id=uid("cloud")))


def older_schema(path: Path) -> Path:
    """The schema as an earlier release might have had it: without a column of today's."""
    schema = json.loads((files("sgctl") / "sg.ovsschema").read_text())
    schema["version"] = "0.9.0"
    del schema["tables"]["Host"]["columns"]["applied"]
    path.write_text(json.dumps(schema))
    return path


def test_a_backup_brings_everything_back_that_was_asked_for(tmp_path: Path) -> None:
    """With the same ids; what hosts have reported meanwhile stays."""
    copy = tmp_path / "copy.db"
    with served() as server, connected(server) as database:
        database.write([Insert(row) for row in ROWS])
        before = held(database)
        tool("backup", f"--db={server.remote}", str(copy))
        assert copy.stat().st_mode & 0o777 == 0o600
        assert "nothing to restore" in tool("restore", f"--db={server.remote}", str(copy))
        late = group("late", ACME)
        database.write([Delete(Group, DB.id), Update(Group, WEB.id, {"description": "spoilt"}), Insert(late)])
        database.write([Update(Nic, NIC.id, {"host": "h2", "since": 5}), Update(Host, HOST.id, {"seen": 2})])
        assert tool("restore", f"--db={server.remote}", str(copy)) == "3 rows restored\n"
        until(lambda: database.replica.get(Group, late.id) is None, "the replica follows")
        after = held(database)
        assert after.pop(Nic) == {NIC.id: replace(NIC, host="h2", since=5)}
        assert after.pop(Host) == {HOST.id: replace(HOST, seen=2)}
        assert after == {kind: rows for kind, rows in before.items() if kind not in (Nic, Host)}


def test_a_restore_loses_nothing_that_is_written_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody writes between its look and its transaction: it looks again."""
    copy, late = tmp_path / "copy.db", group("late", ACME)
    with served() as server, connected(server) as database:
        database.write([Insert(row) for row in ROWS])
        contents.backup(server.remote, copy, None)
        database.write([Update(Group, WEB.id, {"description": "spoilt"})])
        looks: list[str] = []
        look = Talk.rows

        def disturbed(talk: Talk, tables: Iterable[str]) -> dict[str, Rows]:
            found = look(talk, tables)
            if "Group" in found:
                looks.append("Group")
                if len(looks) == 1:
                    database.write([Insert(late)])
            return found

        monkeypatch.setattr(Talk, "rows", disturbed)
        assert contents.restore(server.remote, copy) == 2
        assert len(looks) == 2
        until(lambda: held(database)[Group] == {DB.id: DB, WEB.id: WEB}, "the groups of the backup")


def test_a_backup_begins_a_new_cluster(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with served() as server, connected(server) as database:
        database.write([Insert(row) for row in ROWS])
        before = held(database)
        tool("backup", f"--db={server.remote}", str(copy))
        assert "exists" in tool("backup", f"--db={server.remote}", str(copy), status=1)
        tool("backup", f"--db={server.remote}", "--force", str(copy))
    node = Node(tmp_path / "node")
    node.directory.mkdir()
    copy.rename(node.directory / "sg.db")
    node.options = (f"--db-cluster-local={node.address}",)
    with node, Database(node.remote) as fresh:
        assert fresh.wait_insync(30)
        assert held(fresh) == before


def test_a_restore_of_an_older_release_is_converted(tmp_path: Path) -> None:
    old, schema = tmp_path / "old.db", older_schema(tmp_path / "schema")
    subprocess.run(["ovsdb-tool", "create", str(old), str(schema)], check=True)
    row = {"op": "insert", "table": "Account", "uuid": ACME.id, "row": {"name": "acme", "name_key": "acme"}}
    subprocess.run(["ovsdb-tool", "transact", str(old), json.dumps(["SG", row])], check=True, capture_output=True)
    with served() as server, connected(server) as database:
        assert tool("restore", f"--db={server.remote}", str(old)) == "1 rows restored\n"
        until(lambda: database.replica.all(type(ACME)) == [ACME], "the account")


def test_a_running_cluster_gets_a_newer_schema(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a stop: who follows the database goes on, and who came too early begins."""
    schema = older_schema(tmp_path / "schema")
    first = tmp_path / "a"
    first.mkdir()
    node = Node(first)
    node.options = (f"--db-cluster-local={node.address}",)
    subprocess.run(["ovsdb-tool", "create-cluster", f"{first}/sg.db", schema, node.address], check=True)
    with node:
        second = Node(tmp_path / "b", f"--db-cluster-join={node.address}")
        second.options += (f"--db-cluster-local={second.address}",)
        with second, ExitStack() as stack:
            both = Cluster([node, second])
            until(both.complete, "both members")
            until(lambda: f"its schema is 0.9.0, ours {VERSION}: run sgctl-db convert" in node.log, "a word about it")
            assert {one["schema"] for one in both.standing()} == {"0.9.0"}
            hasty = stack.enter_context(Database(both.remotes))
            until(lambda: "does not fit this program" in caplog.text, "a complaint")
            assert tool("convert", f"--db={both.remotes}") == "converted\n"
            assert "already" in tool("convert", f"--db={both.remotes}")
            until(lambda: {one["schema"] for one in both.standing()} == {VERSION}, "all know the new schema")
            assert hasty.wait_insync(30)
            with Database(both.remotes) as database:
                assert database.wait_insync(30)
                database.write([Insert(HOST)])


def test_a_cluster_is_restored_while_it_runs(tmp_path: Path) -> None:
    copy = str(tmp_path / "copy.db")
    with cluster(tmp_path) as three, Database(three.remotes) as database:
        assert database.wait_insync(30)
        database.write([Insert(row) for row in ROWS])
        tool("backup", f"--db={three.remotes}", copy)
        database.write([Delete(type(row), row.id) for row in (VM, NIC, *REST)])
        assert tool("restore", f"--db={three.remotes}", copy) == f"{len((VM, NIC, *REST))} rows restored\n"
        until(lambda: database.replica.get(Nic, NIC.id) == replace(NIC, host=""), "the NIC")
        shown = tool("status", f"--db={three.remotes}")
        assert shown.count("follower") == 2 and shown.count("leader") == 1


def test_status_says_what_is_wrong(tmp_path: Path) -> None:
    with served() as server:
        assert "standalone" in tool("status", f"--db={server.remote}")
        assert json.loads(tool("status", f"--db={server.remote}", "-ojson"))[0]["schema"] == VERSION
    missing = f"unix:{tmp_path}/none"
    ended = json.loads(tool("status", f"--db={missing}", "-ojson", status=None))
    assert ended[0]["trouble"] == "No such file or directory"
    alone = Node(tmp_path / "alone", "--db-cluster-join=tcp:127.0.0.1:1")
    alone.options += (f"--db-cluster-local={alone.address}",)
    with alone:
        assert "waits for the other servers" in tool("status", f"--db={alone.remote}", status=None)
        assert "waiting for the others" in alone.log


def test_status_says_that_a_relay_has_lost_its_database(tmp_path: Path) -> None:
    """The relay itself calls that connected for half a minute, while its agents learn of nothing."""
    with served() as server, DatabaseServer(tmp_path / "relay", relay_of=server.remote) as relay:
        until(lambda: look(relay.remote)[0].connected, "the relay's first connection")
        server.stop()
        until(lambda: standing(relay.remote)["connected"] is False, "the relay's loss")
        lost = standing(relay.remote)
        assert (lost["role"], lost["trouble"]) == ("relay", "does not reach the database")
        with Talk(relay.remote) as talk:
            own = talk.transact([{"op": "select", "table": "Database", "where": []}], "_Server")
            assert {row["connected"] for row in own[0]["rows"] if row["model"] == "relay"} == {True}
        server.start()
        until(lambda: look(relay.remote)[0].connected, "the relay's next connection")


def standing(remote: str) -> dict[str, Any]:
    """What `sgctl-db status` says about a server."""
    return dict(json.loads(tool("status", f"--db={remote}", "-ojson", status=None))[0])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["backup", "--db=unix:/none", "x.db"], "none of the remotes is"),
        (["restore", "--db=tcp:127.0.0.1:1", "x.db"], "Connection refused"),
        (["status", "--db=ssl:127.0.0.1:1"], "need --db-ssl-key"),
        (["status", "--db-ssl-key=/no", "--db-ssl-cert=/no", "--db-ssl-ca=/no"], "cannot use authority /no: No such"),
        (["status", "--db=nonsense"], "nonsense"),
        (["member", "--state-dir=/none"], "no database server runs in /none"),
        (["pki", "host", "h1", "--dir=/none"], "sgctl-db pki init"),
        (["pki", "host", "a/b", "--dir=/none"], "no name"),
    ],
)
def test_errors_are_one_clear_line(arguments: list[str], text: str) -> None:
    ended = subprocess.run([TOOL, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert text in ended.stderr + ended.stdout


@pytest.mark.parametrize(
    "command", ["status", "check", "backup", "restore", "convert", "member", "leave", "kick", "pki", "pki host"]
)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], command.split()):
        with pytest.raises(SystemExit) as end:
            main([*words, "--help"])
        assert end.value.code == 0
    overview, _, own = capsys.readouterr().out.rpartition("usage: sgctl-db")
    assert f"\n    {command.split()[0]} " in overview
    assert own.startswith(f" {command}")


@pytest.mark.parametrize("command", [["member"], ["leave"], ["kick", "abcd"]], ids=" ".join)
def test_who_is_in_no_cluster_is_told_so(command: list[str], tmp_path: Path) -> None:
    with DatabaseServer(tmp_path):
        assert "is in no cluster" in tool(*command, f"--state-dir={tmp_path}", status=1)


def test_a_member_that_is_alone_is_not_kicked_by_mistake(tmp_path: Path) -> None:
    """Open vSwitch's server would leave the cluster, and take the database along, whoever is named."""
    node = Node(tmp_path / "a")
    node.options = (f"--db-cluster-local={node.address}",)
    with node:
        for wrong in ("zzzz", "tcp:192.0.2.1:6643", node.address):
            said = tool("kick", wrong, f"--state-dir={node.directory}", status=1)
            assert f"{wrong} is no other member of the cluster; the others are: none" in said
        assert "cluster member" in tool("member", f"--state-dir={node.directory}")


def test_whom_to_kick_must_be_a_member(tmp_path: Path) -> None:
    with cluster(tmp_path) as three:
        first, *others = three.nodes
        said = tool("kick", "zzzz", f"--state-dir={first.directory}", status=1)
        assert all(f"({node.address})" in said for node in others) and first.address not in said


def test_a_file_that_is_no_snapshot_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("nonsense")
    with served() as server:
        assert "unexpected file format" in tool("restore", f"--db={server.remote}", f"{tmp_path}/x.db", status=1)
        assert "there is no file" in tool("restore", f"--db={server.remote}", f"{tmp_path}/y.db", status=1)


def test_the_difference_of_equal_contents_is_nothing() -> None:
    rows: dict[str, Any] = {"Host": {"1": {"name": "a", "_version": 1}}}
    assert list(difference(rows, {"Host": {"1": {"name": "a"}}})) == []
