# SPDX-License-Identifier: Apache-2.0
"""Rows about NICs that move do not keep a NIC alive, and do not outlive it for long."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sgctl.api.settings import Settings
from sgctl.api.sweep import sweep
from sgctl.dbserver import DatabaseServer
from sgctl.model import Address, Handover, Member, Nic, handover_id
from sgctl.store import Database, Delete, Insert
from tests.functional.vswitch_sandbox import eventually
from tests.unit.worlds import rows, uid, world


def test_a_row_goes_after_its_nic() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="sgrows") as directory,
        DatabaseServer(Path(directory)) as server,
        Database(server.remote) as database,
    ):
        assert database.wait_insync(30)
        cloud = rows(world({"web1": ("web",), "web2": ("web",)}))
        database.write([Insert(row) for row in cloud])  # type: ignore[arg-type]
        ids = [handover_id(uid(name), "hv1") for name in ("web1", "web2")]
        said = [Handover(id=id, nic=uid(name), host="hv1") for id, name in zip(ids, ("web1", "web2"), strict=True)]
        database.write([Insert(row) for row in said])
        reads = database.replica
        of_nic = [Delete(kind, row.id) for kind in (Member, Address) for row in reads.find(kind, nic=uid("web1"))]
        database.write([*of_nic, Delete(Nic, uid("web1"))])
        eventually(lambda: reads.get(Handover, ids[0]) == Handover(id=ids[0], nic=None, host="hv1"))
        assert sweep(database, Settings(), now=0) == 1
        assert [row.nic for row in reads.all(Handover)] == [uid("web2")]
