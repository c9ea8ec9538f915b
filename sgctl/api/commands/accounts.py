# SPDX-License-Identifier: Apache-2.0
"""Accounts."""

from sgctl.api import views
from sgctl.api.command import Answer, Call, Mode, command, new_id
from sgctl.api.commands.users import PERSON, new_user
from sgctl.api.errors import ApiError, Code, denied, invalid
from sgctl.api.listing import mentions, page, selected
from sgctl.api.membership import remove_nic
from sgctl.api.owners import LISTING, check_scope, existing, key_of, named_account
from sgctl.api.params import boolean, ident, integer, text
from sgctl.model import Account, Group, Job, Key, Nic, Rule, User, Vm

DEFAULT_GROUP = "default"


@command(
    "createAccount",
    "Creates an account with its first user and its group `default`.",
    integer("accounttype", "0 user, 1 root admin, 2 domain admin", required=True),
    *PERSON,
    text("account", "the account's name; default: the user's"),
    ident("domainid", "the domain; there is one, ROOT"),
    text("roleid", "accepted and ignored"),
    text("timezone", "accepted and ignored"),
    answer="account",
    admin=True,
)
def create_account(call: Call) -> Answer:
    """Names are unique, whatever their case."""
    check_scope(call)
    kind = call.args.integer("accounttype")
    if kind not in views.ACCOUNT_TYPES:
        raise invalid("accounttype must be 0, 1 or 2")
    name = call.args.text("account", call.args.text("username"))
    if named_account(call, name):
        raise invalid(f"An account with the name {name} already exists")
    account = Account(id=new_id(), name=name, name_key=key_of(name), type=kind, created=call.now)
    call.draft.insert(account)
    call.draft.insert(_default_group(call, account))
    call.draft.insert(new_user(call, account))
    return views.account(call.draft, account)


def _default_group(call: Call, account: Account) -> Group:
    return Group(
        id=new_id(),
        account=account.id,
        name=DEFAULT_GROUP,
        name_key=DEFAULT_GROUP,
        description="Default Security Group",
        created=call.now,
    )


@command(
    "deleteAccount",
    "Deletes an account with its users, groups and VMs.",
    ident("id", "the account", required=True),
    mode=Mode.ASYNC,
    admin=True,
)
def delete_account(call: Call) -> Answer:
    """Refused while another account's rules name one of its groups."""
    account = existing(call, Account, "id")
    if account.id == call.caller.account.id:
        raise denied("an account cannot delete itself")
    groups = call.draft.find(Group, account=account.id)
    own = {group.id for group in groups}
    for group in groups:
        for rule in call.draft.find(Rule, peer=group.id):
            if rule.group not in own:
                raise ApiError(Code.IN_USE, f"the group {group.name} is named by a rule of another account")
    _delete_vms(call, account)
    for group in groups:
        for rule in call.draft.find(Rule, group=group.id):
            call.draft.delete(rule)
        call.draft.delete(group)
    for user in call.draft.find(User, account=account.id):
        for key in call.draft.find(Key, user=user.id):
            call.draft.delete(key)
        call.draft.delete(user)
    for job in call.draft.find(Job, account=account.id):
        call.draft.delete(job)
    call.draft.delete(account)
    return None


def _delete_vms(call: Call, account: Account) -> None:
    for vm in call.draft.find(Vm, account=account.id):
        for nic in call.draft.find(Nic, vm=vm.id):
            remove_nic(call.draft, nic)
        call.draft.delete(vm)


@command(
    "listAccounts",
    "Lists accounts.",
    *LISTING,
    ident("id", "only this one"),
    text("name", "only the one of this name"),
    integer("accounttype", "only those of this type"),
    text("state", "enabled"),
    boolean("listall", "all accounts; for root admins"),
    boolean("isrecursive", "of subdomains too; there are none"),
    ident("domainid", "only those of this domain"),
    answer="account",
)
def list_accounts(call: Call) -> Answer:
    """A user sees its own; a root admin its own, or all of them with listall, or one by id or name."""
    check_scope(call)
    kind = call.args.integer("accounttype")
    wide = call.caller.admin and (call.args.flag("listall") or "id" in call.args or "name" in call.args)
    accounts = [
        account
        for account in (call.draft.all(Account) if wide else [call.caller.account])
        if selected(call, id=account.id, name=account.name, state="enabled")
        and kind in (None, account.type)
        and mentions(call, account.name)
    ]
    return page(call, accounts, lambda account: views.account(call.draft, account))
