# SPDX-License-Identifier: Apache-2.0
"""What operators ask about the whole cloud: its hypervisors, its ports, and whether a change is in force everywhere."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sgctl.cli import calls
from sgctl.cli.blocks import Block, Table, Text
from sgctl.cli.client import job_of
from sgctl.cli.errors import CliError, UsageError
from sgctl.cli.session import Progress, Session
from sgctl.cli.views import cell, in_force

Object = Mapping[str, Any]

KEYS = {
    "hosts": ("name", "state", "zoneid", "podid", "keyword"),
    "ports": ("account", "hostname", "keyword", "nicid", "state", "virtualmachineid"),
    "wait": ("hosts", "securitygroupid", "timeout", "virtualmachineid"),
}
"""The commands, and the parameters that may follow them."""


def asked(session: Session) -> bool:
    """Whether the line is one of these commands; `ports` is without --all a question to one agent."""
    line = session.invocation
    return len(line.words) == 1 and line.words[0] in KEYS and line.all == (line.words[0] == "ports")


def run(session: Session) -> None:
    """Ask the API, and show it."""
    name = session.invocation.words[0]
    for key in session.invocation.params:
        if key.lower() not in KEYS[name]:
            raise UsageError(f"there is no key {key} here; keys: {', '.join(KEYS[name])}")
    _RUNS[name](session)


def _hosts(session: Session) -> None:
    answer = calls.listed(session, "listHosts", session.invocation.params)
    session.show(answer, lambda: host_blocks(answer))


def _ports(session: Session) -> None:
    answer = calls.listed(session, "listPorts", session.invocation.params)
    session.show(answer, lambda: port_blocks(answer))


def _wait(session: Session) -> None:
    answer = session.client.call("createBarrier", session.invocation.params)
    job = job_of(answer)
    if job is None:
        raise CliError("the API has answered without a job")
    if not session.invocation.wait:
        session.show(answer, lambda: [Text(f"job {job}")])
        return
    progress = Progress(session.err, "waiting for the hosts")
    try:
        result = session.client.result(job, progress)
    finally:
        progress.clear()
    session.show(result, lambda: [Text(in_force(result))])


_RUNS: Mapping[str, Callable[[Session], None]] = {"hosts": _hosts, "ports": _ports, "wait": _wait}


def host_blocks(answer: Object) -> Sequence[Block]:
    """Hypervisors by name, and in the last line how many are as they should be."""
    hosts = sorted(answer.get("host") or (), key=lambda host: str(host.get("name")))
    columns = ("name", "state", "version", "up", "closed", "last seen", "lag", "address")
    keys = ("name", "state", "version", "portsup", "portsclosed", "lastpinged", "lag", "ipaddress")
    rows = tuple(tuple(cell(host.get(key)) for key in keys) for host in hosts)
    good = sum(host.get("state") == "Up" and not host.get("lag") for host in hosts)
    return [Table(columns, rows), Text(f"{good} of {len(hosts)} hosts are up and have all barriers behind them")]


def port_blocks(answer: Object) -> Sequence[Block]:
    """Ports by account and VM; a host that is Down is marked, since what it last said may be old."""
    ports = sorted(answer.get("port") or (), key=lambda port: (str(port.get("account")), _vm(port)))
    columns = ("vm", "account", "host", "state", "reason", "mac", "addresses", "nic")
    return [Table(columns, tuple(map(_port_row, ports)))]


def _vm(port: Object) -> str:
    return cell(port.get("virtualmachinename"))


def _port_row(port: Object) -> tuple[str, ...]:
    host = cell(port.get("hostname")) + (" (Down)" if port.get("hoststate") == "Down" else "")
    addresses = "\n".join(port.get("ipaddresses") or ())
    found = (cell(port.get(key)) for key in ("state", "reason", "macaddress"))
    return (_vm(port), cell(port.get("account")), host, *found, addresses, cell(port.get("nicid")))
