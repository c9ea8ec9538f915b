# SPDX-License-Identifier: Apache-2.0
"""Connections to OVSDB servers below the `ovs` package's Idl: JSON is decoded at C speed.

The package decodes it character by character in Python: a replica of a hundred thousand rows would take a minute, and
each port that comes costs 2 ms. So messages are cut here with a regular expression and decoded by the standard library.
"""

from __future__ import annotations

import errno
import json
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from ovs.jsonrpc import EOF, Connection, Message, Session
from ovs.reconnect import Reconnect
from ovs.stream import Stream

from sgctl.tls import Tls

_CHUNK = 1 << 16
#: Braces, complete strings, and a quote that starts an incomplete one.
_TOKEN = re.compile(rb'[{}]|"[^"\\]*(?:\\.[^"\\]*)*"|"', re.DOTALL)


def identify(tls: Tls) -> None:
    """Set who we are on ``ssl:`` connections; the `ovs` package knows one identity per process."""
    Stream.ssl_set_private_key_file(tls.key)
    Stream.ssl_set_certificate_file(tls.cert)
    Stream.ssl_set_ca_cert_file(tls.ca)


class Cutter:
    """Cuts a byte stream into JSON objects."""

    def __init__(self) -> None:
        self._depth = 0
        self._parts: list[bytes] = []
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The objects that are complete now."""
        text = self._rest + data
        start, end = 0, len(text)
        for token in _TOKEN.finditer(text):
            match token[0]:
                case b"{":
                    self._depth += 1
                case b"}":
                    self._depth -= 1
                    if not self._depth:
                        yield b"".join((*self._parts, text[start : token.end()]))
                        self._parts.clear()
                        start = token.end()
                case b'"':
                    end = token.start()
                    break
        self._parts.append(text[start:end])
        self._rest = text[end:]


class FastConnection(Connection):  # type: ignore[misc]
    """A JSON-RPC connection that decodes with the standard library."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._cutter = Cutter()
        self._ready: deque[bytes] = deque()
        self._drained = True

    @property
    def pending(self) -> bool:
        """Whether there may be a message here that no poller would tell of: cut already, or in TLS's own buffer."""
        return bool(self._ready) or not self._drained

    def recv(self) -> tuple[int, Message | None]:
        """The next message, or an error number (EAGAIN: nothing yet)."""
        while not self.status and not self._ready:
            error, data = self.stream.recv(_CHUNK)
            self._drained = error == errno.EAGAIN
            if self._drained:
                return error, None
            if error or not data:
                self.error(error or EOF)
                break
            self.received_bytes += len(data)
            self._ready.extend(self._cutter.feed(data))
        if self.status:
            return self.status, None
        return self._decode(self._ready.popleft())

    def _decode(self, text: bytes) -> tuple[int, Message | None]:
        try:
            message = Message.from_json(json.loads(text))
        except ValueError:
            message = None
        if isinstance(message, Message):
            return 0, message
        self.error(errno.EPROTO)
        return self.status, None

    def recv_wait(self, poller: Any) -> None:
        """Have the poller wake up when `recv` has something to say."""
        if self.status or self.pending:
            poller.immediate_wake()
        else:
            self.stream.recv_wait(poller)


class FastSession(Session):  # type: ignore[misc]
    """A reconnecting session of `FastConnection`s that shows each message to `inspect` before the Idl gets it."""

    rpc: Any

    def __init__(self, reconnect: Reconnect, remotes: list[str], inspect: Callable[[Message], object] = id) -> None:
        super().__init__(reconnect, None, remotes)
        self._inspect = inspect
        self.pick_remote()

    @property
    def pending(self) -> bool:
        """Whether a message is here that nobody has asked for yet."""
        return self.rpc is not None and self.rpc.pending

    def run(self) -> None:
        """Keep the connection; a new one has not received anything yet when it is replaced by ours."""
        super().run()
        if self.rpc is not None and not isinstance(self.rpc, FastConnection):
            self.rpc = FastConnection(self.rpc.stream)

    def recv(self) -> Message | None:
        """The next message."""
        message = super().recv()
        if message is not None:
            self._inspect(message)
        return message
