# SPDX-License-Identifier: Apache-2.0
"""The options of sgctl-manager, with their defaults, and their values as one frozen `Settings`."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

from oslo_config import cfg

from sgctl.configfile import PROJECT, OptionError, check_keys, read
from sgctl.dbfile import Member
from sgctl.lookup import looked_up
from sgctl.protection import Protection, ProtectionError, protection
from sgctl.quotas import WHAT, Quotas, key
from sgctl.quotas import quotas as quotas_of
from sgctl.tls import Tls

PROGRAM = "sgctl-manager"
DEFAULT_APPS = ("sgctl.agent", "sgctl.api")
OFP_PORT = 6653
AGENT, API, DB = "sgctl.agent", "sgctl.api", "sgctl.db"

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
        help="Remotes of the SG database, such as tcp:10.0.0.1:6641,tcp:10.0.0.2:6641; names are looked up once. "
        "Without it, this process runs the database itself, as if the application sgctl.db were named.",
    ),
    cfg.StrOpt(
        "db-listen",
        default="",
        help="Where this process's database listens besides its own socket, for example ptcp:6641:10.0.0.1 "
        "or pssl:6641:10.0.0.1.",
    ),
    cfg.StrOpt(
        "db-listen-agents",
        default="",
        help="Where it listens to agents, for example pssl:6642:10.0.0.1: who connects there may only write "
        "its own Host and Handover rows (those with the certificate's name) and the binding of NICs.",
    ),
    cfg.StrOpt(
        "db-cluster-local",
        default="",
        help="Run a member of a database cluster, with this address for the other members: tcp:10.0.0.1:6643 or ssl:….",
    ),
    cfg.StrOpt(
        "db-cluster-join",
        default="",
        help="Such addresses of members of the cluster to join at the first start; without it, a new cluster begins.",
    ),
    cfg.StrOpt(
        "db-relay-of",
        default="",
        help="Run a relay of the database at these remotes, for agents to read from: tcp:10.0.0.1:6641,….",
    ),
    cfg.StrOpt("db-ssl-key", default="", help="File with the private key for ssl: and pssl: database connections."),
    cfg.StrOpt("db-ssl-cert", default="", help="File with its certificate; its name is who we are."),
    cfg.StrOpt("db-ssl-ca", default="", help="File with the certificate of the authority that signs the others'."),
    cfg.StrOpt("state-dir", default="/var/lib/sgctl", help="Directory of the database's files and of admin.ini."),
    cfg.HostAddressOpt("api-host", default="127.0.0.1", help="Address that the API listens on."),
    cfg.PortOpt("api-port", default=8080, help="Port that the API listens on."),
    cfg.StrOpt("api-cert", default="", help="File with the API's TLS certificate chain (default: plain HTTP)."),
    cfg.StrOpt("api-key", default="", help="File with the key of --api-cert, unless it is in the same file."),
    cfg.StrOpt(
        "api-seal-key",
        default="",
        help="File with the key that seals users' secret keys in the database, the same for all API servers; made if "
        "it is absent (default: not sealed).",
    ),
    *(
        cfg.IntOpt(key(name), default=getattr(Quotas(), name), min=0, help=f"{what} (0: any number).")
        for name, what in WHAT.items()
    ),
    cfg.IntOpt("job-keep", default=60, min=1, help="Minutes for which the API remembers finished jobs."),
    cfg.IntOpt(
        "host-timeout",
        default=60,
        min=20,
        help="Seconds of silence after which the API calls a host Down; in a large cloud three missed heartbeats, if "
        "they take longer.",
    ),
    cfg.PortOpt(
        "admin-port",
        default=8081,
        help="Port on 127.0.0.1 of /healthz, /readyz and /metrics, and of an agent's /admin.",
    ),
    cfg.StrOpt(
        "limit-connections",
        default="5000:10000",
        help="New connections per second, and at once, that each VM may open, and that others may open to it "
        "(RATE[:BURST], 0: no limit).",
    ),
    cfg.StrOpt(
        "limit-fragments",
        default="100:100",
        help="IP fragments per second, and at once, that each VM may send, and get from outside. The userspace "
        "datapath holds 1000 for all VMs together. What a VM tells its pod of shared addresses counts with those that "
        "it sends.",
    ),
    cfg.StrOpt(
        "limit-frames",
        default="10:10",
        help="Frames per second, and at once, of a port whose VM is about to arrive that are shown to the agent.",
    ),
    cfg.IntOpt(
        "ct-limit", default=1_000_000, min=0, max=0xFFFFFFFF, help="Most connections of the bridge (0: no limit)."
    ),
    cfg.StrOpt(
        "max-connections-per-nic",
        default="5%",
        help="Connections that each NIC may have opened, and as many from outside that it may have accepted, while "
        "more than half of --ct-limit is in use; the quota shrinks as the rest does (NUMBER, or NUMBER% of "
        "--ct-limit; 0: no quota).",
    ),
    cfg.DictOpt(
        "ct-timeouts",
        default={
            "tcp_syn_sent": "30", "tcp_established": "86400", "udp_first": "30", "udp_single": "60",
            "udp_multiple": "120", "icmp_first": "30", "icmp_reply": "30",
        },
        help="Seconds after which silent connections are forgotten, by the names of Open vSwitch's CT_Timeout_Policy "
        "(NAME:SECONDS,…; what is not named is as Open vSwitch has it).",
    ),
    cfg.IntOpt(
        "audit-interval",
        default=300,
        min=0,
        help="Seconds between comparisons of all flows with the desired ones (0: never).",
    ),
    cfg.BoolOpt(
        "remove-foreign-flows", default=False, help="Have audits remove flows of the bridge that are not sgctl's."
    ),
    cfg.BoolOpt("verbose", short="v", default=False, help="Log details."),
)
#: os-ken's options about switches that connect; os-ken would listen on all addresses.
SWITCH_OPTIONS = (
    cfg.StrOpt("ofp-listen-host", default="127.0.0.1", help="Address that the agent listens on for its switch."),
    cfg.PortOpt("ofp-tcp-listen-port", min=1, default=OFP_PORT, help="Port that it listens on."),
    cfg.PortOpt(
        "ofp-ssl-listen-port", min=1, default=OFP_PORT, help="Port that it listens on, given the next three options."
    ),
    cfg.StrOpt("ctl-privkey", help="File with its private key, for OpenFlow by TLS."),
    cfg.StrOpt("ctl-cert", help="File with its certificate."),
    cfg.StrOpt("ca-certs", help="File with the certificate of the authority that has signed the switch's."),
)
APPS = cfg.MultiStrOpt(
    "app",
    positional=True,
    default=list(DEFAULT_APPS),
    help=f"Modules of os-ken applications to run (default: {' '.join(DEFAULT_APPS)}).",
)

_ADDRESS = re.compile(r"(tcp|ssl):(\d+(\.\d+){3}|\[[0-9a-fA-F:.]+\]):\d+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of one process. rundir: run directory of the local switch.  controller: where it is to connect to.

    db_member, db_relay_of: what the database of this process is, if it `serves` one; stand-alone if neither.
    """

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
    ofp_tls: bool = False
    db_listen_agents: str = ""
    db_member: Member | None = None
    db_relay_of: str = ""
    db_tls: Tls | None = None
    api_cert: str = ""
    api_key: str = ""
    api_seal_key: str = ""
    job_keep: int = 60
    host_timeout: int = 60
    quotas: Quotas = field(default_factory=Quotas)
    verbose: bool = False
    protection: Protection = field(default_factory=Protection)

    @property
    def controller(self) -> str:
        """The bridge's controller target."""
        host = "127.0.0.1" if self.ofp_host in ("0.0.0.0", "::") else self.ofp_host
        kind = "ssl" if self.ofp_tls else "tcp"
        return f"{kind}:[{host}]:{self.ofp_port}" if ":" in host else f"{kind}:{host}:{self.ofp_port}"

    @property
    def serves(self) -> bool:
        """Whether this process runs a database server."""
        return not self.db or DB in self.apps


@dataclass(frozen=True, slots=True)
class Place:
    """Where the local switch's bridge is: part of `Settings`, for tools that need no more."""

    ovsdb_connection: str
    bridge: str
    rundir: Path


def with_default(option: cfg.Opt) -> cfg.Opt:
    """The option as --help shows it: with its default, and with no sign that argparse would replace."""
    value, text = default_text(option), option.help
    if value and option.default is not False and "(default" not in text:
        text = f"{text.removesuffix('.')} (default: {value})."
    shown = copy(option)
    shown.help = text.replace("%", "%%")
    return shown


def default_text(option: cfg.Opt) -> str:
    """The default as configuration files have it; empty if there is none."""
    default = option.default
    if isinstance(default, dict):
        return ",".join(f"{key}:{value}" for key, value in default.items())
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default in (None, "", []) else str(default)


def parse_place(program: str, actions: Sequence[str], arguments: Sequence[str]) -> tuple[str, Place]:
    """What to do with which bridge, by the command line and the manager's configuration files; raises OptionError."""
    conf = cfg.ConfigOpts()
    conf.register_cli_opts(with_default(option) for option in OPTIONS if option.name in ("ovsdb-connection", "bridge"))
    conf.register_cli_opt(cfg.StrOpt("action", positional=True, choices=list(actions), help="What to do."))
    read(conf, arguments, program, cfg.find_config_files(project=PROJECT, prog=PROGRAM))
    return conf.action, Place(conf.ovsdb_connection, conf.bridge, _rundir(conf.ovsdb_connection))


def parse(conf: cfg.ConfigOpts, arguments: Sequence[str]) -> Settings:
    """Read the command line and configuration files into `conf`, which may hold other options (os-ken's) already.

    Raises OptionError; --help and --version end the process, as a bad option does (with status 1).
    """
    conf.register_cli_opts(map(with_default, OPTIONS))
    conf.register_cli_opt(APPS)
    read(conf, arguments, PROGRAM)
    check_keys(conf)
    try:
        return _settings(conf)
    except (cfg.Error, ValueError, ProtectionError) as error:
        raise OptionError(str(error)) from error


def _settings(conf: cfg.ConfigOpts) -> Settings:
    ofp_tls = _tls("--ctl-privkey, --ctl-cert and --ca-certs", conf.ctl_privkey, conf.ctl_cert, conf.ca_certs)
    settings = Settings(
        host=conf.host or socket.gethostname(),
        ovsdb_connection=looked_up("--ovsdb-connection", conf.ovsdb_connection),
        bridge=conf.bridge,
        uplinks=tuple(dict.fromkeys(conf.uplink)),
        db=looked_up("--db", conf.db),
        db_listen=conf.db_listen,
        db_listen_agents=conf.db_listen_agents,
        db_member=_member(conf.db_cluster_local, conf.db_cluster_join),
        db_relay_of=looked_up("--db-relay-of", conf.db_relay_of),
        db_tls=_tls("--db-ssl-key, --db-ssl-cert and --db-ssl-ca", conf.db_ssl_key, conf.db_ssl_cert, conf.db_ssl_ca),
        state_dir=Path(conf.state_dir).absolute(),
        api_host=conf.api_host,
        api_port=conf.api_port,
        api_cert=conf.api_cert,
        api_key=conf.api_key,
        api_seal_key=conf.api_seal_key,
        job_keep=conf.job_keep,
        host_timeout=conf.host_timeout,
        quotas=quotas_of(conf),
        admin_port=conf.admin_port,
        apps=tuple(name for app in conf.app for name in app.split(",") if name) or DEFAULT_APPS,
        rundir=_rundir(conf.ovsdb_connection),
        ofp_host=conf.ofp_listen_host,
        ofp_port=conf.ofp_ssl_listen_port if ofp_tls else conf.ofp_tcp_listen_port,
        ofp_tls=ofp_tls is not None,
        verbose=conf.verbose,
        protection=protection(conf),
    )
    _check(settings)
    return settings


def _rundir(connection: str) -> Path:
    if "OVS_RUNDIR" in os.environ:
        return Path(os.environ["OVS_RUNDIR"])
    kind, _, rest = connection.partition(":")
    return Path(rest).parent if kind == "unix" else Path("/run/openvswitch")


def _member(local: str, join: str) -> Member | None:
    if not local:
        if join:
            raise OptionError("--db-cluster-join needs --db-cluster-local, this member's own address")
        return None
    member = Member(local=local, join=_split(join))
    for option, address in (("--db-cluster-local", local), *(("--db-cluster-join", one) for one in member.join)):
        if not _ADDRESS.fullmatch(address):
            raise OptionError(f"{option} {address}: must be tcp:IP:PORT or ssl:IP:PORT")
        if address.partition(":")[0] != local.partition(":")[0]:
            raise OptionError(f"{option} {address}: the members of a cluster all speak tcp: or all ssl:, as {local}")
    if local in member.join:
        raise OptionError(f"--db-cluster-join {local}: a member cannot join itself")
    return member


def _tls(options: str, key: str, cert: str, ca: str) -> Tls | None:
    if not any((key, cert, ca)):
        return None
    if not all((key, cert, ca)):
        raise OptionError(f"{options} go together")
    tls = Tls(key=key, cert=cert, ca=ca)
    tls.check()
    return tls


def _split(remotes: str) -> tuple[str, ...]:
    return tuple(filter(None, remotes.split(",")))


def _check(settings: Settings) -> None:
    if not settings.host.strip() or not settings.bridge.strip():
        raise OptionError("--host and --bridge must not be empty")
    if settings.api_key and not settings.api_cert:
        raise OptionError("--api-key needs --api-cert")
    if settings.bridge in settings.uplinks:
        raise OptionError(f"--uplink {settings.bridge}: a bridge is not its own uplink")
    _check_remotes(settings)
    _check_server(settings)


def _check_remotes(settings: Settings) -> None:
    kinds = {
        "--ovsdb-connection": (settings.ovsdb_connection, ("unix", "tcp", "ssl")),
        "--db": (settings.db, ("unix", "tcp", "ssl")),
        "--db-relay-of": (settings.db_relay_of, ("unix", "tcp", "ssl")),
        "--db-listen": (settings.db_listen, ("punix", "ptcp", "pssl")),
        "--db-listen-agents": (settings.db_listen_agents, ("pssl",)),
    }
    for option, (remotes, allowed) in kinds.items():
        for remote in _split(remotes):
            kind = remote.partition(":")[0]
            if kind not in allowed:
                raise OptionError(f"{option} {remote}: must start with {' or '.join(f'{one}:' for one in allowed)}")
            if kind.endswith("ssl") and settings.db_tls is None:
                raise OptionError(f"{option} {remote} needs --db-ssl-key, --db-ssl-cert and --db-ssl-ca")


def _check_server(settings: Settings) -> None:
    member, relay_of = settings.db_member, settings.db_relay_of
    used = {
        "--db-listen": settings.db_listen,
        "--db-listen-agents": settings.db_listen_agents,
        "--db-cluster-local": member,
        "--db-relay-of": relay_of,
    }
    if not settings.serves:
        for option in (option for option, value in used.items() if value):
            raise OptionError(f"{option} is for a database of this process: with --db it needs the application {DB}")
    if settings.db and not (member or relay_of) and DB in settings.apps:
        raise OptionError(f"--db with a stand-alone database in the same process ({DB}): leave out one of them")
    if member and relay_of:
        raise OptionError("--db-relay-of and --db-cluster-local exclude each other: a relay is no member")
    if relay_of and settings.db_listen_agents:
        raise OptionError("--db-listen-agents does not go with --db-relay-of: relays do not check what agents write")
    if member and member.local.startswith("ssl:") and settings.db_tls is None:
        raise OptionError(f"--db-cluster-local {member.local} needs --db-ssl-key, --db-ssl-cert and --db-ssl-ca")
    if (member or relay_of) and not settings.db and set(settings.apps) - {AGENT, DB}:
        raise OptionError("an API writes to the leader of a cluster, wherever it is: name all members with --db")
