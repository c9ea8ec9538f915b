# SPDX-License-Identifier: Apache-2.0
"""Security groups as the JSON text of lists, kept until a row that they show changes.

Clients list hundreds of groups again and again; making the text is nearly all of the work, and groups rarely change.
"""

from __future__ import annotations

from collections.abc import Iterator

from sgctl.api import views
from sgctl.api.envelope import Text, dumps
from sgctl.model import Account, Group, Nic, Rule
from sgctl.store import Changes, Replica

MOST = 20_000
"""Groups of which texts are kept."""


class Rendered:
    """The texts by group, and which groups each row is shown in."""

    def __init__(self, reads: Replica) -> None:
        self._reads = reads
        self._texts: dict[str, Text] = {}
        self._shown: dict[str, frozenset[str]] = {}
        self._shown_in: dict[str, set[str]] = {}
        self._names = {account.id: account.name for account in reads.all(Account)}
        self._changes = 0
        reads.on_change(self._note)

    @property
    def kept(self) -> int:
        """Of how many groups there is something."""
        return len(self._texts.keys() | self._shown.keys() | set().union(*self._shown_in.values()))

    def group(self, row: Group) -> Text:
        """A group as `views.group` shows it."""
        return self._texts.get(row.id) or self._render(row)

    def _render(self, row: Group) -> Text:
        changes = self._changes
        # The row may have changed since the caller got it, and been noted before `changes` was read.
        row = self._reads.get(Group, row.id) or row
        text = Text(dumps(views.group(self._reads, row)))
        shown = frozenset(self._rows(row.id))
        if changes == self._changes:
            self._keep(row.id, text, shown)
        return text

    def _rows(self, group: str) -> Iterator[str]:
        """The rows that are shown in a group: its rules, the groups that they name, its members."""
        for rule in self._reads.find(Rule, group=group):
            yield rule.id
            if rule.peer:
                yield rule.peer
        for nic in self._reads.find(Nic, groups=group):
            yield nic.id

    def _keep(self, group: str, text: Text, shown: frozenset[str]) -> None:
        if len(self._texts) >= MOST:
            self._clear()
        self._texts[group], self._shown[group] = text, shown
        for id in shown:
            self._shown_in.setdefault(id, set()).add(group)

    def _note(self, changes: Changes) -> None:
        """Rows have changed."""
        self._changes += 1
        for kind, id in changes:
            if kind is Account:
                self._note_account(id)
            elif kind is Group or kind is Rule or kind is Nic:
                self._forget(id)

    def _note_account(self, id: str) -> None:
        """Texts show accounts' names; what else their rows say changes with every VM."""
        account = self._reads.get(Account, id)
        name = account.name if account else ""
        if self._names.get(id) != name:
            self._clear()
        if account:
            self._names[id] = name
        else:
            self._names.pop(id, None)

    def _forget(self, id: str) -> None:
        """Forget the groups that a row was shown in, and those that it is to be shown in."""
        groups = {id, *self._shown_in.get(id, ())}
        if rule := self._reads.get(Rule, id):
            groups.add(rule.group)
        if nic := self._reads.get(Nic, id):
            groups |= nic.groups
        for group in groups:
            self._drop(group)

    def _drop(self, group: str) -> None:
        self._texts.pop(group, None)
        for id in self._shown.pop(group, ()):
            shown_in = self._shown_in[id]
            shown_in.discard(group)
            if not shown_in:
                del self._shown_in[id]

    def _clear(self) -> None:
        self._texts, self._shown, self._shown_in = {}, {}, {}
