# SPDX-License-Identifier: Apache-2.0
"""What probes saw, as a table for people: who, on what, whom; expected and seen."""

from collections import defaultdict
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
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


def matrix(title: str, seen: Sequence[Seen]) -> Table:
    """A section for each service, a row for each source, a column for each target, in the order of the probes."""
    names = dict.fromkeys(name for one in seen for name in (one.cell.source.name, one.cell.target_name))
    targets = {one.cell.target_name for one in seen}
    columns = [name for name in names if name in targets]
    fields: dict[tuple[str, str], dict[str, list[Seen]]] = defaultdict(lambda: defaultdict(list))
    for one in seen:
        fields[one.cell.service, one.cell.source.name][one.cell.target_name].append(one)
    table = Table(
        "on what", "who → whom", *columns, title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD
    )
    for service in dict.fromkeys(service for service, _ in fields):
        table.add_section()
        for source in (name for name in names if (service, name) in fields):
            row = fields[service, source]
            table.add_row(service, source, *(cell(row[target]) for target in columns))
    return table
