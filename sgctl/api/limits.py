# SPDX-License-Identifier: Apache-2.0
"""That no account takes more than its quota, whichever command makes it grow, and whoever gives it.

What is limited is counted in the replica. An account's or group's `grown` counts up with each growth, and a transaction
is guarded by it: of two servers that both see room for one more, one has to look again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from sgctl.api.draft import Draft
from sgctl.api.errors import ApiError, Code
from sgctl.model import Account, Group, Member, Record, Rule, Vm
from sgctl.quotas import Quotas, option

Owner: TypeAlias = Account | Group


@dataclass(frozen=True, slots=True)
class _Limit:
    """quota: the field of `Quotas`.  rows: what is counted, by their column `by`, which names the owner."""

    quota: str
    rows: type[Record]
    by: str
    owner: type[Account] | type[Group]
    what: str
    counts: Callable[[Any], bool] = lambda row: True


def _lives(vm: Vm) -> bool:
    return vm.wanted != "Destroyed"


_LIMITS = (
    _Limit("groups_per_account", Group, "account", Account, "security groups"),
    _Limit("vms_per_account", Vm, "account", Account, "VMs", _lives),
    _Limit("rules_per_group", Rule, "group", Group, "rules"),
    _Limit("members_per_group", Member, "group", Group, "members' addresses"),
)


def check_growth(draft: Draft, quotas: Quotas) -> None:
    """Refuse (532) a draft, complete but for its job, that lets an account or group have more than it may."""
    for limit in _LIMITS:
        most = getattr(quotas, limit.quota)
        owners = {getattr(row, limit.by) for row in draft.inserted(limit.rows)} if most else set[str]()
        for id in sorted(owners):
            _check(draft, limit, id, most)


def _check(draft: Draft, limit: _Limit, id: str, most: int) -> None:
    # Before the rows are counted: what comes in between fails the guard.
    owner: Owner | None = draft.get(limit.owner, id)
    if owner is None:
        return
    draft.update(owner, grown=owner.grown + 1)
    column = {limit.by: id}
    if draft.count(limit.rows, **column) <= most:
        return
    if sum(map(limit.counts, draft.find(limit.rows, **column))) > most:
        kind = "account" if isinstance(owner, Account) else "security group"
        text = f"{kind} {owner.name} may have {most} {limit.what} at most ({option(limit.quota)})"
        raise ApiError(Code.LIMIT, text)
