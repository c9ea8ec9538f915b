# SPDX-License-Identifier: Apache-2.0
"""The local switch's database as a `VSwitch` value that is always current, and the configuration of our bridge."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic, sleep
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from ovs.db.idl import SchemaHelper
from ovsdbapp import exceptions
from ovsdbapp.backend.ovs_idl.command import BaseCommand
from ovsdbapp.backend.ovs_idl.connection import Connection, OvsdbIdl
from ovsdbapp.backend.ovs_idl.transaction import Transaction

from sgctl.jsonrpc import FastSession
from sgctl.localport import VSwitch
from sgctl.vswitch.bridge import BridgeSettings, Divert, Prepare, Release
from sgctl.vswitch.errors import VSwitchError
from sgctl.vswitch.ports import TABLES as PORTS
from sgctl.vswitch.ports import Ports
from sgctl.vswitch.schema import schema

LOG = logging.getLogger(__name__)
EVERYDAY = frozenset({"ports", "next_cfg", "cur_cfg"})
"""Columns of Bridge and Open_vSwitch that change with every port."""
USERSPACE = "netdev"
"""The type of datapath that is ovs-vswitchd's own, with DPDK and without."""
BACKOFF = 1000
"""Milliseconds between attempts to reach the database: it is on this machine."""


class LocalSwitch:
    """Follows one bridge in the database at `connection`, for example ``unix:/run/openvswitch/db.sock``.

    It has a (green) thread of its own, reconnects by itself, and then compares: a change that happened meanwhile is
    told like any other. `on_fault` hears of errors in that thread, which ovsdbapp only writes into the log: whatever
    this has brought after one is not to be trusted.
    """

    def __init__(
        self,
        connection: str,
        bridge: str,
        *,
        deadline: float = 10.0,
        on_fault: Callable[[BaseException], None] = lambda error: None,
    ) -> None:
        self.bridge = bridge
        helper = SchemaHelper(schema_json=schema())
        helper.register_all()
        self._idl = _Idl(connection, helper, self._look, on_fault)
        self._connection = Connection(self._idl, timeout=deadline)
        self._api = SimpleNamespace(idl=self._idl)
        self._deadline = deadline
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._start, name="local-switch", daemon=True)
        self._callbacks: list[Callable[[], None]] = []
        self._snapshot: VSwitch | None = None
        self._ports = Ports(self._idl)
        self._told: tuple[bool, VSwitch | None] = (False, None)

    def start(self) -> None:
        """Connect in the background; `insync` tells when it has succeeded."""
        self._thread.start()

    def stop(self) -> None:
        """End the connection; the last snapshot stays."""
        self._stopping.set()
        if self._connection.is_running:
            self._end()

    @property
    def insync(self) -> bool:
        """True while we are connected and know the present state."""
        return self._snapshot is not None and self._idl.current

    @property
    def configuration(self) -> int:
        """Another number whenever something other than ports may have changed."""
        return self._idl.configuration

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each change of `snapshot` or `insync`, in the database's thread: only enqueue there."""
        self._callbacks.append(callback)

    def snapshot(self) -> VSwitch:
        """The bridge as last seen, also while the database is away; raises VSwitchError before it was seen at all."""
        if self._snapshot is None:
            raise VSwitchError("the local switch's database has not been read yet")
        return self._snapshot

    def prepare(self, settings: BridgeSettings, *, call: bool = False) -> frozenset[str]:
        """Configure our bridge, and nothing else; which columns, of maps which keys, had to be changed. Raises
        VSwitchError.

        call: have the switch connect now, not when it would try the next time.
        """
        if call:
            divert = Divert(self._api, self.bridge, settings.controller)
            if self._transact(divert):
                self._await(divert.configuration)
        return self._transact(Prepare(self._api, self.bridge, settings))

    def release(self) -> bool:
        """Put back what `prepare` found, and wait until the switch has; true if anything had to be changed.

        A bridge whose last controller goes loses all its flows, and may forward by itself again. Raises VSwitchError.
        """
        command = Release(self._api, self.bridge)
        changed = bool(self._transact(command))
        if changed and not self._await(command.configuration):
            raise VSwitchError("ovs-vswitchd does not take over its new configuration: does it run?")
        return changed

    def _await(self, configuration: int) -> bool:
        """Wait until the switch has the configuration of this number; false if it does not take it over."""
        until = monotonic() + self._deadline
        while self._configuration() < configuration:
            if monotonic() > until:
                return False
            sleep(0.005)
        return True

    def _configuration(self) -> int:
        """The number of the configuration that the switch has."""
        return max((row.cur_cfg for row in list(self._idl.tables["Open_vSwitch"].rows.values())), default=0)

    def _transact(self, command: BaseCommand) -> frozenset[str]:
        if not self.insync:
            raise VSwitchError("the local switch's database is not connected")
        transaction = Transaction(self._api, self._connection, self._deadline, check_error=True, log_errors=False)
        transaction.add(command)
        try:
            transaction.commit()
        except (exceptions.OvsdbAppException, RuntimeError) as error:
            raise VSwitchError(f"the local switch's database cannot be changed: {error}") from error
        return frozenset(command.result)

    def _start(self) -> None:
        """Wait for the first answer as long as it takes, then leave the work to the connection's own thread."""
        while not self._stopping.is_set():
            try:
                self._connection.start()
            except exceptions.TimeoutException:
                LOG.warning("the local switch's database %s does not answer", self._idl.session_name())
            else:
                if self._stopping.is_set():
                    self._end()
                return
        self._idl.close()

    def _end(self) -> None:
        """End the connection's thread, but only once it has been started: ovsdbapp says that it runs just before."""
        with self._connection.lock:
            pass
        self._connection.stop(self._deadline)

    def _look(self, changed: bool) -> None:
        """Called after each batch of messages: take a new snapshot, and tell if it or `insync` differs."""
        if changed:
            self._snapshot = self._read()
        told = (self.insync, self._snapshot)
        if told != self._told:
            self._told = told
            for callback in self._callbacks:
                callback()

    def _read(self) -> VSwitch:
        touched, self._idl.touched = self._idl.touched, set()
        self._ports.forget(touched)
        for row in self._idl.tables["Bridge"].rows.values():
            if row.name == self.bridge:
                ports = tuple(port for port in self._ports.of(row) if port.name != self.bridge)
                return VSwitch(
                    datapath_id=_datapath_id(row), ports=ports, userspace=row.datapath_type == USERSPACE
                )
        return VSwitch()


class _Idl(OvsdbIdl):  # type: ignore[misc]
    """The replica, which tells after each batch of messages, so that a resync is seen as one change."""

    _session: Any

    def __init__(
        self,
        connection: str,
        helper: SchemaHelper,
        after: Callable[[bool], None],
        on_fault: Callable[[BaseException], None],
    ) -> None:
        super().__init__(connection, helper)
        self._on_fault = on_fault
        self.touched: set[UUID] = set()
        self.configuration = 0
        self._after = after
        self._session = FastSession(self._session.reconnect, self._session.remotes)
        self._session.reconnect.set_backoff(BACKOFF, BACKOFF)

    @property
    def current(self) -> bool:
        """True if connected with all data of this connection received."""
        session = self._session
        return bool(
            self.state == self.IDL_S_MONITORING and session.is_connected() and session.get_seqno() == self._last_seqno
        )

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        """A row has come, changed or gone; of a change `updates` has what the changed columns were."""
        self.touched.add(row.uuid)
        if row._table.name not in PORTS and (updates is None or not updates._data.keys() <= EVERYDAY):
            self.configuration += 1
        super().notify(event, row, updates)

    def run(self) -> bool:
        """Process messages."""
        try:
            changed = bool(super().run())
            self._after(changed)
        except Exception as error:
            self._on_fault(error)
            raise
        return changed


def _datapath_id(bridge: Any) -> int:
    return int(bridge.datapath_id[0], 16) if bridge.datapath_id else 0
