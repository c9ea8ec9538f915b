# SPDX-License-Identifier: Apache-2.0
"""The os-ken application that knows one bridge: it turns os-ken's events into a `Switch` and a few callbacks.

The process must run os-ken's eventlet hub with everything monkey-patched, and should set os-ken's options so that a
dead switch is noticed: ``maximum_unreplied_echo_requests=2`` and ``echo_request_interval=5.0`` (by default it never
is).
The bridge's ``Controller`` row has the matching settings of the other side (`sgctl.vswitch.LocalSwitch.prepare`).
os-ken listens on ``ofp_listen_host``, by default on all addresses; ``127.0.0.1`` is enough for a local bridge.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeAlias

from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib import hub
from os_ken.ofproto import ofproto_v1_4

from sgctl.openflow import tap
from sgctl.openflow.errors import SwitchGone
from sgctl.openflow.switch import Switch

LOG = logging.getLogger(__name__)
PROBE_DEADLINE = 2.0
"""Seconds for a connection to prove that it is alive when a second one claims to be the same bridge."""


Handler: TypeAlias = Callable[["BridgeApp", Any], None]


def _guarded(handler: Handler) -> Handler:
    """A handler whose errors reach `on_error`: os-ken would write them into the log and go on as if nothing were."""

    @wraps(handler)
    def run(app: BridgeApp, event: Any) -> None:
        try:
            handler(app, event)
        except Exception as error:  # noqa: BLE001 - not swallowed: it goes to who decides
            app.on_error(error)

    return run


class BridgeApp(app_manager.OSKenApp):  # type: ignore[misc]
    """Base of an application for the bridge named `bridge`; the callbacks must not block.

    Subclasses set `bridge` before the first connection, and `datapath_id` and `management` as soon as they know them
    (0 and empty: any, none).  A connection of another bridge, or a second one of the same, is refused.
    """

    OFP_VERSIONS = [ofproto_v1_4.OFP_VERSION]

    bridge = ""
    datapath_id = 0
    management = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._datapath: Any = None
        self._switch: Switch | None = None
        tap.install()

    @property
    def switch(self) -> Switch | None:
        """The bridge, while it is connected."""
        return self._switch

    def on_connect(self, switch: Switch) -> None:
        """The bridge has connected."""

    def on_gone(self, switch: Switch) -> None:
        """The bridge's connection is lost."""

    def on_packet_in(self, switch: Switch, port: int, data: bytes) -> None:
        """The bridge shows us a frame (or its beginning) that came in by `port`."""

    def on_error(self, error: Exception) -> None:
        """A fault of this program in what os-ken calls; to be overridden by whoever can do better than log it."""
        raise error

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])  # type: ignore[untyped-decorator]
    @_guarded
    def state_changed(self, event: Any) -> None:
        """os-ken's news of a connection."""
        if event.state == DEAD_DISPATCHER:
            self._lost(event.datapath)
        elif self._acceptable(event.datapath):
            if self._switch is None:
                self._connected(event.datapath)
            else:
                hub.spawn(self._contend, event.datapath)

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    @_guarded
    def packet_in(self, event: Any) -> None:
        """os-ken's news of a frame."""
        message = event.msg
        if self._switch is not None and message.datapath is self._datapath:
            self.on_packet_in(self._switch, message.match["in_port"], bytes(message.data))

    def _acceptable(self, datapath: Any) -> bool:
        """Whether a connection is our bridge's: by its datapath id, and by the name of its local port."""
        local = datapath.ports.get(datapath.ofproto.OFPP_LOCAL)
        name = local.name.decode(errors="replace") if local else "?"
        if name == self.bridge and self.datapath_id in (0, datapath.id):
            return True
        LOG.warning("refused bridge %s (datapath %016x): it is not %s", name, datapath.id, self.bridge)
        datapath.close()
        return False

    def _connected(self, datapath: Any) -> None:
        channel = tap.DatapathChannel(datapath)
        switch = Switch(channel, bridge=self.bridge, datapath_id=datapath.id, management=self.management)
        tap.attach(datapath, switch.receive, self.on_error)
        self._datapath, self._switch = datapath, switch
        LOG.info("bridge %s connected, datapath %016x", self.bridge, datapath.id)
        self.on_connect(switch)

    @_guarded
    def _contend(self, newcomer: Any) -> None:
        """Two connections of one bridge: keep the old one if it answers, otherwise its death was not yet noticed."""
        while self._switch is not None:
            datapath = self._datapath
            try:
                self._switch.drain(PROBE_DEADLINE)
            except SwitchGone:
                self._lost(datapath)
            else:
                LOG.warning("refused a second connection of datapath %016x from %s", newcomer.id, newcomer.address)
                newcomer.close()
                return
        if newcomer.state != DEAD_DISPATCHER:
            self._connected(newcomer)

    def _lost(self, datapath: Any) -> None:
        if self._switch is None or datapath is not self._datapath:
            return
        switch, self._datapath, self._switch = self._switch, None, None
        LOG.warning("bridge %s is not connected any more", self.bridge)
        switch.gone()
        self.on_gone(switch)
