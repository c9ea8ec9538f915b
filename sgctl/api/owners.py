# SPDX-License-Identifier: Apache-2.0
"""Whose objects a call is about, and whether the caller may see or change them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import TypeVar
from uuid import NAMESPACE_OID, uuid5

from sgctl.api.command import Call
from sgctl.api.errors import Code, EarlyError, absent, denied
from sgctl.api.listing import breathing
from sgctl.api.params import Param, boolean, ident, integer, text
from sgctl.model import Account, Group, Nic, Record, Vm

T = TypeVar("T", bound=Record)
Owned = TypeVar("Owned", Group, Vm, Nic)

DOMAIN_ID = str(uuid5(NAMESPACE_OID, "sgctl domain ROOT"))
DOMAIN = "ROOT"

OWNER: tuple[Param, ...] = (
    text("account", "an account to act for, instead of the caller's"),
    ident("domainid", "the domain of the account; there is one, ROOT"),
    ident("projectid", "there are no projects"),
)
LISTING: tuple[Param, ...] = (
    text("keyword", "only what has this in its name or description, or, without these, in its addresses or command"),
    integer("page", "which page, from 1"),
    integer("pagesize", "objects per page, at most 500; -1 without page: all"),
)
OWNED_LISTING: tuple[Param, ...] = (
    *LISTING,
    boolean("listall", "all that the caller may see; for root admins everybody's"),
    boolean("isrecursive", "of subdomains too; there are none"),
    *OWNER,
)


def key_of(name: str) -> str:
    """What names are compared by: case does not count."""
    return unicodedata.normalize("NFC", name).casefold()


def existing(call: Call, kind: type[T], param: str) -> T:
    """The object that a required parameter names by its id."""
    row = call.draft.get(kind, call.args.text(param))
    if row is None:
        raise absent(param, call.args.text(param))
    return row


def optional(call: Call, kind: type[T], param: str) -> T | None:
    """The object that a parameter names by its id; None if the parameter is not given."""
    return existing(call, kind, param) if param in call.args else None


def own(call: Call, kind: type[Owned], param: str) -> Owned:
    """Like `existing`, for what belongs to accounts: 531 if it is not the caller's to use."""
    row = existing(call, kind, param)
    demand_access(call, row.account, param)
    return row


def demand_access(call: Call, account: str, what: str) -> None:
    """531 unless the caller is that account or a root admin."""
    if account != call.caller.account.id and not call.caller.admin:
        raise denied(f"{call.caller.account.name} may not use this {what}: it belongs to another account")


def check_scope(call: Call) -> None:
    """Refuse domains and projects that do not exist."""
    if call.args.text("domainid", DOMAIN_ID) != DOMAIN_ID:
        raise absent("domainid", call.args.text("domainid"))
    if "projectid" in call.args:
        raise absent("projectid", call.args.text("projectid"))


def named_account(call: Call, name: str) -> Account | None:
    """The account of that name."""
    return next(iter(call.draft.find(Account, name_key=key_of(name))), None)


def acting(call: Call) -> Account:
    """The account that a call is about: the one named by `account`, otherwise the caller's own."""
    check_scope(call)
    name = call.args.text("account")
    if not name or key_of(name) == call.caller.account.name_key:
        return call.caller.account
    if not call.caller.admin:
        raise denied(f"{call.caller.account.name} may not act for the account {name}")
    account = named_account(call, name)
    if account is None:
        raise EarlyError(Code.PARAMETER, f"Unable to find account {name} in domain {DOMAIN_ID}")
    return account


def visible(call: Call, kind: type[Owned], matches: Callable[[Owned], bool] | None, **columns: str) -> list[Owned]:
    """The rows a list command is about: the account's, or everybody's for a root admin who says so or names an id.

    matches: which of them, None: all.  columns: values that they must have, too; those of an index make it fast.
    """
    account = acting(call)
    everybody = call.caller.admin and "account" not in call.args and (call.args.flag("listall") or "id" in call.args)
    owned = columns if everybody else {**columns, "account": account.id}
    if "id" in call.args:
        row = call.draft.get(kind, call.args.text("id"))
        rows = [row] if row and all(getattr(row, name) == value for name, value in owned.items()) else []
    else:
        rows = call.draft.find(kind, **owned) if owned else call.draft.all(kind)
    return rows if matches is None else [row for row in breathing(rows) if matches(row)]
