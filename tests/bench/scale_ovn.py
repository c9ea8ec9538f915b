# SPDX-License-Identifier: Apache-2.0
"""OVN's southbound database with the same cloud, the same number of clients, and the same changes.

What ovn-northd would write is written straight into the database; its own work, which grows with the cloud, and the
agents' are not in the figures. Needs Debian's ovn-common (for the schema).
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from tests.bench import scale_ovn_cloud as cloud
from tests.bench.ovsdb import Ovsdb
from tests.bench.scale_fleet import Figures, Fleet, Meter
from tests.bench.usage import peak_mib
from tests.functional.vswitch_sandbox import answers, eventually
from tests.unit.store_rows import uid

DATABASE = "OVN_Southbound"
_START = 300.0


class Bench:
    """One southbound database with a relay that runs."""

    def __init__(self, stack: ExitStack, options: argparse.Namespace) -> None:
        self._stack, self._options = stack, options
        self._directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ovnscale")))
        cloud.write_file(self._directory / "sb.db", options.nics)
        self.servers = {"main": self._server("main", str(self._directory / "sb.db"))}
        self._south = stack.enter_context(closing(Ovsdb(self._directory / "main.sock", DATABASE)))
        self.servers["relay0"] = self._server("relay0", f"relay:{DATABASE}:unix:{self._directory}/main.sock")
        relay = f"unix:{self._directory}/relay0.sock"
        subprocess.run(["ovsdb-client", f"--timeout={_START:.0f}", "wait", relay, DATABASE, "connected"], check=True)
        self.fleet = Fleet(stack, [relay])
        self.meter = Meter(self.fleet, self.servers, options.repeat)
        self._serial, self._up = iter(range(1, 1 << 30)), True

    def _server(self, name: str, database: str) -> int:
        sock = self._directory / f"{name}.sock"
        command = ["ovsdb-server", "-vconsole:off", "-vsyslog:off", f"--unixctl={self._directory}/{name}.ctl"]
        process = self._stack.enter_context(subprocess.Popen([*command, f"--remote=punix:{sock}", database]))
        self._stack.callback(process.kill)
        eventually(lambda: answers(sock), _START)
        return process.pid

    def populate(self) -> Figures:
        """Bring up everybody; seconds and memory."""
        started, used = time.monotonic(), self.meter.used()
        self.fleet.start("scale_monitors", 0, self._options.peer, "0", str(self._options.monitors))
        joined = self.meter.used()
        return {
            "monitors_up_s": round(time.monotonic() - started, 1),
            "relay_cpu_ms_per_monitor": round((joined["relay0"] - used["relay0"]) * 1000 / self._options.monitors, 1),
            "first_kb_per_monitor": round(self.fleet.ready[-1] / 1000, 1),
            "server_mib": {name: peak_mib(pid) for name, pid in self.servers.items()},
        }

    def local_rule(self) -> None:
        """One logical flow of one account's switch."""
        number = next(self._serial)
        self._south.transact({"op": "insert", "table": "Logical_Flow", "row": cloud.rule(0, number)})

    def local_member(self) -> None:
        """One more port in an account's port group, and one more address in its address set."""
        number = next(self._serial)
        self._south.transact(
            _add("Port_Group", cloud.port_group(0), "ports", f"new port {number}"),
            _add("Address_Set", cloud.address_set(0), "addresses", f"10.254.0.{number}"),
        )

    def wide_member(self) -> None:
        """One more address in the set that everybody's flows name."""
        self._south.transact(_add("Address_Set", cloud.WATCHED, "addresses", f"10.255.0.{next(self._serial)}"))

    def binding(self) -> None:
        """What an ovn-controller writes when a port is there, or not."""
        self._up = not self._up
        self._south.transact(_update("Port_Binding", cloud.port(0), up=self._up))

    def barrier(self) -> None:
        """What `ovn-nbctl --wait=hv` begins with."""
        self._south.transact(_update("SB_Global", uid("global"), nb_cfg=next(self._serial)))


def _where(id: str) -> list[Any]:
    return [["_uuid", "==", ["uuid", id]]]


def _add(table: str, id: str, column: str, value: str) -> Any:
    return {"op": "mutate", "table": table, "where": _where(id), "mutations": [[column, "insert", value]]}


def _update(table: str, id: str, **columns: Any) -> Any:
    return {"op": "update", "table": table, "where": _where(id), "row": columns}
