# SPDX-License-Identifier: Apache-2.0
"""Security groups."""

from sgctl.api import views
from sgctl.api.command import Answer, Call, command, new_id
from sgctl.api.commands.accounts import DEFAULT_GROUP
from sgctl.api.errors import ApiError, Code, EarlyError, invalid
from sgctl.api.listing import mentions, page
from sgctl.api.owners import OWNED_LISTING, OWNER, acting, key_of, own, visible
from sgctl.api.params import Param, ident, table, text
from sgctl.model import Account, Group, Nic, Rule, Vm


def find_group(call: Call, account: Account, name: str) -> Group | None:
    """An account's group of that name."""
    return next(iter(call.draft.find(Group, account=account.id, name_key=key_of(name))), None)


def chosen_group(call: Call, by_id: str, by_name: str, account: Account) -> Group:
    """The group that either of two parameters names; 431 if both or neither is given."""
    if (by_id in call.args) == (by_name in call.args):
        raise EarlyError(Code.PARAMETER, f"give either {by_id} or {by_name}")
    if by_id in call.args:
        return own(call, Group, by_id)
    group = find_group(call, account, call.args.text(by_name))
    if group is None:
        raise EarlyError(
            Code.PARAMETER, f"Unable to find security group {call.args.text(by_name)} of account {account.name}"
        )
    return group


@command(
    "createSecurityGroup",
    "Creates a security group.",
    text("name", "its name, unique in the account whatever its case", required=True),
    text("description", "what it is for"),
    *OWNER,
    answer="securitygroup",
)
def create_group(call: Call) -> Answer:
    """A new group has no rules: nothing comes in, everything may leave."""
    account = acting(call)
    name = call.args.text("name")
    _check_name(call, account, name)
    group = Group(
        id=new_id(),
        account=account.id,
        name=name,
        name_key=key_of(name),
        description=call.args.text("description"),
        created=call.now,
    )
    return views.group(call.draft, call.draft.insert(group))


def _check_name(call: Call, account: Account, name: str) -> None:
    if find_group(call, account, name):
        raise invalid(
            f"Unable to create security group, a group with name {name} already exists for account {account.name}"
        )


@command(
    "deleteSecurityGroup",
    "Deletes a security group.",
    ident("id", "the group; or give its name"),
    text("name", "the group's name"),
    *OWNER,
)
def delete_group(call: Call) -> Answer:
    """Refused for the default group, and while a VM or another group's rule uses it."""
    group = chosen_group(call, "id", "name", acting(call))
    if group.name_key == DEFAULT_GROUP:
        raise invalid("The default security group cannot be deleted")
    if any(rule.group != group.id for rule in call.draft.find(Rule, peer=group.id)):
        raise ApiError(Code.IN_USE, f"Cannot delete group {group.name}: a rule of another group names it")
    if call.draft.find(Nic, groups=group.id):
        raise ApiError(Code.IN_USE, f"Cannot delete group {group.name}: VMs are in it")
    for rule in call.draft.find(Rule, group=group.id):
        call.draft.delete(rule)
    call.draft.delete(group)
    return None


@command(
    "updateSecurityGroup",
    "Renames a security group.",
    ident("id", "the group", required=True),
    text("name", "its new name"),
    text("customid", "accepted and ignored"),
    answer="securitygroup",
)
def update_group(call: Call) -> Answer:
    """Neither from nor to `default`."""
    group = own(call, Group, "id")
    name = call.args.text("name")
    if not name:
        return views.group(call.draft, group)
    if DEFAULT_GROUP in (group.name_key, key_of(name)):
        raise invalid("The default security group cannot be renamed, and no other can have its name")
    other = next(iter(call.draft.find(Group, account=group.account, name_key=key_of(name))), None)
    if other is not None and other.id != group.id:
        raise invalid(f"A security group with name {name} already exists")
    return views.group(call.draft, call.draft.update(group, name=name, name_key=key_of(name)))


_LIST: tuple[Param, ...] = (
    *OWNED_LISTING,
    ident("id", "only this one"),
    text("securitygroupname", "only those of exactly this name"),
    ident("virtualmachineid", "only those that this VM is in"),
    table("tags", "only those with these tags; there are none"),
)


@command(
    "listSecurityGroups",
    "Lists security groups with their rules.",
    *_LIST,
    answer="securitygroup",
)
def list_groups(call: Call) -> Answer:
    """The account's, or all that the caller may see."""
    of_vm = frozenset() if "tags" in call.args else _groups_of_vm(call)
    name = call.args.text("securitygroupname")

    def fits(group: Group) -> bool:
        return (of_vm is None or group.id in of_vm) and mentions(call, group.name, group.description)

    chosen = fits if of_vm is not None or "keyword" in call.args else None
    groups = visible(call, Group, chosen, **({"name_key": key_of(name)} if name else {}))
    return page(call, groups, call.rendered.group)


def _groups_of_vm(call: Call) -> frozenset[str] | None:
    if "virtualmachineid" not in call.args:
        return None
    vm = own(call, Vm, "virtualmachineid")
    return frozenset(group for nic in call.draft.find(Nic, vm=vm.id) for group in nic.groups)
