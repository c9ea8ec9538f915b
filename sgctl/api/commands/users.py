# SPDX-License-Identifier: Apache-2.0
"""Users and their keys."""

from secrets import token_urlsafe

from sgctl.api import views
from sgctl.api.command import Answer, Call, command, new_id
from sgctl.api.errors import absent
from sgctl.api.listing import mentions, page, selected
from sgctl.api.owners import OWNED_LISTING, acting, demand_access, existing
from sgctl.api.params import ident, integer, text
from sgctl.model import Account, Key, User

KEY_BYTES = 64


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
    call.draft.insert(key)
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
