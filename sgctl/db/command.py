# SPDX-License-Identifier: Apache-2.0
"""``sgctl-db``: what operators do to the database beside running it."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from sgctl.errors import SgctlError
from sgctl.tls import Tls

PROGRAM = "sgctl-db"
STATE = "/var/lib/sgctl"
DEFAULT_PKI = "/etc/sgctl/pki"
Options = argparse.Namespace


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if it was done, 1 if not."""
    # The `ovs` package imports eventlet, which says that it is deprecated.
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    options = _parser().parse_args(arguments)
    try:
        run: Callable[[Options], int] = options.run
        return run(options)
    except SgctlError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(PROGRAM, description="Look after the SG database.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('sgctl')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _remote_commands(commands)
    _member_commands(commands)
    _pki_commands(commands)
    return parser


def _remote_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--db",
        default=f"unix:{STATE}/sg.sock",
        help="remotes of the database, with commas between them (default: %(default)s)",
    )
    common.add_argument("--db-ssl-key", metavar="FILE", default="", help="private key, for ssl: remotes")
    common.add_argument("--db-ssl-cert", metavar="FILE", default="", help="its certificate")
    common.add_argument("--db-ssl-ca", metavar="FILE", default="", help="the authority's certificate")

    status = commands.add_parser("status", parents=[common], help="how each server is; status 1 if none can be written")
    status.add_argument("-o", "--output", choices=("table", "json"), default="table")
    status.set_defaults(run=_status)
    check = commands.add_parser(
        "check",
        parents=[common],
        help="name each row that contradicts others; status 1 if there are any",
        description="Name each row of the running database that contradicts others: members of groups whose NIC is "
        "not in the group, addresses that two NICs have, bindings to hosts that do not exist, and more. Status 1 if "
        "there are any. Nothing is changed.",
    )
    check.add_argument("-o", "--output", choices=("table", "json"), default="table")
    check.set_defaults(run=_check)
    backup = commands.add_parser("backup", parents=[common], help="copy the content of the running database to a file")
    backup.add_argument("file", type=Path)
    backup.add_argument("--force", action="store_true", help="overwrite the file")
    backup.set_defaults(run=_backup)
    restore = commands.add_parser(
        "restore",
        parents=[common],
        help="make the running database what it was",
        description="Make the running database what it was at a backup, in one transaction. What is reported rather "
        "than asked for is not touched: hosts, where NICs are, jobs. To begin a new database with a backup, copy it "
        "to STATE-DIR/sg.db before the first start (with --db-cluster-local it becomes a cluster's).",
    )
    restore.add_argument("file", type=Path)
    restore.set_defaults(run=_restore)
    convert = commands.add_parser(
        "convert",
        parents=[common],
        help="give the running database this program's schema",
        description="Give the running database this program's schema. A stand-alone one is converted by its "
        "sgctl-manager at the start; a cluster is by this command, when all its members run the new program.",
    )
    convert.set_defaults(run=_convert)


def _member_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--state-dir", type=Path, default=Path(STATE), help="its manager's (default: %(default)s)")
    member = commands.add_parser("member", parents=[common], help="the cluster as this machine's member sees it")
    member.set_defaults(run=_member)
    leave = commands.add_parser(
        "leave", parents=[common], help="take this machine's member out of its cluster for ever"
    )
    leave.set_defaults(run=_leave)
    kick = commands.add_parser("kick", parents=[common], help="take a dead member out of the cluster")
    kick.add_argument("server", help="its id or its address, as `sgctl-db member` shows them")
    kick.set_defaults(run=_kick)


def _pki_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    pki = commands.add_parser("pki", help="make certificates").add_subparsers(required=True, metavar="WHAT")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--dir", type=Path, default=Path(DEFAULT_PKI), help="where (default: %(default)s)")
    pki.add_parser("init", parents=[common], help="the authority that signs all others").set_defaults(run=_pki_init)
    host = pki.add_parser("host", parents=[common], help="for the agent of a hypervisor: may only be a client")
    host.add_argument("name", help="its --host")
    host.set_defaults(run=_pki_host)
    server = pki.add_parser("server", parents=[common], help="for a machine that serves the database or the API")
    server.add_argument("name")
    server.add_argument("address", nargs="*", help="IP addresses and further names by which clients know it")
    server.set_defaults(run=_pki_server)
    openflow = pki.add_parser("openflow", parents=[common], help="for OpenFlow between a switch and its agent")
    openflow.add_argument("name")
    openflow.set_defaults(run=_pki_openflow)


def _tls(options: Options) -> Tls | None:
    """Who we are; the `ovs` package is told, too."""
    given = options.db_ssl_key, options.db_ssl_cert, options.db_ssl_ca
    if not all(given):
        if any(given) or "ssl:" in options.db:
            raise SgctlError("ssl: remotes need --db-ssl-key, --db-ssl-cert and --db-ssl-ca")
        return None
    from sgctl.jsonrpc import identify

    tls = Tls(key=options.db_ssl_key, cert=options.db_ssl_cert, ca=options.db_ssl_ca)
    tls.check()
    identify(tls)
    return tls


def _status(options: Options) -> int:
    from sgctl.db.status import look, table, writable

    _tls(options)
    found = look(options.db)
    if options.output == "json":
        print(json.dumps([one.as_json() for one in found], indent=2))
    else:
        print(table(found))
    return 0 if writable(found) else 1


def _check(options: Options) -> int:
    from sgctl.db import check

    found = check.look(options.db, _tls(options))
    if options.output == "json":
        print(json.dumps([asdict(one) for one in found], indent=2))
    else:
        print("\n".join(map(str, found)) or "no row contradicts others")
    return 1 if found else 0


def _backup(options: Options) -> int:
    from sgctl.db import contents, status

    tls = _tls(options)
    contents.backup(status.reader(options.db), options.file, tls, force=options.force)
    print(options.file)
    return 0


def _restore(options: Options) -> int:
    from sgctl.db import contents, status

    _tls(options)
    count = contents.restore(status.leader(options.db), options.file)
    print(f"{count} rows restored" if count else "nothing to restore: the database is what it was")
    return 0


def _convert(options: Options) -> int:
    from sgctl.db import contents, status

    tls = _tls(options)
    done = contents.convert(status.leader(options.db), tls)
    print("converted" if done else "the database has this program's schema already")
    return 0


def _member(options: Options) -> int:
    from sgctl.db import status

    print(status.control(options.state_dir, "cluster/status"))
    return 0


def _leave(options: Options) -> int:
    from sgctl.db import status

    print(status.control(options.state_dir, "cluster/leave") or "leaves; `sgctl-db member` says when it has left")
    return 0


def _kick(options: Options) -> int:
    from sgctl.db import status

    print(status.kick(options.state_dir, options.server) or "asked to go")
    return 0


def _pki_init(options: Options) -> int:
    from sgctl.db import pki

    print(pki.init(options.dir))
    return 0


def _pki_host(options: Options) -> int:
    from sgctl.db import pki

    return _show(pki.host(options.dir, options.name))


def _pki_server(options: Options) -> int:
    from sgctl.db import pki

    return _show(pki.server(options.dir, options.name, options.address))


def _show(tls: Tls) -> int:
    print(f"--db-ssl-key={tls.key} --db-ssl-cert={tls.cert} --db-ssl-ca={tls.ca}")
    return 0


def _pki_openflow(options: Options) -> int:
    from sgctl.db import pki

    tls = pki.openflow(options.dir, options.name)
    print(f"for sgctl-manager: --ctl-privkey={tls.key} --ctl-cert={tls.cert} --ca-certs={tls.ca}")
    print(f"for the switch:    ovs-vsctl set-ssl {tls.key} {tls.cert} {tls.ca}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
