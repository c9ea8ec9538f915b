# SPDX-License-Identifier: Apache-2.0
"""The main job, shown: ``python -m devstack.demo``.

A small cloud, two tenants and an operator; who can reach whom, expected and seen; the rule that lets monitoring in,
typed into the command line; and its revocation, with a connection open. Exit status 0 only if everything was as
expected.
"""

import sys
import time
from dataclasses import dataclass, field

from rich.console import Console

from devstack.lab.agent import Stream
from devstack.lab.example import AGENT_PORT, MISSION_RULE, Example, build
from devstack.lab.matrix import LEGEND, matrix
from devstack.lab.namespace import Lab
from devstack.lab.network import Network

LONGEST_GAP = 1.0
"""Seconds without an answer that an open connection may have while rules change."""


@dataclass(slots=True)
class Demo:
    """Tells what happens on `console` and keeps what went wrong."""

    console: Console
    started: float = field(default_factory=time.monotonic)
    cells: int = 0
    wrong: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """One line of progress."""
        self.console.print(f"[dim]{time.monotonic() - self.started:5.1f} s[/]  {text}", highlight=False, soft_wrap=True)

    def expect(self, what: str, right: bool) -> None:
        """One statement that must be true."""
        self.cells += 1
        self.say(f"{'[green]yes[/]' if right else '[bold red]NO[/] '}  {what}")
        if not right:
            self.wrong.append(what)

    def look(self, title: str, network: Network) -> None:
        """Try every cell and print the matrix."""
        seen = network.look()
        self.cells += len(seen)
        self.wrong += [str(one) for one in seen if not one.agrees]
        self.console.print(matrix(title, seen))

    def type(self, example: Example, account: str, line: str) -> None:
        """A command line, literally, with what it answers."""
        self.say(f"{account} types:")
        self.console.print(f"\n  $ {line}\n", style="bold", highlight=False, soft_wrap=True)
        done = example.cloud.accounts[account].type(line)
        self.console.print((done.stdout + done.stderr).strip(), markup=False, highlight=False)
        self.expect("the command succeeds", done.returncode == 0)

    def run(self, lab: Lab) -> None:
        """The whole story."""
        example = build(lab, self.say)
        self.console.print(LEGEND)
        self.look(
            "Before: nobody reaches the monitoring agents",
            Network(list(example.cells(services=(AGENT_PORT,), monitored=False))),
        )
        self.type(example, "shop", MISSION_RULE)
        self.look("With the rule: nagios and cacti do, and nobody else", Network(list(example.cells(monitored=True))))
        self.revoke(example)
        self.resolvers(example)

    def revoke(self, example: Example) -> None:
        """Take the rule away while connections that it admitted are open."""
        web = example.vm("web1")
        streams = {
            f"{name} ({where})": example.vm(name).stream("tcp", web.address(version), 12489)
            for name, where, version in (("nagios1", "other hypervisor and pod", 4), ("cacti1", "same hypervisor", 6))
        }
        self.say("connections to web1 are open, sending every 10 ms: " + ", ".join(streams))
        rules = example.cloud.accounts["shop"].all("listSecurityGroups", "securitygroup", securitygroupname="web")
        ids = [rule["ruleid"] for rule in rules[0]["ingressrule"] if rule.get("startport") == 12489]
        for rule in ids:
            self.type(example, "shop", f"sgctl revoke securitygroupingress id={rule}")
        self.look(
            "Revoked: new connections are blocked again",
            Network(list(example.cells(services=(AGENT_PORT,), monitored=False))),
        )
        for name, stream in streams.items():
            self.survived(name, stream)

    def survived(self, name: str, stream: Stream) -> None:
        """The open connection still answers, and never stopped for long."""
        before = stream.report()
        time.sleep(0.3)
        after = stream.stop()
        alive = after.received > before.received and not after.error
        self.expect(
            f"the open connection of {name} goes on: {after.received} answers to {after.sent} messages, "
            f"longest gap {after.gap * 1000:.0f} ms",
            alive and after.gap < LONGEST_GAP,
        )

    def resolvers(self, example: Example) -> None:
        """DNS is always there, whatever the groups say."""
        for number, name, other in ((1, "db1", "web2"), (2, "nagios1", "web1")):
            server = f"10.{number}.0.2"
            right = example.vm(name).resolve(server, other) == [example.vm(other).address()]
            self.expect(f"{name} asks its pod's resolver {server} for {other}'s address", right)


def main() -> int:
    """Run it; the exit status."""
    demo = Demo(Console())
    with Lab() as lab:
        demo.run(lab)
        demo.say("removing everything")
    for line in demo.wrong:
        demo.console.print(line, style="red", markup=False, highlight=False)
    if demo.wrong:
        demo.say(f"[bold red]{len(demo.wrong)} of {demo.cells} observations are not as expected[/]")
        return 1
    demo.say(f"[bold green]all {demo.cells} observations are as expected[/]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
