# SPDX-License-Identifier: Apache-2.0
"""os-ken with a `BridgeApp` in a process of its own, driven over a socket; arguments: FD PORT BRIDGE MANAGEMENT ECHO.

ECHO: seconds between os-ken's echo requests, two of which may remain unanswered; 0: none are sent.

Requests and answers are pickles with their length in front; a request is (method of Switch or of DriverApp, arguments).
"""

import os
import sys

from sgctl.manager import _choose_hub

_choose_hub()

import logging  # noqa: E402
import pickle  # noqa: E402
import socket  # noqa: E402
import struct  # noqa: E402
import threading  # noqa: E402
from typing import Any  # noqa: E402

from os_ken import cfg  # noqa: E402
from os_ken.base.app_manager import AppManager  # noqa: E402
from os_ken.controller import controller, ofp_event  # noqa: E402, F401
from os_ken.controller.handler import MAIN_DISPATCHER, set_ev_cls  # noqa: E402
from os_ken.lib import hub  # noqa: E402

from sgctl.errors import SgctlError  # noqa: E402
from sgctl.openflow.app import BridgeApp  # noqa: E402
from sgctl.openflow.switch import Switch  # noqa: E402

PATIENCE = 30.0


class DriverApp(BridgeApp):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bridge, self.management = sys.argv[3:5]
        self.socket = socket.socket(fileno=int(sys.argv[1]))
        self.changed = threading.Condition()
        self.connects = 0
        self.seen: list[tuple[int, bytes]] = []
        self.statistics: list[Any] | None = None

    def start(self) -> Any:
        super().start()
        return hub.spawn(self.serve)

    def on_connect(self, switch: Switch) -> None:
        with self.changed:
            self.last = switch
            self.connects += 1
            self.changed.notify_all()

    def on_packet_in(self, switch: Switch, port: int, data: bytes) -> None:
        with self.changed:
            self.seen.append((port, data))
            self.changed.notify_all()

    def connected(self, times: int) -> int:
        """Wait until the bridge has connected so many times."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.connects >= times and self.switch, PATIENCE)
        assert self.switch is not None
        return self.switch.datapath_id

    def frames(self, count: int) -> list[tuple[int, bytes]]:
        """Wait until so many frames were shown."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.seen) >= count, PATIENCE)
        return self.seen

    @set_ev_cls(ofp_event.EventOFPFlowStatsReply, MAIN_DISPATCHER)
    def flow_stats(self, event: Any) -> None:
        with self.changed:
            self.statistics = event.msg.body
            self.changed.notify_all()

    def decoded(self) -> list[str]:
        """The matches of all flows as an ordinary os-ken application gets them."""
        datapath = self._datapath
        self.statistics = None
        datapath.send_msg(datapath.ofproto_parser.OFPFlowStatsRequest(datapath))
        with self.changed:
            assert self.changed.wait_for(lambda: self.statistics is not None, PATIENCE)
        return [str(dict(flow.match.items())) for flow in self.statistics or ()]

    def is_connected(self) -> bool:
        return self.switch is not None

    def serve(self) -> None:
        with self.socket.makefile("rb") as requests:
            while head := requests.read(4):
                method, args, kwargs = pickle.loads(requests.read(struct.unpack("!I", head)[0]))
                answer = pickle.dumps(self.answer(method, args, kwargs))
                self.socket.sendall(struct.pack("!I", len(answer)) + answer)
        os._exit(0)

    def answer(self, method: str, args: Any, kwargs: Any) -> Any:
        target = self if hasattr(self, method) else self.last
        try:
            return None, getattr(target, method)(*args, **kwargs)
        except (SgctlError, AssertionError) as error:
            return (type(error).__name__, str(error), getattr(error, "reasons", {})), None


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    options = ["--ofp-listen-host=127.0.0.1", f"--ofp-tcp-listen-port={sys.argv[2]}"]
    cfg.CONF(args=options, project="driver", default_config_files=[])
    if echo := float(sys.argv[5]):
        cfg.CONF.set_override("echo_request_interval", echo)
        cfg.CONF.set_override("maximum_unreplied_echo_requests", 2)
    AppManager.run_apps(["tests.functional.openflow_driver"])
