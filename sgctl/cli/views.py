# SPDX-License-Identifier: Apache-2.0
"""What people see of an answer of the API: columns chosen for reading, rules in words, one object as fields."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sgctl.cli.blocks import Block, Fields, Table, Text
from sgctl.cli.rules import in_words, order, peer, traffic

Object = Mapping[str, Any]

_COLUMNS = {
    "zone": ("name", "networktype", "allocationstate", "dns1", "internaldns1", "id"),
    "pod": ("name", "zonename", "gateway", "netmask", "startip", "endip", "dhcpservers", "dnsservers", "id"),
    "vlaniprange": ("startip", "endip", "gateway", "netmask", "startipv6", "endipv6", "ip6cidr", "ip6gateway", "id"),
    "allowedaddress": ("ipaddress", "macaddress", "shared", "description", "account", "nicid", "id"),
    "host": ("name", "state", "ipaddress", "zonename", "podname", "version", "id"),
    "account": ("name", "roletype", "state", "domain", "id"),
    "user": ("username", "account", "state", "email", "id"),
    "domain": ("path", "name", "level", "id"),
    "network": ("name", "type", "zonename", "cidr", "gateway", "id"),
    "template": ("name", "ostypename", "hypervisor", "format", "id"),
    "serviceoffering": ("name", "cpunumber", "memory", "id"),
    "networkoffering": ("name", "guestiptype", "state", "id"),
    "api": ("name", "isasync", "description"),
}
"""Columns of the lists whose objects need no words of their own."""


_FORCE = frozenset({"hosts", "milliseconds", "slowest"})
"""What the result of a job says, perhaps beside an object, that waited for hypervisors."""


def blocks(content: Object, columns: Sequence[str] = ()) -> list[Block]:
    """The content of an answer (or of a job's result) as blocks; only `columns` if some are named."""
    answer, force = _parted(content)
    return [*_answer_blocks(answer, columns), *([Text(in_force(force))] if force else [])]


def _parted(content: Object) -> tuple[Object, Object]:
    """The answer as it would be without waiting, and how far the change has come."""
    if not content.keys() >= _FORCE:
        return content, {}
    return (
        {name: value for name, value in content.items() if name not in _FORCE},
        {name: value for name, value in content.items() if name in _FORCE},
    )


def in_force(result: Object) -> str:
    """How far a change has come, in a sentence, with the hosts that took longest."""
    total = cell(result.get("hosts"))
    slow = [f"{one['name']} {one['milliseconds']} ms" for one in result.get("slowest") or ()]
    named = f"; slowest: {', '.join(slow)}" if slow else ""
    return f"active on {total} of {total} hosts after {cell(result.get('milliseconds'))} ms{named}"


def _answer_blocks(content: Object, columns: Sequence[str]) -> list[Block]:
    key, found = subject(content)
    if key is None:
        return _remark(content)
    if isinstance(found, list):
        return _list_blocks(key, found, columns)
    if columns:
        return [Fields(tuple((name, cell(found.get(name))) for name in columns))]
    if not key:
        return _object_blocks(key, found)
    beside = {name: value for name, value in content.items() if name != key}
    rest: list[Block] = [_fields(beside)] if beside else []
    return [*rest, *blocks(found)] if key == "jobresult" else [*_object_blocks(key, found), *rest]


def subject(content: Object) -> tuple[str | None, Any]:
    """The one list or object that an answer is about, and its name.

    The name is empty if the answer itself is the object, None if it is about nothing.
    """
    lists = [name for name, value in content.items() if _is_list_of_objects(value)]
    if lists and content.keys() <= {lists[0], "count"}:
        return lists[0], content[lists[0]]
    objects = [name for name, value in content.items() if isinstance(value, dict)]
    if len(objects) == 1 and not any(isinstance(value, list) for value in content.values()):
        return objects[0], content[objects[0]]
    if content.keys() - {"success", "displaytext", "count"}:
        return "", content
    return None, None


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def reduced(content: Object, columns: Sequence[str]) -> Object:
    """`content` with nothing but `columns` of its objects."""
    answer, force = _parted(content)
    return {**_reduced(answer, columns), **force}


def _reduced(content: Object, columns: Sequence[str]) -> Object:
    key, found = subject(content)
    if not columns or key is None:
        return content
    if isinstance(found, list):
        return {**content, key: [_only(item, columns) for item in found]}
    return {key: _only(found, columns)} if key else _only(found, columns)


def _only(item: Object, columns: Sequence[str]) -> Object:
    return {name: item[name] for name in columns if name in item}


def unknown(content: Object, columns: Sequence[str]) -> str:
    """A sentence if none of the objects has some of `columns`: misspelt, or nowhere set."""
    key, found = subject(_parted(content)[0])
    if key is None:
        return ""
    items = found if isinstance(found, list) else [found]
    names = list(dict.fromkeys(name for item in items for name in item))
    missing = [name for name in columns if name not in names]
    return f"filter: nothing here has {', '.join(missing)}; there are {', '.join(names)}" if missing and names else ""


def shortage(content: Object) -> str:
    """A sentence if the answer is one page of a longer list."""
    key, found = subject(content)
    total = content.get("count")
    if key and isinstance(found, list) and isinstance(total, int) and total > len(found):
        return f"{len(found)} of {total} shown; page=N pagesize=M shows others"
    return ""


def _remark(content: Object) -> list[Block]:
    success = content.get("success")
    if success is None:
        return []
    done = str(success).lower() == "true"
    return [Text(str(content.get("displaytext") or ("done" if done else "the API reports no success")))]


def _list_blocks(key: str, items: Sequence[Object], columns: Sequence[str]) -> list[Block]:
    if columns:
        return [Table(tuple(columns), tuple(tuple(cell(item.get(name)) for name in columns) for item in items))]
    if key == "securitygroup" and len(items) == 1:
        return _object_blocks(key, items[0])
    if row := _ROWS.get(key):
        rows = [row(item) for item in items]
        names = [name for name in rows[0] if name == "name" or any(shown[name] for shown in rows)] if rows else []
        return [Table(tuple(names), tuple(tuple(shown[name] for name in names) for shown in rows))]
    names = [name for name in _COLUMNS.get(key) or _plain_columns(items) if any(name in item for item in items)]
    return [Table(tuple(names), tuple(tuple(cell(item.get(name)) for name in names) for item in items))]


def _plain_columns(items: Sequence[Object]) -> list[str]:
    """Columns for objects that nobody chose any for: everything simple, the name first and the id last."""
    names = dict.fromkeys(name for item in items for name, value in item.items() if not isinstance(value, list | dict))
    return sorted(names, key=lambda name: (name != "name", name == "id"))


def _group_row(group: Object) -> dict[str, str]:
    return {
        "name": cell(group.get("name")),
        "account": cell(group.get("account")),
        "ingress": in_words(group.get("ingressrule") or (), egress=False),
        "egress": in_words(group.get("egressrule") or (), egress=True),
        "vms": cell(group.get("virtualmachinecount")),
        "description": cell(group.get("description")),
        "id": cell(group.get("id")),
    }


def _vm_row(vm: Object) -> dict[str, str]:
    return {
        "name": cell(vm.get("name")),
        "state": cell(vm.get("state")),
        "host": cell(vm.get("hostname")),
        "account": cell(vm.get("account")),
        "addresses": "\n".join(address for nic in vm.get("nic") or () for address in _addresses(nic)),
        "groups": "\n".join(cell(group.get("name")) for group in vm.get("securitygroup") or ()),
        "id": cell(vm.get("id")),
    }


def _nic_row(nic: Object) -> dict[str, str]:
    return {
        "macaddress": cell(nic.get("macaddress")),
        "addresses": "\n".join(_addresses(nic)),
        "gateway": "\n".join(str(nic[name]) for name in ("gateway", "ip6gateway") if nic.get(name)),
        "network": cell(nic.get("networkname")),
        "id": cell(nic.get("id")),
    }


def _job_row(job: Object) -> dict[str, str]:
    status = cell(job.get("jobstatus"))
    return {
        "command": cell(job.get("cmd")),
        "state": {"0": "running", "1": "done", "2": "failed"}.get(status, status),
        "created": cell(job.get("created")),
        "completed": cell(job.get("completed")),
        "jobid": cell(job.get("jobid")),
    }


def _addresses(nic: Object) -> list[str]:
    """Every address of a NIC, its secondary ones too."""
    own = [str(nic[name]) for name in ("ipaddress", "ip6address") if nic.get(name)]
    return own + [str(secondary.get("ipaddress")) for secondary in nic.get("secondaryip") or ()]


_ROWS: dict[str, Callable[[Object], dict[str, str]]] = {
    "securitygroup": _group_row,
    "virtualmachine": _vm_row,
    "loadbalancerruleinstance": _vm_row,
    "nic": _nic_row,
    "asyncjobs": _job_row,
}


def _object_blocks(key: str, item: Object) -> list[Block]:
    """One object as fields; the lists in it that deserve it as tables below."""
    tables: list[Block] = []
    hidden = set()
    if key == "securitygroup":
        hidden = {"ingressrule", "egressrule"}
        tables = [
            _rule_table(item[name], egress=name == "egressrule")
            for name in ("ingressrule", "egressrule")
            if item.get(name)
        ]
    return [_fields({name: value for name, value in item.items() if name not in hidden}), *tables]


def _fields(item: Object) -> Fields:
    return Fields(tuple((name, cell(value)) for name, value in item.items() if value not in ([], {})))


def _rule_table(rules: Sequence[Object], *, egress: bool) -> Table:
    rows = [(traffic(rule), peer(rule), cell(rule.get("ruleid"))) for rule in sorted(rules, key=order)]
    title, who = ("egress rules", "to") if egress else ("ingress rules", "from")
    return Table(("allows", who, "ruleid"), tuple(rows), title=title)


def cell(value: Any) -> str:
    """Any value of an answer as text: objects in a list by their names, or by all they have, a line each."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return ", ".join(f"{name}={cell(inner)}" for name, inner in value.items() if inner not in ([], {}, None))
    if isinstance(value, list):
        separator = "\n" if any(isinstance(item, dict) for item in value) else ", "
        return separator.join(_brief(item) for item in value)
    return str(value)


def _brief(item: Any) -> str:
    """An object within another: a rule in words, a NIC by its addresses, others by their names or in full."""
    if not isinstance(item, dict):
        return cell(item)
    if "ruleid" in item:
        return f"{traffic(item)} {peer(item)} ({item['ruleid']})"
    if "macaddress" in item:
        return " ".join((str(item["macaddress"]), *_addresses(item), *([f"({item['id']})"] if "id" in item else [])))
    name = item.get("name") or item.get("username")
    return f"{name} ({item['id']})" if name and "id" in item else cell(item)
