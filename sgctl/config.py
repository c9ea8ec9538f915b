# SPDX-License-Identifier: Apache-2.0
"""The options of sgctl-manager, with their defaults, and their values as one frozen `Settings`."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from oslo_config import cfg

from sgctl.errors import SgctlError

PROJECT = "sgctl"
PROGRAM = "sgctl-manager"
DEFAULT_APPS = ("sgctl.agent", "sgctl.api")
OFP_PORT = 6653

OPTIONS = (
    cfg.StrOpt("host", help="Name of this hypervisor in the cloud (default: this machine's host name)."),
    cfg.StrOpt(
        "ovsdb-connection",
        default="unix:/run/openvswitch/db.sock",
        help="The local switch's database: unix:PATH or tcp:ADDRESS:PORT.",
    ),
    cfg.StrOpt("bridge", default="br-int", help="The bridge that VMs are plugged into."),
    cfg.MultiStrOpt(
        "uplink",
        default=[],
        help="An interface of the bridge that leads to the physical network; repeatable, VMs' frames leave by the "
        "first. Interfaces with external_ids:sgctl-role=uplink are uplinks too.",
    ),
    cfg.StrOpt(
        "db",
        default="",
        help="Remotes of the SG database, such as tcp:10.0.0.1:6641,tcp:10.0.0.2:6641. "
        "Without it, an ovsdb-server on a file in the state directory is started.",
    ),
    cfg.StrOpt(
        "db-listen",
        default="",
        help="Where the started ovsdb-server listens besides its own socket, for example ptcp:6641:127.0.0.1.",
    ),
    cfg.StrOpt("state-dir", default="/var/lib/sgctl", help="Directory of the embedded database and of admin.ini."),
    cfg.HostAddressOpt("api-host", default="127.0.0.1", help="Address that the API listens on."),
    cfg.PortOpt("api-port", default=8080, help="Port that the API listens on."),
    cfg.StrOpt("api-cert", default="", help="File with the API's TLS certificate chain (default: plain HTTP)."),
    cfg.StrOpt("api-key", default="", help="File with the key of --api-cert, unless it is in the same file."),
    cfg.IntOpt("job-keep", default=60, min=1, help="Minutes for which the API remembers finished jobs."),
    cfg.PortOpt("admin-port", default=8081, help="Port on 127.0.0.1 of the agent's /admin endpoint and metrics."),
    cfg.BoolOpt("verbose", short="v", default=False, help="Log details."),
)
APPS = cfg.MultiStrOpt(
    "app",
    positional=True,
    default=list(DEFAULT_APPS),
    help=f"Modules of os-ken applications to run (default: {' '.join(DEFAULT_APPS)}).",
)


class OptionError(SgctlError):
    """An option that cannot be right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of one process. rundir: run directory of the local switch.  controller: where it is to connect to."""

    host: str
    ovsdb_connection: str
    bridge: str
    uplinks: tuple[str, ...]
    db: str
    db_listen: str
    state_dir: Path
    api_host: str
    api_port: int
    admin_port: int
    apps: tuple[str, ...]
    rundir: Path
    ofp_host: str
    ofp_port: int
    api_cert: str = ""
    api_key: str = ""
    job_keep: int = 60
    verbose: bool = False

    @property
    def controller(self) -> str:
        """The bridge's controller target."""
        host = "127.0.0.1" if self.ofp_host in ("0.0.0.0", "::") else self.ofp_host
        return f"tcp:[{host}]:{self.ofp_port}" if ":" in host else f"tcp:{host}:{self.ofp_port}"


def parse(conf: cfg.ConfigOpts, arguments: Sequence[str]) -> Settings:
    """Read the command line and configuration files into `conf`, which may hold other options (os-ken's) already.

    Raises OptionError; --help and --version end the process, as a bad option does (with status 1).
    """
    conf.register_cli_opts(OPTIONS)
    conf.register_cli_opt(APPS)
    try:
        conf(args=list(arguments), project=PROJECT, prog=PROGRAM, version=version(PROJECT))
        return _settings(conf)
    except (cfg.Error, ValueError) as error:
        raise OptionError(str(error)) from error


def _settings(conf: cfg.ConfigOpts) -> Settings:
    settings = Settings(
        host=conf.host or socket.gethostname(),
        ovsdb_connection=conf.ovsdb_connection,
        bridge=conf.bridge,
        uplinks=tuple(dict.fromkeys(conf.uplink)),
        db=conf.db,
        db_listen=conf.db_listen,
        state_dir=Path(conf.state_dir).absolute(),
        api_host=conf.api_host,
        api_port=conf.api_port,
        api_cert=conf.api_cert,
        api_key=conf.api_key,
        job_keep=conf.job_keep,
        admin_port=conf.admin_port,
        apps=tuple(name for app in conf.app for name in app.split(",") if name) or DEFAULT_APPS,
        rundir=_rundir(conf.ovsdb_connection),
        ofp_host=conf.ofp_listen_host,
        ofp_port=conf.ofp_tcp_listen_port or OFP_PORT,
        verbose=conf.verbose,
    )
    _check(settings)
    return settings


def _rundir(connection: str) -> Path:
    if "OVS_RUNDIR" in os.environ:
        return Path(os.environ["OVS_RUNDIR"])
    kind, _, rest = connection.partition(":")
    return Path(rest).parent if kind == "unix" else Path("/run/openvswitch")


def _check(settings: Settings) -> None:
    if settings.db and settings.db_listen:
        raise OptionError("--db-listen is for the embedded database: it does not go with --db")
    if settings.ovsdb_connection.partition(":")[0] not in ("unix", "tcp", "ssl"):
        raise OptionError(f"--ovsdb-connection {settings.ovsdb_connection}: must start with unix:, tcp: or ssl:")
    for remote in filter(None, settings.db.split(",")):
        if remote.partition(":")[0] not in ("unix", "tcp", "ssl"):
            raise OptionError(f"--db {remote}: must start with unix:, tcp: or ssl:")
    if not settings.host.strip() or not settings.bridge.strip():
        raise OptionError("--host and --bridge must not be empty")
    if settings.api_key and not settings.api_cert:
        raise OptionError("--api-key needs --api-cert")
    if settings.bridge in settings.uplinks:
        raise OptionError(f"--uplink {settings.bridge}: a bridge is not its own uplink")
