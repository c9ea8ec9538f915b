# SPDX-License-Identifier: Apache-2.0
"""`sgctl help`: the commands of a verb, the parameters of a command."""

from sgctl.cli import admin, cloud
from sgctl.cli.arguments import parser
from sgctl.cli.blocks import Block, Table, Text
from sgctl.cli.catalogue import BUILT_IN, Catalogue, Command
from sgctl.cli.errors import CliError, UsageError
from sgctl.cli.session import Session

OWN = {
    "flows": "sgctl flows [--table NAME] [--host HOST]\n\nThe flows installed on a hypervisor: table, owner, rule.",
    "ports": (
        "sgctl ports [--host HOST]\nsgctl ports --all [key=value ...]\n\n"
        "The ports of a hypervisor: NIC, VM, account, addresses, state and reason.\n"
        "With --all those of the whole cloud, as the hypervisors have reported them (administrators only); keys: "
        f"{', '.join(cloud.KEYS['ports'])}.\nstate is up, closed, or unbound: no hypervisor has the port."
    ),
    "hosts": (
        "sgctl hosts [key=value ...]\n\nThe hypervisors: state, version, ports up and closed, last seen, and lag: how "
        "many barriers\n(`sgctl wait`, wait=true) its switch is behind; 0 is up to date. Keys: "
        f"{', '.join(cloud.KEYS['hosts'])}."
    ),
    "wait": (
        "sgctl wait [hosts=NAME,NAME] [securitygroupid=ID] [virtualmachineid=ID] [timeout=SECONDS]\n\nWaits until all "
        "that was changed before is active on the hypervisors, and names the slowest: on all of them, or\non those "
        "that are named, and that the group or the VM concerns. If some are behind after timeout (60), they\nare "
        "named, and the exit status is 1."
    ),
    "trace": (
        "sgctl trace key=value ... [--host HOST]\n\nA packet through a hypervisor's flows, in words. Keys: "
        f"{', '.join(admin.TRACE_KEYS)}.\nin_port is a port or `uplink`; proto tcp, udp, icmp, icmp6, sctp, arp, "
        "nd or a number;\nstate new (the default), established or reply."
    ),
    "explain": "sgctl explain COOKIE [--host HOST]\n\nWhat the flow with this cookie is there for.",
    "drops": "sgctl drops [--host HOST]\n\nWhy a hypervisor has dropped packets, and how many.",
    "costs": "sgctl costs [--host HOST]\n\nWhich policies, rules and groups take the most flows on a hypervisor.",
    "help": "sgctl help [VERB [NOUN]]\n\nWhat there is; the commands of a verb; the parameters of a command.",
    "completion": (
        "sgctl completion bash|zsh\n\nPrint a completion script. For bash: `source <(sgctl completion bash)` in "
        "~/.bashrc;\nfor zsh: `source <(sgctl completion zsh)` in ~/.zshrc, after compinit."
    ),
}
"""The commands that are not the API's."""

_UNTOLD = "Nothing more is known of it as long as the API cannot be asked."


def run(session: Session, words: tuple[str, ...]) -> None:
    """Show help on `words`."""
    if not words:
        session.out.write(parser().format_help())
        _write_verbs(session)
    elif words[0] in OWN:
        session.out.write(f"{OWN[words[0]]}\n")
    else:
        _help_on_api(session, words)


def _write_verbs(session: Session) -> None:
    verbs = ", ".join(_catalogue(session).verbs())
    session.out.write(f"\nverbs of the API (`sgctl help VERB` lists the nouns of one): {verbs}\n")


def _catalogue(session: Session) -> Catalogue:
    """The API's commands, as far as they can be known without it too."""
    try:
        return session.directory.current()
    except CliError:
        return _remembered(session)


def _remembered(session: Session) -> Catalogue:
    try:
        return session.directory.remembered()
    except CliError:
        return BUILT_IN


def _help_on_api(session: Session, words: tuple[str, ...]) -> None:
    catalogue = _catalogue(session)
    command = catalogue.find(words)
    if command is not None:
        session.show(_as_dict(command), lambda: _command_blocks(command))
    elif len(words) == 1 and (commands := catalogue.of_verb(words[0])):
        rows = tuple((other.spelling, _sentence(other.description)) for other in commands)
        session.show({"api": [_as_dict(other) for other in commands]}, lambda: [Table(("command", ""), rows)])
    elif (known := BUILT_IN.find(words)) is not None:
        raise CliError(f"the API does not offer {known.name} to this account")
    else:
        meant = " or ".join(f"`{other.spelling}`" for other in catalogue.similar(words))
        hint = f"did you mean {meant}?" if meant else "`sgctl help` lists the verbs"
        raise UsageError(f"there is no command `{' '.join(words)}`; {hint}")


def _sentence(text: str) -> str:
    """The first sentence of a description."""
    return text.partition(". ")[0].rstrip(".")


def _command_blocks(command: Command) -> list[Block]:
    waits = " It is a job, which is waited for." if command.isasync else ""
    title = f"sgctl {command.spelling} key=value ...    ({command.name})"
    described = f"{command.description.rstrip('.')}.{waits}" if command.description else _UNTOLD
    if not command.params:
        return [Text("\n\n".join(part for part in (title, described) if part))]
    params = sorted(command.params, key=lambda param: (not param.required, param.name))
    rows = tuple(
        (param.name, param.type, "required" if param.required else "", param.description) for param in params
    )
    return [
        Text("\n\n".join(part for part in (title, described) if part)),
        Table(("parameter", "type", "", "description"), rows),
    ]


def _as_dict(command: Command) -> dict[str, object]:
    return {
        "name": command.name,
        "command": command.spelling,
        "description": command.description,
        "isasync": command.isasync,
        "params": [
            {"name": p.name, "type": p.type, "required": p.required, "description": p.description}
            for p in command.params
        ],
    }
