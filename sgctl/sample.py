# SPDX-License-Identifier: Apache-2.0
"""The sample of a configuration file, ``python -m sgctl.sample > sgctl/sgctl.conf``: every option with its default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

from sgctl.config import OPTIONS

WIDTH = 100
HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# Options of sgctl-manager, as `sgctl-manager --help` explains them; all are shown with their defaults.
# One process that is all reads /etc/sgctl/sgctl.conf; sgctl-db.service reads /etc/sgctl/db.conf, sgctl-api.service
# /etc/sgctl/api.conf, sgctl-agent.service /etc/sgctl/agent.conf. Each is a copy of this with what differs.
# Options of lists may be given several times, once per item.

[DEFAULT]
"""
OSKEN: Mapping[str, tuple[str, object]] = {
    "ofp_listen_host": ("Address that the agent listens on for its switch.", "127.0.0.1"),
    "ofp_tcp_listen_port": ("Port that it listens on.", 6653),
    "ofp_ssl_listen_port": ("Port that it listens on with the next three.", 6653),
    "ctl_privkey": ("File with its private key, for OpenFlow by TLS.", ""),
    "ctl_cert": ("File with its certificate.", ""),
    "ca_certs": ("File with the certificate of the authority that has signed the switch's.", ""),
}
"""Options of os-ken that are of use to sgctl."""


def sample() -> str:
    """The file's text."""
    return HEAD + "".join(_entries())


def _entries() -> Iterator[str]:
    for option in OPTIONS:
        yield _entry(option.dest, option.help, option.default)
    for name, (help_, default) in OSKEN.items():
        yield _entry(name, help_, default)


def _entry(name: str, help_: str, default: Any) -> str:
    text = "".join(f"# {line}\n" for line in wrap(help_, WIDTH))
    return f"\n{text}#{name} ={_value(default)}\n"


def _value(default: Any) -> str:
    if isinstance(default, dict):
        default = ",".join(f"{key}:{value}" for key, value in default.items())
    elif isinstance(default, bool):
        default = str(default).lower()
    return f" {default}" if default not in (None, "", []) else ""


if __name__ == "__main__":
    print(sample(), end="")
