# SPDX-License-Identifier: Apache-2.0
"""Rules of security groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sgctl.api import views
from sgctl.api.command import Answer, Barrier, Call, Mode, Object, command, new_id
from sgctl.api.commands.groups import chosen_group, find_group
from sgctl.api.errors import Code, EarlyError, absent, invalid
from sgctl.api.owners import OWNER, acting, check_scope, demand_access, named_account
from sgctl.api.params import Param, boolean, ident, integer, table, text, texts
from sgctl.model import Cut, Group, Nic, Rule
from sgctl.rules import RuleError, Traffic, digest, traffic, words

INGRESS, EGRESS = "ingress", "egress"

_WAIT = boolean("wait", "extension: the job ends only when all hosts with members of the group have installed it")
_TERMINATE = boolean("terminate", "extension: the connections that the rule has admitted end; default: they go on")
_AUTHORIZE: tuple[Param, ...] = (
    ident("securitygroupid", "the group; or give securitygroupname"),
    text("securitygroupname", "the group's name"),
    text("protocol", "tcp, udp, icmp, sctp, ah, esp, gre, vrrp ..., all (the default), or a number from 0 to 255"),
    integer("startport", "first port, for tcp, udp and sctp; 0 to 0 means all"),
    integer("endport", "last port; default: the first"),
    integer("icmptype", "ICMP type, -1 for all; with an IPv6 CIDR an ICMPv6 type"),
    integer("icmpcode", "ICMP code, -1 for all"),
    texts("cidrlist", "who: networks, IPv4 or IPv6"),
    table(
        "usersecuritygrouplist",
        "who: groups, each with .account and .group; or plain names of groups of the account given as account",
    ),
    _WAIT,
    *OWNER,
)


@dataclass(frozen=True, slots=True)
class _Peer:
    """Who a rule is about, and its name for people."""

    cidr: str = ""
    group: str | None = None
    name: str = ""


@command(
    "authorizeSecurityGroupIngress",
    "Allows traffic to the members of a group.",
    *_AUTHORIZE,
    answer="securitygroup",
    mode=Mode.ASYNC,
)
def authorize_ingress(call: Call) -> Answer:
    """The answer has the new rules only."""
    return _authorize(call, INGRESS)


@command(
    "authorizeSecurityGroupEgress",
    "Allows traffic from the members of a group; what no egress rule allows is then denied.",
    *_AUTHORIZE,
    answer="securitygroup",
    mode=Mode.ASYNC,
)
def authorize_egress(call: Call) -> Answer:
    """The answer has the new rules only."""
    return _authorize(call, EGRESS)


def _authorize(call: Call, direction: str) -> Answer:
    group = _changed_group(call)
    what = _traffic(call)
    peers = [*_cidrs(call), *_groups(call)]
    if not peers:
        raise invalid("At least one cidr or at least one security group needs to be specified")
    rules: dict[str, Rule] = {}
    for peer in peers:
        row = _rule(call, group, direction, what, peer)
        rules.setdefault(row.digest, row)
    new = [row for row in rules.values() if not _exists(call, row)]
    if not new:
        names = ", ".join(words(direction, what.protocol, what.first, what.last, peer.name) for peer in peers)
        raise invalid(f"security group {group.name} has all of this already: {names}")
    for row in new:
        call.draft.insert(row)
    return _when_in_force(call, group, views.group(call.draft, group, new))


def _when_in_force(call: Call, group: Group, answer: Object | None) -> Answer:
    """The answer now; or, if asked for, when the hosts of the group's members have installed the change."""
    if not call.args.flag("wait"):
        return answer
    return Barrier(answer, frozenset(nic.host for nic in call.draft.find(Nic, groups=group.id) if nic.host))


def _changed_group(call: Call) -> Group:
    """The group whose rules change. With a plain list, `account` is the owner of the groups in it, not of this one."""
    account = call.caller.account if call.args.texts("usersecuritygrouplist") else acting(call)
    return chosen_group(call, "securitygroupid", "securitygroupname", account)


def _traffic(call: Call) -> Traffic:
    args = call.args
    try:
        return traffic(
            args.text("protocol"),
            start=args.integer("startport"),
            end=args.integer("endport"),
            icmp_type=args.integer("icmptype"),
            icmp_code=args.integer("icmpcode"),
        )
    except RuleError as error:
        raise invalid(str(error)) from None


def _cidrs(call: Call) -> Iterator[_Peer]:
    for cidr in call.args.texts("cidrlist"):
        yield _Peer(cidr=cidr, name=cidr)


def _groups(call: Call) -> Iterator[_Peer]:
    names = call.args.texts("usersecuritygrouplist")
    if names:
        check_scope(call)
    owner = call.args.text("account", call.caller.account.name)
    for name in names:
        yield _group(call, owner, name)
    for entry in call.args.entries("usersecuritygrouplist"):
        if not entry.get("account") or not entry.get("group"):
            raise invalid("usersecuritygrouplist: each entry needs both account and group")
        yield _group(call, entry["account"], entry["group"])


def _group(call: Call, owner: str, name: str) -> _Peer:
    """Any account may be named: its consent is not needed, and nothing of it is shown but what exists."""
    account = named_account(call, owner)
    if account is None:
        raise invalid(f"usersecuritygrouplist: unable to find account {owner}")
    group = find_group(call, account, name)
    if group is None:
        raise invalid(f"usersecuritygrouplist: unable to find security group {name} of account {account.name}")
    return _Peer(group=group.id, name=f"{account.name}/{group.name}")


def _rule(call: Call, group: Group, direction: str, what: Traffic, peer: _Peer) -> Rule:
    try:
        normal = digest(what, cidr=peer.cidr, peer=peer.group)
    except RuleError as error:
        raise invalid(f"cidrlist: {error}") from None
    return Rule(
        id=new_id(),
        group=group.id,
        direction=direction,
        protocol=what.protocol,
        proto=what.proto,
        first=what.first,
        last=what.last,
        cidr=peer.cidr,
        peer=peer.group,
        digest=normal,
        created=call.now,
    )


def _exists(call: Call, row: Rule) -> bool:
    return bool(call.draft.find(Rule, group=row.group, direction=row.direction, digest=row.digest))


@command(
    "revokeSecurityGroupIngress",
    "Takes an ingress rule back; it admits no new connections.",
    ident("id", "the rule", required=True),
    _WAIT,
    _TERMINATE,
    mode=Mode.ASYNC,
)
def revoke_ingress(call: Call) -> Answer:
    """Rules of the other direction are not found."""
    return _revoke(call, INGRESS)


@command(
    "revokeSecurityGroupEgress",
    "Takes an egress rule back; it admits no new connections.",
    ident("id", "the rule", required=True),
    _WAIT,
    _TERMINATE,
    mode=Mode.ASYNC,
)
def revoke_egress(call: Call) -> Answer:
    """Rules of the other direction are not found."""
    return _revoke(call, EGRESS)


def _revoke(call: Call, direction: str) -> Answer:
    rule = call.draft.get(Rule, call.args.text("id"))
    group = call.draft.get(Group, rule.group) if rule else None
    if rule is None or group is None:
        raise absent("id", call.args.text("id"))
    demand_access(call, group.account, "rule")
    if rule.direction != direction:
        raise EarlyError(Code.PARAMETER, f"Unable to find {direction} rule {rule.id}: it is an {rule.direction} rule")
    call.draft.delete(rule)
    if call.args.flag("terminate"):
        call.draft.insert(Cut(id=new_id(), rule=rule.id, created=call.now))
    return _when_in_force(call, group, None)
