# SPDX-License-Identifier: Apache-2.0
"""Finding the flow that a packet matches, among thousands.

Flows of one table are kept by mask, as in the switch's own classifier (tuple space search): flows with the same mask
lie in one dictionary keyed by their value, so a look-up costs one AND and one dictionary access per mask in the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flows.flow import Flow
from flows.headers import pack


class Ambiguous(ValueError):
    """Flows of equal priority that contradict each other for one packet; which one a switch takes is undefined."""


class _Group:
    """The flows of one table that look at the same bits."""

    __slots__ = ("flows", "highest", "mask")

    def __init__(self, mask: int) -> None:
        self.mask = mask
        self.highest = -1
        self.flows: dict[int, dict[int, Flow]] = {}

    def refresh(self) -> None:
        self.highest = max((max(same) for same in self.flows.values()), default=-1)


class Index:
    """Flows by table, priority and match."""

    def __init__(self, flows: Iterable[Flow] = ()) -> None:
        self._tables: dict[int, dict[int, _Group]] = {}
        self._order: dict[int, list[tuple[int, int, dict[int, Flow]]]] = {}
        for flow in flows:
            self.add(flow)

    def add(self, flow: Flow) -> None:
        """Add a flow.

        Raises Ambiguous if another flow has its table, priority and match but other actions.
        """
        old = self.get(flow)
        if old is not None and old.actions != flow.actions:
            raise Ambiguous(f"the same match twice:\n  {old}\n  {flow}")
        self.replace(flow)

    def replace(self, flow: Flow) -> None:
        """Add a flow, in place of the one with the same table, priority and match if there is one."""
        value, mask = pack(flow.match.terms)
        group = self._tables.setdefault(flow.table, {}).setdefault(mask, _Group(mask))
        group.flows.setdefault(value, {})[flow.priority] = flow
        group.highest = max(group.highest, flow.priority)
        self._order.pop(flow.table, None)

    def remove(self, flow: Flow) -> None:
        """Remove the flow with this table, priority and match."""
        value, mask = pack(flow.match.terms)
        group = self._tables[flow.table][mask]
        same = group.flows[value]
        del same[flow.priority]
        if not same:
            del group.flows[value]
        group.refresh()
        self._order.pop(flow.table, None)

    def get(self, flow: Flow) -> Flow | None:
        """The flow with the same table, priority and match."""
        value, mask = pack(flow.match.terms)
        group = self._tables.get(flow.table, {}).get(mask)
        return group.flows.get(value, {}).get(flow.priority) if group else None

    def __iter__(self) -> Iterator[Flow]:
        for groups in self._tables.values():
            for group in groups.values():
                for same in group.flows.values():
                    yield from same.values()

    def find(self, table: int, headers: int) -> Flow | None:
        """The flow of highest priority that matches.

        Raises Ambiguous if several of that priority match and do not do the same.
        """
        order = self._order.get(table)
        if order is None:
            order = self._order[table] = self._sorted(table)
        best: Flow | None = None
        rival: Flow | None = None
        for highest, mask, flows in order:
            if best is not None and highest < best.priority:
                break
            flow = flows.get(headers & mask)
            if flow is None:
                continue
            if best is None or flow.priority > best.priority:
                best, rival = flow, None
            elif flow.priority == best.priority and flow.actions != best.actions:
                rival = flow
        if best is not None and rival is not None:
            raise Ambiguous(f"two flows of equal priority match:\n  {best}\n  {rival}")
        return best

    def _sorted(self, table: int) -> list[tuple[int, int, dict[int, Flow]]]:
        groups = sorted(self._tables.get(table, {}).values(), key=lambda group: -group.highest)
        return [(one.highest, one.mask, {v: same[max(same)] for v, same in one.flows.items()}) for one in groups]
