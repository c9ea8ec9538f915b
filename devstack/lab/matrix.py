# SPDX-License-Identifier: Apache-2.0
"""What probes saw, as a table for people: who, on what, whom; expected and seen."""

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from devstack.lab.network import Seen

LEGEND = (
    "Each cell is expected and seen alike over IPv4 and IPv6: [green]open[/], or [dim]·[/] for blocked. "
    "[bold red]Red[/] tells what was expected and seen instead."
)


def cell(probes: Sequence[Seen]) -> Text:
    """One field: the probes (IPv4, IPv6) of one source to one target and service."""
    wrong = [probe for probe in probes if not probe.agrees]
    if wrong:
        words = ", ".join(
            f"v{probe.cell.version} expected {'open' if probe.cell.reachable else 'blocked'}, seen {probe.result}"
            for probe in wrong
        )
        return Text(words, "bold red")
    if not probes:
        return Text(" ")
    return Text("open", "green") if probes[0].cell.reachable else Text("·", "dim")


def matrix(title: str, seen: Iterable[Seen]) -> Table:
    """A row for each service and source, a column for each target, all in the order of their first appearance."""
    fields: dict[tuple[str, str], dict[str, list[Seen]]] = {}
    targets: dict[str, None] = {}
    for one in seen:
        target = one.cell.target_name
        targets[target] = None
        fields.setdefault((one.cell.service, one.cell.source.name), {}).setdefault(target, []).append(one)
    table = Table(title=title, title_justify="left", title_style="bold")
    for heading in ("on what", "who", *(f"→ {target}" for target in targets)):
        table.add_column(heading)
    previous = ""
    for (service, source), row in sorted(fields.items(), key=lambda item: _service_order(item[0][0], fields)):
        if previous and service != previous:
            table.add_section()
        cells = [cell(row.get(target, [])) for target in targets]
        table.add_row(service if service != previous else "", source, *cells)
        previous = service
    return table


def _service_order(service: str, fields: Iterable[tuple[str, str]]) -> int:
    return list(dict.fromkeys(name for name, _ in fields)).index(service)
