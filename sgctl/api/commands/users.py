# SPDX-License-Identifier: Apache-2.0
"""Users and their keys."""

from dataclasses import replace
from secrets import token_urlsafe

from sgctl.api import views
from sgctl.api.command import Answer, Call, command, new_id
from sgctl.api.errors import absent, denied, invalid
from sgctl.api.listing import mentions, page, selected
from sgctl.api.owners import OWNED_LISTING, acting, check_scope, demand_access, existing, named_account
from sgctl.api.params import Param, ident, integer, text
from sgctl.model import Account, Key, User

KEY_BYTES = 64

PERSON: tuple[Param, ...] = (
    text("email", "of the user", required=True),
    text("firstname", "of the user", required=True),
    text("lastname", "of the user", required=True),
    text("password", "accepted and not kept: there is no login", required=True),
    text("username", "of the user, unique in the cloud", required=True),
)


def new_user(call: Call, account: Account) -> User:
    """A user of an account, as the parameters in `PERSON` describe it."""
    username = call.args.text("username")
    if call.draft.find(User, username=username):
        raise invalid(f"The user {username} already exists")
    return User(
        id=new_id(),
        account=account.id,
        username=username,
        firstname=call.args.text("firstname"),
        lastname=call.args.text("lastname"),
        email=call.args.text("email"),
        created=call.now,
    )


@command(
    "createUser",
    "Creates another user of an account.",
    *PERSON,
    text("account", "the account", required=True),
    ident("domainid", "the domain; there is one, ROOT"),
    text("timezone", "accepted and ignored"),
    answer="user",
    admin=True,
)
def create_user(call: Call) -> Answer:
    """It has no keys until they are registered."""
    check_scope(call)
    account = named_account(call, call.args.text("account"))
    if account is None:
        raise absent("account", call.args.text("account"))
    return views.user(call.draft, call.draft.insert(new_user(call, account)))


@command(
    "deleteUser",
    "Deletes a user with its keys.",
    ident("id", "the user", required=True),
    admin=True,
)
def delete_user(call: Call) -> Answer:
    """What it has made belongs to its account, and stays."""
    user = existing(call, User, "id")
    if user.id == call.caller.user.id:
        raise denied("a user cannot delete itself")
    for key in call.draft.find(Key, user=user.id):
        call.draft.delete(key)
    call.draft.delete(user)
    return None


@command(
    "registerUserKeys",
    "Makes a new API key and secret for a user; the old ones are no longer valid.",
    ident("id", "the user", required=True),
    answer="userkeys",
)
def register_user_keys(call: Call) -> Answer:
    """One's own; another account's is a root admin's to do. The only answer that ever has a secret."""
    user = existing(call, User, "id")
    demand_access(call, user.account, "user")
    for old in call.draft.find(Key, user=user.id):
        call.draft.delete(old)
    key = new_key(user.id, call.now)
    call.draft.insert(replace(key, secret=call.settings.sealer.seal(key.secret)))
    return {"apikey": key.api_key, "secretkey": key.secret}


def new_key(user: str, now: int) -> Key:
    """A random key pair."""
    api_key, secret = token_urlsafe(KEY_BYTES), token_urlsafe(KEY_BYTES)
    return Key(id=new_id(), user=user, api_key=api_key, secret=secret, created=now)


@command(
    "listUsers",
    "Lists users.",
    *OWNED_LISTING,
    ident("id", "only this one"),
    text("username", "only the one of this name"),
    integer("accounttype", "only those of accounts of this type"),
    text("state", "enabled"),
    answer="user",
)
def list_users(call: Call) -> Answer:
    """A user sees those of its own account."""
    kind = call.args.integer("accounttype")
    users = [
        user
        for user in _visible(call)
        if selected(call, id=user.id, username=user.username, state="enabled")
        and kind in (None, _type(call, user))
        and mentions(call, user.username)
    ]
    return page(call, users, lambda user: views.user(call.draft, user))


def _visible(call: Call) -> list[User]:
    account = acting(call)
    chosen = call.args.flag("listall") or "id" in call.args or "username" in call.args
    if call.caller.admin and chosen and "account" not in call.args:
        return call.draft.all(User)
    return call.draft.find(User, account=account.id)


def _type(call: Call, user: User) -> int | None:
    account = call.draft.get(Account, user.account)
    return account.type if account else None


@command(
    "getUser",
    "Finds a user by its API key.",
    text("userapikey", "the key", required=True),
    answer="user",
)
def get_user(call: Call) -> Answer:
    """One's own; another account's is a root admin's to see."""
    api_key = call.args.text("userapikey")
    key = next(iter(call.draft.find(Key, api_key=api_key)), None)
    user = call.draft.get(User, key.user) if key else None
    if user is None:
        raise absent("userapikey", "of nobody")
    demand_access(call, user.account, "user")
    return views.user(call.draft, user)
