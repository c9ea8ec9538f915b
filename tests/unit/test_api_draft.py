# SPDX-License-Identifier: Apache-2.0
"""What a command would write, before it is written."""

from sgctl.api.draft import Draft
from sgctl.model import Nic
from tests.unit.api_memory import Cloud


def test_a_draft_shows_its_own_changes_and_writes_differences_only() -> None:
    memory = Cloud().memory
    draft = Draft(memory.replica)
    nic = draft.insert(Nic(id="n", vm="v", account="a", pod="p", mac="m", groups=frozenset({"g"})))
    assert draft.find(Nic, groups="g") == [nic]
    assert draft.find(Nic, groups="h") == []
    draft.update(nic, groups=frozenset({"h"}))
    assert [row.groups for row in draft.find(Nic, groups="h")] == [frozenset({"h"})]
    draft.delete(nic)
    assert draft.get(Nic, "n") is None
    assert draft.changes() == ([], [])
