# SPDX-License-Identifier: Apache-2.0
"""An API server without an agent tells on its admin port how it is."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from sgctl.dbserver import DatabaseServer
from tests.functional.api_servers import Server, until
from tests.functional.ports import free_port


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body; status 0 if nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def samples(port: int) -> dict[tuple[str, ...], float]:
    """The metrics by name and labels' values."""
    families = text_string_to_metric_families(get(port, "/metrics")[1])
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def test_health_readiness_and_metrics(tmp_path: Path) -> None:
    port = free_port()
    with (
        DatabaseServer(tmp_path / "db") as database,
        Server(tmp_path / "api", f"--admin-port={port}", db=database.remote) as server,
    ):
        assert get(port, "/healthz") == (200, '{"alive": true}')
        assert get(port, "/readyz") == (200, '{"ready": true, "api": true}')
        status, text = get(port, "/admin/ports")
        assert status == 404 and "no agent" in text and "hypervisor" in text
        assert get(port, "/nothing")[0] == 404
        server.admin().listZones()
        before = samples(port)
        assert before["sgctl_api_requests_total", "listZones", "200"] == 1.0
        assert before["sgctl_api_request_seconds_count",] == 1.0
        assert before["sgctl_api_database_insync",] == 1.0
        database.stop()
        until(lambda: get(port, "/readyz")[0] == 503, "not ready without a database")
        assert json.loads(get(port, "/readyz")[1]) == {"ready": False, "api": False}
        assert get(port, "/healthz")[0] == 200


def test_two_servers_on_one_machine_with_one_admin_port(tmp_path: Path) -> None:
    port = free_port()
    options = (f"--admin-port={port}",)
    with Server(tmp_path / "one", *options) as one, Server(tmp_path / "two", *options, db=one.remote) as two:
        assert "no /readyz and no /metrics" in two.log
        assert get(port, "/readyz")[0] == 200
