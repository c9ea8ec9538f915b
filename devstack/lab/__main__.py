# SPDX-License-Identifier: Apache-2.0
"""``python -m devstack.lab up | down | status | exec NAME [COMMAND …] | as ACCOUNT COMMAND …``."""

import argparse
import os
from pathlib import Path
from typing import NoReturn

from devstack.lab.api import PROGRAMS
from devstack.lab.example import MISSION_RULE
from devstack.lab.namespace import ROOT
from devstack.lab.resident import Description, Resident

IN_A_VM = """
hostname "$NAME"
if [ -e /etc/resolv.conf ]; then
    printf 'nameserver %s\\nsearch lab\\n' "$RESOLVER" >"$RESOLV_CONF"
    mount --bind "$RESOLV_CONF" /etc/resolv.conf
fi
exec "$@"
"""
"""Gives a command in a VM the VM's host name and resolver; both are private to it."""

GUIDE = """
The lab is up: {vms}; hypervisors hv1 and hv2.

Enter a VM, or run something in it:
  {lab} exec nagios1
  {lab} exec nagios1 nc -zvw1 web1 80         (the shop's web servers are open to all)
  {lab} exec nagios1 nc -zvw1 web1 12489      (their monitoring agents to nobody, yet)
  {lab} exec nagios1 ping -c1 -W1 db1         (the database answers web servers only, on tcp/5432)

Let monitoring in, as the tenant who owns the web servers:
  {lab} as shop {rule}
  {lab} exec nagios1 nc -zvw1 web1 12489
  {lab} as shop sgctl list securitygroups securitygroupname=web

Look at a hypervisor:
  {lab} exec hv1 sgctl ports
  {lab} exec hv1 sgctl flows table=INGRESS_RULES
  {lab} exec hv1 sgctl drops

Accounts for `as`: {accounts}. `{lab} status` lists all addresses; `make lab-down` removes everything.
"""


def guide(directory: Path, description: Description) -> str:
    """What to try, with this lab's addresses."""
    command = directory / "lab"
    shown = command.relative_to(Path.cwd()) if command.is_relative_to(Path.cwd()) else command
    return GUIDE.format(
        lab=shown, vms=", ".join(description.addresses), rule=MISSION_RULE, accounts=", ".join(description.environments)
    )


def status(description: Description) -> str:
    """Every place one can enter, with its addresses."""
    lines = [f"{name:<10} {' '.join(description.addresses.get(name, []))}" for name in description.namespaces]
    return "\n".join(line.rstrip() for line in lines)


def enter(resident: Resident, description: Description, name: str, command: list[str]) -> NoReturn:
    """Become `command` (a shell if there is none) in the namespace called `name`."""
    if name not in description.namespaces:
        raise SystemExit(f"there is no {name}; there are {', '.join(description.namespaces)}")
    command = command or ["bash", "--norc", "-i"]
    environment = {**os.environ, "PS1": f"[{name}] \\w\\$ ", "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
    argv = ["nsenter", f"--net={description.namespaces[name]}", "--"]
    if name in description.resolvers:
        environment |= {
            "NAME": name, "RESOLVER": description.resolvers[name],
            "RESOLV_CONF": str(resident.directory / f"resolv.{name}"),
        }  # fmt: skip
        argv += ["unshare", "--mount", "--uts", "--", "sh", "-c", IN_A_VM, "sh"]
    os.execvpe("nsenter", [*argv, *command], environment)


def act(description: Description, account: str, command: list[str]) -> NoReturn:
    """Become `command` at the desk, with the keys of `account`."""
    if account not in description.environments:
        raise SystemExit(f"there is no account {account}; there are {', '.join(description.environments)}")
    environment = {**os.environ, **description.environments[account]}
    os.execvpe("nsenter", ["nsenter", f"--net={description.namespaces['desk']}", "--", *command], environment)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="devstack.lab", description="A small cloud of network namespaces.")
    parser.add_argument("--directory", type=Path, default=ROOT / ".lab", help="where the lab's state is (.lab)")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("up", help="build it and leave it running")
    verbs.add_parser("down", help="remove it")
    verbs.add_parser("status", help="list what there is to enter")
    verbs.add_parser("hold", help="build it and stay (what `up` starts)")
    execute = verbs.add_parser("exec", help="run a command, or a shell, in a VM or on a hypervisor")
    execute.add_argument("name")
    execute.add_argument("command", nargs=argparse.REMAINDER)
    acting = verbs.add_parser("as", help="run a command with an account's keys")
    acting.add_argument("account")
    acting.add_argument("command", nargs=argparse.REMAINDER)
    return parser.parse_args()


def main() -> None:
    """Do what the command line says."""
    chosen = arguments()
    resident = Resident(chosen.directory)
    if chosen.verb == "hold":
        resident.hold()
    elif chosen.verb == "up":
        print(guide(resident.directory, resident.start(lambda text: print(f"  {text}", flush=True))))
    elif chosen.verb == "down":
        print("the lab is gone" if resident.stop() else "no lab is running")
    else:
        description = resident.description()
        if description is None:
            raise SystemExit("no lab is running: `make lab` builds one")
        if chosen.verb == "status":
            print(status(description))
        elif chosen.verb == "exec":
            enter(resident, description, chosen.name, chosen.command)
        else:
            act(description, chosen.account, chosen.command or ["bash", "--norc", "-i"])


if __name__ == "__main__":
    main()
