# SPDX-License-Identifier: Apache-2.0
"""What an agent tells about its switch over the admin endpoint: flows, ports, traces, drops, costs."""

from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from sgctl.cli.blocks import Block, Fields, Table, Text
from sgctl.cli.errors import CliError, Unreachable, UsageError
from sgctl.cli.http import request
from sgctl.cli.session import Session
from sgctl.cli.views import cell

DEFAULT = "http://127.0.0.1:8081"
PORT = 8081

_ELSEWHERE = (
    "\nan agent listens only on its own machine: run sgctl there, or forward a port "
    "(ssh -L 18081:127.0.0.1:8081 HOST) and give --admin http://127.0.0.1:18081"
)

TRACE_KEYS = (
    "in_port", "src", "dst", "proto", "sport", "dport", "type", "code", "src_mac", "dst_mac", "state"
)  # fmt: skip
"""What a traced packet is described by; the agent checks the values."""


def run(session: Session) -> None:
    """Ask the agent what the first word of the line names, and show it."""
    name, *words = session.invocation.words
    path, view = _REQUESTS[name](tuple(words), session.invocation.params)
    answer = _ask(session, path)
    session.show(answer, lambda: view(answer))


View = Callable[[Mapping[str, Any]], Sequence[Block]]
Request = tuple[str, View]


def _ask(session: Session, path: str) -> dict[str, Any]:
    url = _endpoint(session)
    try:
        answer = request(f"{url}{path}", timeout=session.timeout)
    except Unreachable as error:
        raise CliError(f"{error.args[0]}{_ELSEWHERE if session.invocation.host else ''}") from error
    content = answer.object()
    if answer.status != 200:
        raise CliError(str(content.get("error") or f"{url} answered {answer.status}"))
    return content


def _endpoint(session: Session) -> str:
    """The agent's base URL: of --host, of --admin, of SGCTL_ADMIN, or the one on this machine."""
    line = session.invocation
    if line.host and line.admin:
        raise UsageError("--host and --admin exclude each other")
    if line.host:
        return _url_of_host(session, line.host)
    return _default(session)


def _default(session: Session) -> str:
    url = session.invocation.admin or session.environ.get("SGCTL_ADMIN") or DEFAULT
    if not url.startswith(("http://", "https://")) or not url.isascii():
        raise CliError(f"admin endpoint {url!r} is not an http or https URL such as {DEFAULT}")
    return url.rstrip("/")


def _url_of_host(session: Session, text: str) -> str:
    """``HOST[:PORT]`` as a URL; a name is that of the agent here, of a host that the API knows, or of a machine."""
    local = _default(session)
    if _host_of(session, local) == text:
        return local
    address = text.strip("[]")
    port: int | None = PORT
    if not _is_address(address):
        try:
            parts = urlsplit(f"//{text}")
            address, port = parts.hostname or "", parts.port or PORT
        except ValueError:
            address = ""
        if not address or parts.path or parts.query or not address.isascii():
            raise UsageError(f"--host {text!r} is not of the form HOST or HOST:PORT")
        if not _is_address(address):
            address = _address_of_name(session, address)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _host_of(session: Session, url: str) -> str:
    """What the agent at `url` calls its host; empty if there is none or it is not ready."""
    try:
        return str(request(f"{url}/admin/ports", timeout=session.timeout).object().get("host", ""))
    except CliError:
        return ""


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _address_of_name(session: Session, name: str) -> str:
    """The address that the API has for the host `name`; the name itself if the API cannot be asked."""
    try:
        hosts = session.client.call("listHosts", {"name": name}).get("host") or ()
    except CliError:
        return name
    return next((str(host["ipaddress"]) for host in hosts if host.get("name") == name and host.get("ipaddress")), name)


def _flows_request(words: tuple[str, ...], params: Mapping[str, str]) -> Request:
    _check(words, (), params, ("table",), "sgctl flows [--table NAME] [--host HOST]")
    query = f"?{urlencode({'table': params['table']})}" if "table" in params else ""
    return f"/admin/flows{query}", flow_blocks


def _ports_request(words: tuple[str, ...], params: Mapping[str, str]) -> Request:
    _check(words, (), params, (), "sgctl ports [--host HOST]")
    return "/admin/ports", port_blocks


def _drops_request(words: tuple[str, ...], params: Mapping[str, str]) -> Request:
    _check(words, (), params, (), "sgctl drops [--host HOST]")
    return "/admin/drops", drop_blocks


def _costs_request(words: tuple[str, ...], params: Mapping[str, str]) -> Request:
    _check(words, (), params, (), "sgctl costs [--host HOST]")
    return "/admin/costs", cost_blocks


def _explain_request(words: tuple[str, ...], params: Mapping[str, str]) -> Request:
    _check(words, ("COOKIE",), params, (), "sgctl explain COOKIE [--host HOST]")
    try:
        cookie = int(words[0].lower().removeprefix("0x"), 16)
    except ValueError as error:
        raise UsageError(f"cookie {words[0]!r} is not a hexadecimal number such as 0x1a2b") from error
    return f"/admin/explain/{quote(hex(cookie))}", explain_blocks


def _trace_request(words: tuple[str, ...], params: Mapping[str, str]) -> Request:
    usage = "sgctl trace in_port=PORT src=ADDRESS dst=ADDRESS proto=PROTOCOL [dport=N ...] [--host HOST]"
    _check(words, (), params, TRACE_KEYS, usage)
    if not params:
        raise UsageError(f"usage: {usage}; keys: {', '.join(TRACE_KEYS)}")
    return f"/admin/trace?{urlencode(params)}", trace_blocks


def _check(
    words: Sequence[str], expected: Sequence[str], params: Mapping[str, str], keys: Sequence[str], usage: str
) -> None:
    if len(words) != len(expected):
        raise UsageError(f"usage: {usage}")
    for key in params:
        if key not in keys:
            raise UsageError(f"there is no key {key} here; " + (f"keys: {', '.join(keys)}" if keys else usage))


_REQUESTS: dict[str, Callable[[tuple[str, ...], Mapping[str, str]], Request]] = {
    "flows": _flows_request,
    "ports": _ports_request,
    "trace": _trace_request,
    "explain": _explain_request,
    "drops": _drops_request,
    "costs": _costs_request,
}
COMMANDS = tuple(_REQUESTS)


def flow_blocks(answer: Mapping[str, Any]) -> list[Block]:
    """Flows in the order of their tables; whose they are, and why. The actions of some are longer than all else."""
    columns = ("table", "priority", "packets", "owner", "match", "why", "cookie", "actions")
    rows = [
        (
            cell(flow.get("table")),
            cell(flow.get("priority")),
            cell(flow.get("packets")),
            _owner(flow),
            cell(flow.get("match")) or "any",
            _why(flow),
            cell(flow.get("cookie")),
            cell(flow.get("actions")),
        )
        for flow in answer.get("flows") or ()
    ]
    return [Table(columns, tuple(rows), title=_place(answer))]


def _owner(flow: Mapping[str, Any]) -> str:
    if flow.get("foreign"):
        return "not ours"
    return cell(flow.get("owner_name") or flow.get("owner"))


def _why(flow: Mapping[str, Any]) -> str:
    """The rule that the flow stands for, and the stage's note."""
    return ": ".join(str(flow[key]) for key in ("note", "rule") if flow.get(key))


def _place(answer: Mapping[str, Any]) -> str:
    host, bridge = answer.get("host"), answer.get("bridge")
    return f"{bridge} on {host}" if host and bridge else cell(host)


def port_blocks(answer: Mapping[str, Any]) -> list[Block]:
    """Ports: what is attached, in which state and why."""
    columns = ("name", "ofport", "state", "vm", "account", "mac", "addresses", "groups", "reason")
    rows = tuple(
        tuple("\n".join(port[name]) if isinstance(port.get(name), list) else cell(port.get(name)) for name in columns)
        for port in answer.get("ports") or ()
    )
    return [Table(columns, rows, title=_place(answer))]


def trace_blocks(answer: Mapping[str, Any]) -> list[Block]:
    """A packet's way, table by table, and what became of it."""
    lines = []
    for step in answer.get("steps") or ():
        table, text = str(step.get("table")), str(step.get("text") or step.get("note") or "")
        lines.append(text if text.startswith(f"{table}:") else f"{table}: {text}")
        lines += [f"    {step[key]}" for key in ("flow", "actions") if step.get(key)]
    where = f" to {answer['where']}" if answer.get("where") else ""
    reason = f": {answer['reason']}" if answer.get("reason") else ""
    return [Text("\n".join([*lines, f"=> {answer.get('verdict')}{where}{reason}"]))]


def explain_blocks(answer: Mapping[str, Any]) -> list[Block]:
    """One flow in a sentence, and all that is known of it."""
    known = {name: value for name, value in answer.items() if name != "text" and value is not None}
    fields = Fields(tuple((name, cell(value)) for name, value in known.items()))
    return [Text(str(answer["text"])), fields] if answer.get("text") else [fields]


def drop_blocks(answer: Mapping[str, Any]) -> list[Block]:
    """Reasons for drops, the most frequent first; those that have not occurred are only counted."""
    reasons = answer.get("drops") or ()
    occurred = sorted((drop for drop in reasons if drop.get("packets")), key=lambda drop: -int(drop["packets"]))
    rows = tuple((cell(drop["packets"]), cell(drop.get("reason")), cell(drop.get("table"))) for drop in occurred)
    rest = Text(f"(reasons that have not occurred: {len(reasons) - len(occurred)}; -o json names them)")
    return [Table(("packets", "reason", "table"), rows, title=_place(answer)), rest] if rows else [rest]


def cost_blocks(answer: Mapping[str, Any]) -> list[Block]:
    """What takes many flows, the largest first."""
    tables = (
        ("kinds", ("flows", "kind")),
        ("owners", ("flows", "owner_name", "owner")),
        ("rules", ("flows", "rule", "id")),
        ("groups", ("addresses", "group")),
    )
    found = []
    for name, columns in tables:
        rows = tuple(tuple(cell(one.get(column)) for column in columns) for one in answer.get(name) or ())
        found.append(Table(columns, rows, title=f"{name} of {_place(answer)}"))
    return [*found, Text(f"{cell(answer.get('flows'))} flows altogether")]
